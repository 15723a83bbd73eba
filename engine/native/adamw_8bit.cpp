// AdamW whose moments are kept in eight bits, in blocks of 256 values with a scale each (Dettmers et al. 2021,
// arXiv:2110.02861): as torchao's AdamW8bit counts, and torch.optim.AdamW but for the rounding of the moments. torchao lets no
// scale fall below 1e-12, which second moments of large models do; here, as in bitsandbytes, a scale is what it is. On the CPU by
// one loop, elsewhere by libtorch's operators, which read nothing back to the host.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/TensorOperators.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/where.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "adamw.h"
#include "constants.h"
#include "dynamic_map.h"
#include "guard.h"
#include "kernels.h"

using at::Tensor;

namespace {

constexpr int64_t BLOCK = 256;
// What is divided by in the place of zero.
constexpr float LEAST = 1e-37f;
// Blocks that operators do at once: what they make on the way takes some hundred megabytes.
constexpr int64_t CHUNK = 1 << 15;

// The numbers of a map, and the place of the nearest one: of two equally near the upper.
struct Codes {
  ft::DynamicMap numbers;
  // Halfway between a number and the next; behind the last there is none.
  std::array<float, 256> middles;
  // By the upper half of a float: the place of the smallest float with that half, from which the right one is not far.
  std::vector<uint8_t> places;

  explicit Codes(bool is_signed) : numbers(ft::dynamic_map(is_signed)), places(1 << 16) {
    for (size_t i = 0; i < 255; i++) middles[i] = numbers[i] + (numbers[i + 1] - numbers[i]) * 0.5f;
    middles[255] = INFINITY;
    for (uint32_t half = 0; half < 1 << 16; half++) {
      const bool is_negative = half >> 15;
      const float smallest = as_float(half << 16 | (is_negative ? 0xffff : 0));
      places[half] = std::isnan(smallest) ? 0 : search(smallest);
    }
  }

  static float as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }

  uint8_t search(float x) const {
    return uint8_t(std::upper_bound(middles.begin(), middles.end() - 1, x) - middles.begin());
  }

  uint8_t nearest(float x) const {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    uint8_t place = places[bits >> 16];
    while (x >= middles[place]) place++;
    return place;
  }
};

const Codes& of_first() {
  static const Codes codes(true);
  return codes;
}

const Codes& of_second() {
  static const Codes codes(false);
  return codes;
}

// A moment: uint8 [blocks * BLOCK], and float32 [blocks].
struct Moment {
  Tensor codes, scales;
};

struct Update {
  // The gradient has these shares in the moments.
  float learning_rate, share1, share2, eps, weight_decay, correction1, root_correction2;
};

template <typename Gradient>
void on_cpu(const Tensor& parameter, const Gradient* grad, float scale, const Moment& first, const Moment& second,
            const Update& h) {
  float* p = parameter.data_ptr<float>();
  auto *codes1 = first.codes.data_ptr<uint8_t>(), *codes2 = second.codes.data_ptr<uint8_t>();
  auto *scales1 = first.scales.data_ptr<float>(), *scales2 = second.scales.data_ptr<float>();
  const int64_t count = parameter.numel(), blocks = first.scales.numel();
  const Codes &of1 = of_first(), &of2 = of_second();
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    const int64_t start = block * BLOCK, size = std::min(BLOCK, count - start);
    float m[BLOCK], v[BLOCK], largest1 = 0, largest2 = 0;
    for (int64_t i = 0; i < size; i++) {
      const float g = float(grad[start + i]) * scale;
      m[i] = of1.numbers[codes1[start + i]] * scales1[block];
      v[i] = of2.numbers[codes2[start + i]] * scales2[block];
      m[i] += (g - m[i]) * h.share1;
      v[i] += (g * g - v[i]) * h.share2;
      largest1 = std::max(largest1, std::fabs(m[i]));
      largest2 = std::max(largest2, v[i]);
    }
    for (int64_t i = 0; i < size; i++) {
      const float decayed = p[start + i] * (1 - h.learning_rate * h.weight_decay);
      p[start + i] = decayed - h.learning_rate * (m[i] / h.correction1) / (std::sqrt(v[i]) / h.root_correction2 + h.eps);
    }
    const float least1 = std::max(largest1, LEAST), least2 = std::max(largest2, LEAST);
    for (int64_t i = 0; i < size; i++) {
      codes1[start + i] = of1.nearest(m[i] / least1);
      codes2[start + i] = of2.nearest(v[i] / least2);
    }
    scales1[block] = largest1;
    scales2[block] = largest2;
  }
}

// What a moment was, with its part of the gradient.
Tensor moved(const Moment& moment, const Tensor& numbers, const Tensor& toward, float share) {
  const Tensor was = numbers.index_select(0, moment.codes.to(at::kInt)).view({-1, BLOCK}) * moment.scales.unsqueeze(1);
  return was.lerp_(toward, share);
}

