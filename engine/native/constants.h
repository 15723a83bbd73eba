// Tables of numbers that operators look up.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <map>
#include <mutex>
#include <utility>

namespace ft {

// `count` floats that live as long as the program, as a tensor on `device`: copied there once, since a copy of what the host may
// page out waits for the device.
inline at::Tensor constants_on(const float* values, int64_t count, at::Device device) {
  static std::mutex mutex;
  // Never destroyed: at the program's end the device's memory may be gone before it.
  static auto& copies = *new std::map<std::pair<const float*, int>, at::Tensor>;
  const std::lock_guard<std::mutex> lock(mutex);
  at::Tensor& copy = copies[{values, device.is_cpu() ? -1 : int(device.index())}];
  if (!copy.defined()) copy = at::from_blob(const_cast<float*>(values), {count}, at::kFloat).to(device);
  return copy;
}

}  // namespace ft
