// Where a run's time goes: operators of libtorch, functions of its backward pass, and our own, by the time that they spend in
// themselves.
#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "guard.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Frame {
  Clock::time_point start;
  // Seconds of what it called.
  double within = 0;
};

struct Spent {
  double seconds = 0;
  int64_t calls = 0;
};

// What runs on this thread, outermost first.
thread_local std::vector<Frame> running;

std::mutex mutex;
std::map<std::string, Spent> spent;
std::string table;

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction&) {
  running.push_back({Clock::now()});
  return nullptr;
}

void end(const at::RecordFunction& function, at::ObserverContext*) {
  if (running.empty()) return;
  const Frame frame = running.back();
  running.pop_back();
  const double seconds = std::chrono::duration<double>(Clock::now() - frame.start).count();
  if (!running.empty()) running.back().within += seconds;
  const std::lock_guard<std::mutex> lock(mutex);
  Spent& own = spent[function.name()];
  own.seconds += seconds - frame.within;
  own.calls++;
}

}  // namespace

extern "C" {

// From here on all threads count, until the process ends.
int ft_profile_begin() {
  return ft::guard([] { at::addGlobalCallback(at::RecordFunctionCallback(begin, end)); });
}

// What was counted so far: lines of seconds, calls and a name, separated by tabs, the most seconds first. The text lives until the
// next call.
const char* ft_profile_text() {
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<std::pair<std::string, Spent>> all(spent.begin(), spent.end());
  std::sort(all.begin(), all.end(), [](const auto& one, const auto& other) { return one.second.seconds > other.second.seconds; });
  table.clear();
  for (const auto& [name, own] : all) {
    table += std::to_string(own.seconds) + "\t" + std::to_string(own.calls) + "\t" + name + "\n";
  }
  return table.c_str();
}

}  // extern "C"