// Replaces a moment, but where `halted` is true.
void keep(const Moment& moment, const Tensor& values, const Tensor& middles, const Tensor& halted) {
  const Tensor largest = values.abs().amax(1);
  const Tensor scaled = values / largest.clamp_min(LEAST).unsqueeze(1);
  const Tensor codes = at::bucketize(scaled, middles, true, true).view({-1}).to(at::kByte);
  moment.codes.copy_(at::where(halted, moment.codes, codes));
  moment.scales.copy_(at::where(halted, moment.scales, largest));
}

void by_operators(const Tensor& parameter, const Tensor& grad, const Tensor& scale, const Tensor& halted, const Moment& first,
                  const Moment& second, const Update& h) {
  const auto numbers = [&](const Codes& codes) { return ft::constants_on(codes.numbers.data(), 256, parameter.device()); };
  const auto middles = [&](const Codes& codes) { return ft::constants_on(codes.middles.data(), 255, parameter.device()); };
  const Tensor numbers1 = numbers(of_first()), middles1 = middles(of_first());
  const Tensor numbers2 = numbers(of_second()), middles2 = middles(of_second());
  const Tensor values = parameter.view({-1}), gradient = grad.view({-1});
  const int64_t count = values.numel(), blocks = first.scales.numel();
  for (int64_t block = 0; block < blocks; block += CHUNK) {
    const int64_t some = std::min(CHUNK, blocks - block), start = block * BLOCK, size = std::min(some * BLOCK, count - start);
    const auto part = [&](const Moment& whole) {
      return Moment{whole.codes.narrow(0, start, some * BLOCK), whole.scales.narrow(0, block, some)};
    };
    const Tensor scaled = gradient.narrow(0, start, size).to(at::kFloat) * scale;
    const Tensor g = at::constant_pad_nd(scaled, {0, some * BLOCK - size}).view({some, BLOCK});
    const Tensor m = moved(part(first), numbers1, g, h.share1), v = moved(part(second), numbers2, g * g, h.share2);
    const Tensor root = (v.sqrt() / h.root_correction2).add_(h.eps);
    const Tensor step = (m / h.correction1).div_(root).view({-1}).narrow(0, 0, size);
    const Tensor old = values.narrow(0, start, size);
    const Tensor updated = (old * (1 - h.learning_rate * h.weight_decay)).sub_(step, h.learning_rate);
    old.copy_(at::where(halted, old, updated));
    keep(part(first), m, middles1, halted);
    keep(part(second), v, middles2, halted);
  }
}

void check(const Tensor& parameter, const Tensor& grad, const Moment& moment) {
  TORCH_CHECK(parameter.is_contiguous() && grad.is_contiguous(), "parameter and gradient must be contiguous");
  TORCH_CHECK(parameter.numel() == grad.numel(), "a gradient has another size than its parameter");
  const int64_t blocks = (parameter.numel() + BLOCK - 1) / BLOCK;
  TORCH_CHECK(moment.codes.scalar_type() == at::kByte && moment.codes.numel() == blocks * BLOCK &&
                  moment.scales.scalar_type() == at::kFloat && moment.scales.numel() == blocks,
              "a moment is not that of its parameter");
}

}  // namespace

extern "C" {

// One AdamW step as ft_adamw does it, of one parameter. `moments` are the codes and scales of the first and of the second; `low`
// (or null) takes the new parameter in bfloat16.
int ft_adamw_8bit(TensorPtr parameter, TensorPtr grad, TensorPtr* moments, TensorPtr low, double weight_decay, TensorPtr norm,
                  TensorPtr halted, const ft::AdamWScalars* scalars, int by_operator) {
  return ft::guard([&] {
    const Moment first{*moments[0], *moments[1]}, second{*moments[2], *moments[3]};
    check(*parameter, *grad, first);
    check(*parameter, *grad, second);
    const auto [learning_rate, beta1, beta2, eps, step, max_norm] = *scalars;
    const Update h = {float(learning_rate), float(1 - beta1), float(1 - beta2), float(eps), float(weight_decay),
                      float(1 - std::pow(beta1, double(step))), float(std::sqrt(1 - std::pow(beta2, double(step))))};
    if (parameter->device().is_cpu() && !by_operator) {
      if (halted->item<float>() != 0) return;
      const float scale = float(scalars->clip(norm->item<double>()));
      if (grad->scalar_type() == at::kFloat) {
        on_cpu(*parameter, grad->data_ptr<float>(), scale, first, second, h);
      } else {
        TORCH_CHECK(grad->scalar_type() == at::kBFloat16, "gradients are float32 or bfloat16");
        on_cpu(*parameter, grad->data_ptr<at::BFloat16>(), scale, first, second, h);
      }
    } else {
      by_operators(*parameter, *grad, scalars->clip(*norm), *halted != 0, first, second, h);
    }
    if (low) low->copy_(*parameter);
  });
}

}  // extern "C"
