// What tch does not bind of libtorch's global state: threads, determinism, device memory.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <stdexcept>

#include "guard.h"

static void (*quit_handler)() = nullptr;
static pthread_t quit_thread;

extern "C" {

int ft_set_threads(int threads) {
  return ft::guard([&] {
    at::set_num_threads(threads);
    at::globalContext().setFlushDenormal(true);
  });
}

// `deterministic`: an operator that has only algorithms whose results vary fails. `tf32`: factors of float32 products may be rounded
// to ten bits, which libtorch lets cuDNN do unless told otherwise.
int ft_set_arithmetic(int deterministic, int tf32) {
  return ft::guard([&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
    // Filling every new tensor would cost a pass over memory; no operator here reads what it has not written.
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(deterministic);
    context.setDeterministicMkldnn(deterministic);
    context.setBenchmarkCuDNN(!deterministic);
    context.setAllowTF32CuDNN(tf32);
    context.setAllowTF32CuBLAS(tf32);
  });
}

// Drops the gradients of leaves, so the next backward pass stores its own instead of adding to them.
int ft_clear_grads(TensorPtr* tensors, int64_t count) {
  return ft::guard([&] {
    for (int64_t i = 0; i < count; i++) tensors[i]->mutable_grad().reset();
  });
}

[[noreturn]] void ft_leave(int status) { _exit(status); }

// Runs a handler on the thread that called this, whichever thread the signal is delivered to, and ends the process
// after it, with the status by which shells tell of the signal.
int ft_on_quit(void (*handler)()) {
  return ft::guard([&] {
    quit_handler = handler;
    quit_thread = pthread_self();
    struct sigaction action {};
    action.sa_handler = [](int signal) {
      if (pthread_equal(pthread_self(), quit_thread)) {
        quit_handler();
        _exit(128 + signal);
      } else {
        pthread_kill(quit_thread, signal);
      }
    };
    // A system call that was interrupted goes on.
    action.sa_flags = SA_RESTART;
    if (sigaction(SIGQUIT, &action, nullptr) != 0) throw std::runtime_error("sigaction failed");
  });
}

int ft_device_memory(int index, int64_t* total) {
  return ft::guard([&] { *total = int64_t(at::accelerator::getMemoryInfo(index).second); });
}

// Bytes of device memory held by tensors at most so far.
int ft_peak_device_memory(int64_t* peak) {
  return ft::guard([&] { *peak = at::accelerator::getDeviceStats(0).allocated_bytes[0].peak; });
}

}  // extern "C"
