// What autograd functions over our CPU kernels share.
#pragma once
#include <torch/csrc/autograd/custom_function.h>

#include "guard.h"
#include "kernels.h"

namespace ft {

// Calls body with the kernels and a pointer type that fit the tensor's element type.
template <typename K, typename F>
void by_type(const at::Tensor& tensor, const K& kernels, F&& body) {
  if (tensor.scalar_type() == at::kFloat)
    body(kernels.f32, static_cast<float*>(nullptr));
  else if (tensor.scalar_type() == at::kBFloat16)
    body(kernels.bf16, static_cast<bfloat16*>(nullptr));
  else
    TORCH_CHECK(false, "fused operators take float32 or bfloat16, not ", tensor.scalar_type());
}

template <typename P>
P* data(const at::Tensor& tensor, P*) {
  return tensor.defined() ? static_cast<P*>(tensor.data_ptr()) : nullptr;
}

inline float* floats(const at::Tensor& tensor) { return tensor.data_ptr<float>(); }

inline void check_cpu(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous(), name, " must be contiguous and on the CPU");
}

}  // namespace ft
