// Matrices in 4-bit NormalFloat with scales that are quantised again (Dettmers et al. 2023, arXiv:2305.14314), as bitsandbytes
// stores and reads them.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace ft {

// Values that share a scale, and scales that share one of their own.
constexpr int64_t NF4_BLOCK = 64, NF4_SCALES = 256;

// Rows of a matrix, which were quantised by themselves.
struct Nf4Part {
  // Two values a byte, the first in its upper half: uint8 [ceil(values / 2)].
  at::Tensor packed;
  // Scales of blocks as places in a map of 256 numbers, uint8 [blocks]; what those are multiplied by, float32 [ceil(blocks / 256)];
  // and what is added to them.
  at::Tensor codes, scales;
  double offset;
  int64_t rows;
};

// The whole matrix [rows, columns].
at::Tensor nf4_dense(const std::vector<Nf4Part>& parts, int64_t columns, at::ScalarType type);

}  // namespace ft
