// The scalars of one AdamW update, laid out as AdamWScalars in native/adamw.rs.
#pragma once
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cstdint>

namespace ft {

struct AdamWScalars {
  double learning_rate, beta1, beta2, eps;
  // Counts from 1.
  int64_t step;
  // 0 is no clipping.
  double max_norm;

  // What gradients of this joint norm are multiplied by: on the host, or where the norm lies.
  double clip(double norm) const { return max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0; }
  at::Tensor clip(const at::Tensor& norm) const {
    return max_norm > 0 ? (norm.add(1e-6).reciprocal() * max_norm).clamp_max(1.0) : at::full({}, 1.0, norm.options());
  }
};

}  // namespace ft
