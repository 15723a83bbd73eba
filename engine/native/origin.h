// What the input of a layer was made of, so that backward makes it again rather than keep it.
#pragma once
#define AT_PER_OPERATOR_HEADERS
#include <ATen/ops/empty.h>

#include "autograd.h"

namespace ft {

// silu(gate) * up of x [rows, 2 * width].
inline at::Tensor swiglu(const at::Tensor& x) {
  check_cpu(x, "x");
  TORCH_CHECK(x.dim() == 2 && x.size(1) % 2 == 0, "x must be [rows, 2 * width]");
  at::Tensor out = at::empty({x.size(0), x.size(1) / 2}, x.options());
  by_type(x, decoder_kernels(),
          [&](auto& kernel, auto* type) { kernel.swiglu(data(x, type), data(out, type), x.size(0), out.size(1)); });
  return out;
}

// The norm of sum [rows, width], which is float32, in a type of its own.
inline at::Tensor rms_norm(const at::Tensor& sum, const at::Tensor& weight, double offset, double eps, at::ScalarType type) {
  check_cpu(sum, "sum");
  at::Tensor low = at::empty(sum.sizes(), sum.options().dtype(type)), rstd = at::empty({sum.size(0)}, sum.options());
  by_type(low, decoder_kernels(), [&](auto& kernel, auto* pointer) {
    kernel.add_rms_norm(data(at::Tensor(), pointer), floats(sum), floats(weight), float(offset), float(eps),
                        static_cast<float*>(nullptr), floats(rstd), data(low, pointer), sum.size(0), sum.size(1));
  });
  return low;
}

// A tensor that is there whatever becomes of the input, and how that is made of it.
struct Origin {
  enum Way : int64_t { itself = 0, swiglu = 1, rms_norm = 2 };

  int64_t way = itself;
  at::Tensor source, weight;
  double offset = 0, eps = 0;

  at::Tensor made(at::ScalarType type) const {
    if (way == swiglu) return ft::swiglu(source);
    if (way == rms_norm) return ft::rms_norm(source, weight, offset, eps, type);
    return source;
  }
};

}  // namespace ft
