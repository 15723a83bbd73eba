// See nf4.h. On the CPU by loops, elsewhere by libtorch's operators.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/stack.h>

#include "nf4.h"

#include "constants.h"
#include "dynamic_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

using at::Tensor;

namespace {

using ft::NF4_BLOCK;
using ft::NF4_SCALES;

// The quantiles of a normal distribution that the paper's appendix E lists.
constexpr std::array<float, 16> NF4 = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

const ft::DynamicMap& scale_map() {
  static const ft::DynamicMap map = ft::dynamic_map(true);
  return map;
}

// The place of the number nearest to x; of two equally near the lower one.
template <size_t N>
uint8_t nearest(const std::array<float, N>& numbers, float x) {
  const auto above = std::lower_bound(numbers.begin(), numbers.end(), x);
  if (above == numbers.begin()) return 0;
  if (above == numbers.end()) return uint8_t(N - 1);
  const auto below = above - 1;
  return uint8_t((std::fabs(x - *below) <= std::fabs(*above - x) ? below : above) - numbers.begin());
}

int64_t blocks_of(int64_t values) { return (values + NF4_BLOCK - 1) / NF4_BLOCK; }

// What a part is stored as.
struct Part {
  Tensor packed, codes, scales;
  double offset;
};

// Scales of blocks, quantised: those of one group share a scale, after the mean of all is taken off.
Part with_scales(const Tensor& packed, const std::vector<float>& absmax) {
  const int64_t blocks = int64_t(absmax.size()), groups = (blocks + NF4_SCALES - 1) / NF4_SCALES;
  double sum = 0;
  for (float scale : absmax) sum += scale;
  const float offset = float(sum / double(blocks));
  const Part part{packed, at::empty({blocks}, at::kByte), at::empty({groups}, at::kFloat), offset};
  for (int64_t group = 0; group < groups; group++) {
    const int64_t start = group * NF4_SCALES, end = std::min(blocks, start + NF4_SCALES);
    float largest = 0;
    for (int64_t i = start; i < end; i++) largest = std::max(largest, std::fabs(absmax[i] - offset));
    part.scales.data_ptr<float>()[group] = largest;
    for (int64_t i = start; i < end; i++) {
      const float scaled = largest > 0 ? (absmax[i] - offset) / largest : 0.0f;
      part.codes.data_ptr<uint8_t>()[i] = nearest(scale_map(), scaled);
    }
  }
  return part;
}

Part quantized(const Tensor& matrix) {
  TORCH_CHECK(matrix.device().is_cpu() && matrix.scalar_type() == at::kFloat && matrix.is_contiguous() && matrix.dim() == 2,
              "what is quantised must be a float32 matrix on the CPU");
  const int64_t values = matrix.numel(), blocks = blocks_of(values);
  const float* from = matrix.data_ptr<float>();
  std::vector<float> absmax(size_t(blocks), 0.0f);
  Tensor packed = at::empty({(values + 1) / 2}, at::kByte);
  uint8_t* to = packed.data_ptr<uint8_t>();
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    const int64_t start = block * NF4_BLOCK, end = std::min(values, start + NF4_BLOCK);
    float largest = 0;
    for (int64_t i = start; i < end; i++) largest = std::max(largest, std::fabs(from[i]));
    absmax[size_t(block)] = largest;
    const auto code = [&](int64_t i) {
      return nearest(NF4, i < end && largest > 0 ? from[i] / largest : 0.0f);
    };
    for (int64_t i = start; i < end; i += 2) to[i / 2] = uint8_t(code(i) << 4 | code(i + 1));
  }
  return with_scales(packed, absmax);
}

template <typename T>
void read_on_cpu(const Part& part, T* to, int64_t values) {
  const uint8_t *packed = part.packed.data_ptr<uint8_t>(), *codes = part.codes.data_ptr<uint8_t>();
  const float* scales = part.scales.data_ptr<float>();
  const auto& map = scale_map();
  const float offset = float(part.offset);
  const int64_t blocks = blocks_of(values);
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    const float scale = map[codes[block]] * scales[block / NF4_SCALES] + offset;
    T scaled[16];
    for (size_t i = 0; i < 16; i++) scaled[i] = T(NF4[i] * scale);
    const int64_t start = block * NF4_BLOCK, end = std::min(values, start + NF4_BLOCK);
    for (int64_t i = start; i + 1 < end; i += 2) {
      to[i] = scaled[packed[i / 2] >> 4];
      to[i + 1] = scaled[packed[i / 2] & 15];
    }
    if (end % 2) to[end - 1] = scaled[packed[end / 2] >> 4];
  }
}

template <size_t N>
Tensor on(const std::array<float, N>& numbers, const Tensor& like) {
  return ft::constants_on(numbers.data(), N, like.device());
}

Tensor read_elsewhere(const Part& part, int64_t values) {
  const Tensor places = at::stack({at::bitwise_right_shift(part.packed, 4), at::bitwise_and(part.packed, 15)}, 1);
  const int64_t blocks = blocks_of(values);
  Tensor found = at::index_select(on(NF4, part.packed), 0, places.flatten().to(at::kInt)).narrow(0, 0, values);
  Tensor scales = at::index_select(on(scale_map(), part.codes), 0, part.codes.to(at::kInt));
  scales = scales.mul(part.scales.repeat_interleave(NF4_SCALES).narrow(0, 0, blocks)).add(part.offset);
  return found.mul(scales.repeat_interleave(NF4_BLOCK).narrow(0, 0, values));
}

}  // namespace

Tensor ft::Nf4::dense(at::ScalarType type) const {
  TORCH_CHECK(!rows.empty(), "a matrix has at least one part");
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16, "matrices are read in float32 or bfloat16");
  Tensor out = at::empty({std::accumulate(rows.begin(), rows.end(), int64_t(0)), columns}, pieces[0].options().dtype(type));
  int64_t start = 0;
  for (size_t i = 0; i < rows.size(); i++) {
    const Part part{pieces[3 * i], pieces[3 * i + 1], pieces[3 * i + 2], offsets[i]};
    const int64_t values = rows[i] * columns;
    TORCH_CHECK(part.packed.numel() == (values + 1) / 2 && part.codes.numel() == blocks_of(values), "a part is of another size");
    if (!out.device().is_cpu())
      out.narrow(0, start, rows[i]).copy_(read_elsewhere(part, values).view({rows[i], columns}));
    else if (type == at::kFloat)
      read_on_cpu(part, out.data_ptr<float>() + start * columns, values);
    else
      read_on_cpu(part, out.data_ptr<at::BFloat16>() + start * columns, values);
    start += rows[i];
  }
  return out;
}

extern "C" {

// The matrix as packed values, codes of scales, and scales of those: out has three places.
int ft_nf4_quantize(TensorPtr* out, double* offset, TensorPtr matrix) {
  return ft::guard([&] {
    const Part part = quantized(*matrix);
    *offset = part.offset;
    out[0] = new Tensor(part.packed);
    out[1] = new Tensor(part.codes);
    out[2] = new Tensor(part.scales);
  });
}

// pieces has three tensors for each part.
int ft_nf4_dense(TensorPtr* out, const TensorPtr* pieces, const double* offsets, const int64_t* rows, int64_t count,
                 int64_t columns, int low) {
  return ft::guard([&] {
    *out = new Tensor(ft::Nf4::of(pieces, offsets, rows, count, columns).dense(low ? at::kBFloat16 : at::kFloat));
  });
}

}  // extern "C"
