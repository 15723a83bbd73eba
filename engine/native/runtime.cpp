// What tch does not bind of libtorch's global state: threads, determinism, device memory.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>

#include "guard.h"

extern "C" {

int ft_set_threads(int threads) {
  return ft::guard([&] {
    at::set_num_threads(threads);
    at::globalContext().setFlushDenormal(true);
  });
}

int ft_set_deterministic(int on) {
  return ft::guard([&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(on, /*warn_only=*/true);
    // Filling every new tensor would cost a pass over memory; no operator here reads what it has not written.
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(on);
    context.setDeterministicMkldnn(on);
    context.setBenchmarkCuDNN(!on);
  });
}

// Drops the gradients of leaves, so the next backward pass stores its own instead of adding to them.
int ft_clear_grads(TensorPtr* tensors, int64_t count) {
  return ft::guard([&] {
    for (int64_t i = 0; i < count; i++) tensors[i]->mutable_grad().reset();
  });
}

// Bytes of device memory: held by tensors at most so far, and total on the device.
int ft_peak_device_memory(int64_t* peak) {
  return ft::guard([&] { *peak = at::accelerator::getDeviceStats(0).allocated_bytes[0].peak; });
}

}  // extern "C"
