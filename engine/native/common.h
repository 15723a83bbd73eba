// What the kernels of one instruction set share. FT_ISA names the namespace (build.rs compiles one per instruction set).
// The loops are written so that the compiler vectorises them: no branches inside, unit strides, `omp simd`.
// Everything has internal linkage, and no standard template is used: the linker would otherwise be free to give the
// copy compiled for one instruction set to code that runs on a processor without it.
#pragma once
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace ft::FT_ISA {
namespace {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Zeroed floats for the life of a scope.
class Buffer {
 public:
  explicit Buffer(int64_t count) : floats_(static_cast<float*>(std::calloc(size_t(count > 0 ? count : 1), sizeof(float)))) {
    if (!floats_) std::abort();
  }
  ~Buffer() { std::free(floats_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* data() { return floats_; }
  float& operator[](int64_t i) { return floats_[i]; }

 private:
  float* floats_;
};

inline void fill(float* to, int64_t count, float value) {
  for (int64_t i = 0; i < count; i++) to[i] = value;
}

// ---- scalars ---------------------------------------------------------------------------------------------

inline float load(float value) { return value; }
inline float load(bfloat16 value) {
  uint32_t bits = uint32_t(value) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

inline void store(float value, float& out) { out = value; }
// Round to nearest even, as PyTorch does; a NaN stays a NaN.
inline void store(float value, bfloat16& out) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out = value != value ? bfloat16(0x7fc0) : bfloat16(rounded);
}

// exp(x) for x <= 0 to about 1 ulp (Cephes' polynomial after reduction by ln 2); 0 below the smallest normal.
inline float exp_nonpositive(float x) {
  float clamped = x < -87.0f ? -87.0f : x;
  float n = __builtin_nearbyintf(clamped * 1.44269504088896341f);
  float r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  float poly = 1.9875691500e-4f;
  poly = poly * r + 1.3981999507e-3f;
  poly = poly * r + 8.3334519073e-3f;
  poly = poly * r + 4.1665795894e-2f;
  poly = poly * r + 1.6666665459e-1f;
  poly = poly * r + 5.0000001201e-1f;
  float value = poly * r * r + r + 1.0f;
  int32_t exponent = (int32_t(n) + 127) << 23;
  float power;
  std::memcpy(&power, &exponent, sizeof power);
  return x < -87.0f ? 0.0f : value * power;
}

// Rows are handled in chunks of this many, whatever the number of threads, so sums over rows are always added in
// the same order.
constexpr int64_t ROW_CHUNK = 32;
// Below this many elements a parallel region costs more than it saves.
constexpr int64_t PARALLEL_ELEMENTS = 16384;

// ---- matrix products of small matrices in float ----------------------------------------------------------------

// As many floats as one register holds.
#if defined(__AVX512F__)
constexpr int64_t LANES = 16;
#elif defined(__AVX__)
constexpr int64_t LANES = 8;
#else
constexpr int64_t LANES = 4;
#endif
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

inline int64_t padded(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// A matrix in float; element (row, column) lies at row * row_stride + column * column_stride.
struct Matrix {
  const float* data;
  int64_t row_stride, column_stride;
  float at(int64_t row, int64_t column) const { return data[row * row_stride + column * column_stride]; }
};

// ROWS rows of c = factor * a b, or of c += that, starting at row `i`: b and c are row-major with whole lanes.
template <int ROWS, bool ADDS>
inline void matmul_rows(const Matrix& a, const float* b, int64_t b_stride, float* c, int64_t c_stride, int64_t i,
                        int64_t columns, int64_t inner, float factor) {
  for (int64_t j = 0; j < columns; j += LANES) {
    Lanes sum[ROWS] = {};
    for (int64_t k = 0; k < inner; k++) {
      Lanes right;
      __builtin_memcpy(&right, b + k * b_stride + j, sizeof right);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; r++) sum[r] += a.at(i + r, k) * right;
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      sum[r] *= factor;
      float* to = c + (i + r) * c_stride + j;
      if (ADDS) {
        Lanes before;
        __builtin_memcpy(&before, to, sizeof before);
        sum[r] += before;
      }
      __builtin_memcpy(to, &sum[r], sizeof(Lanes));
    }
  }
}

// c[rows, columns] = factor * a[rows, inner] b[inner, columns], or += that; columns are a multiple of LANES.
template <bool ADDS = false>
inline void matmul(const Matrix& a, const float* b, int64_t b_stride, float* c, int64_t c_stride, int64_t rows,
                   int64_t columns, int64_t inner, float factor) {
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8) matmul_rows<8, ADDS>(a, b, b_stride, c, c_stride, i, columns, inner, factor);
  for (; i + 2 <= rows; i += 2) matmul_rows<2, ADDS>(a, b, b_stride, c, c_stride, i, columns, inner, factor);
  for (; i < rows; i++) matmul_rows<1, ADDS>(a, b, b_stride, c, c_stride, i, columns, inner, factor);
}

}  // namespace
}  // namespace ft::FT_ISA
