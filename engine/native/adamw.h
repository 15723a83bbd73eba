// The scalars of one AdamW update, laid out as AdamWScalars in native/adamw.rs.
#pragma once
#include <cstdint>

namespace ft {

struct AdamWScalars {
  double learning_rate, beta1, beta2, eps;
  // Counts from 1.
  int64_t step;
  // 0 is no clipping.
  double max_norm;
};

}  // namespace ft
