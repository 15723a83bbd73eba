// Matrices in 4-bit NormalFloat with scales that are quantised again (Dettmers et al. 2023, arXiv:2305.14314), as bitsandbytes
// stores and reads them.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "guard.h"

namespace ft {

// Values that share a scale, and scales that share one of their own.
constexpr int64_t NF4_BLOCK = 64, NF4_SCALES = 256;

// A matrix whose parts lie one below the other, each quantised by itself.
struct Nf4 {
  // Of each part three: two values a byte, the first in its upper half, uint8 [ceil(values / 2)]; scales of blocks as places in
  // a map of 256 numbers, uint8 [blocks]; and what those are multiplied by, float32 [ceil(blocks / 256)].
  std::vector<at::Tensor> pieces;
  // What is added to the scales of a part, and its rows.
  std::vector<double> offsets;
  std::vector<int64_t> rows;
  int64_t columns = 0;

  // From lists with `count` parts.
  static Nf4 of(const TensorPtr* pieces, const double* offsets, const int64_t* rows, int64_t count, int64_t columns) {
    Nf4 matrix{{}, {offsets, offsets + count}, {rows, rows + count}, columns};
    for (int64_t i = 0; i < 3 * count; i++) matrix.pieces.push_back(*pieces[i]);
    return matrix;
  }

  // The values [rows, columns] in float32 or bfloat16.
  at::Tensor dense(at::ScalarType type) const;
};

}  // namespace ft
