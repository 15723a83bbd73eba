// The kernels of decoders; see kernels.h.
#include "causal_attention.h"
#include "common.h"

namespace ft::FT_ISA {
namespace {

// ---- norm ----------------------------------------------------------------------------------------------------

template <typename T>
void add_rms_norm(const T* x, const float* residual, const float* weight, float offset, float eps, float* sum,
                  float* rstd, T* low, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
  for (int64_t row = 0; row < rows; row++) {
    const float* rr = residual + row * width;
    float* sr = sum + row * width;
    float squares = 0;
    if (x) {
      const T* xr = x + row * width;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; i++) {
        sr[i] = rr[i] + load(xr[i]);
        squares += sr[i] * sr[i];
      }
    } else {
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; i++) squares += rr[i] * rr[i];
    }
    const float* values = x ? sr : rr;
    const float r = 1.0f / __builtin_sqrtf(squares / float(width) + eps);
    rstd[row] = r;
    T* lr = low + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) store(values[i] * r * (offset + weight[i]), lr[i]);
  }
}

template <typename T>
void add_rms_norm_backward(const float* grad, const T* grad_low, const float* sum, const float* rstd,
                           const float* weight, float offset, T* grad_x, float* grad_residual, float* grad_weight,
                           int64_t rows, int64_t width) {
  const int64_t chunks = (rows + ROW_CHUNK - 1) / ROW_CHUNK;
  Buffer partial(grad_weight ? chunks * width : 0);
#pragma omp parallel if (rows * width > PARALLEL_ELEMENTS)
  {
    Buffer g(width);
#pragma omp for schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      const int64_t end = least(rows, (chunk + 1) * ROW_CHUNK);
      for (int64_t row = chunk * ROW_CHUNK; row < end; row++) {
        const float* sr = sum + row * width;
        float* gr = grad_residual + row * width;
        const float r = rstd[row];
        float dot = 0;
        fill(g.data(), width, 0.0f);
        if (grad_low) {
          const T* lr = grad_low + row * width;
          if (grad_weight) {
            float* pw = partial.data() + chunk * width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) pw[i] += load(lr[i]) * sr[i] * r;
          }
#pragma omp simd reduction(+ : dot)
          for (int64_t i = 0; i < width; i++) {
            g[i] = load(lr[i]) * (offset + weight[i]);
            dot += g[i] * sr[i];
          }
        }
        const float along = dot * r * r / float(width);
        const float* upper = grad ? grad + row * width : nullptr;
        if (upper) {
#pragma omp simd
          for (int64_t i = 0; i < width; i++) gr[i] = upper[i] + r * (g[i] - sr[i] * along);
        } else {
#pragma omp simd
          for (int64_t i = 0; i < width; i++) gr[i] = r * (g[i] - sr[i] * along);
        }
        if (grad_x) {
          T* gx = grad_x + row * width;
#pragma omp simd
          for (int64_t i = 0; i < width; i++) store(gr[i], gx[i]);
        }
      }
    }
  }
  if (!grad_weight) return;
  fill(grad_weight, width, 0.0f);
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    const float* pw = partial.data() + chunk * width;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) grad_weight[i] += pw[i];
  }
}

// ---- gated feed-forward network --------------------------------------------------------------------------------

inline float sigmoid(float x) {
  const float e = exp_nonpositive(x < 0 ? x : -x);
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

template <typename T>
void swiglu(const T* x, T* out, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
  for (int64_t row = 0; row < rows; row++) {
    const T* gate = x + row * 2 * width;
    const T* up = gate + width;
    T* to = out + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
      const float g = load(gate[i]);
      store(g * sigmoid(g) * load(up[i]), to[i]);
    }
  }
}

template <typename T>
void swiglu_backward(const T* x, const T* grad, T* grad_x, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
  for (int64_t row = 0; row < rows; row++) {
    const T* gate = x + row * 2 * width;
    const T* up = gate + width;
    const T* from = grad + row * width;
    T* grad_gate = grad_x + row * 2 * width;
    T* grad_up = grad_gate + width;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
      const float g = load(gate[i]), s = sigmoid(g), d = load(from[i]);
      store(d * load(up[i]) * s * (1.0f + g * (1.0f - s)), grad_gate[i]);
      store(d * g * s, grad_up[i]);
    }
  }
}

// ---- loss --------------------------------------------------------------------------------------------------------

template <typename T>
void cross_entropy(T* logits, const int64_t* targets, float* losses, int64_t* right, int64_t rows, int64_t words) {
#pragma omp parallel for schedule(static) if (rows * words > PARALLEL_ELEMENTS)
  for (int64_t row = 0; row < rows; row++) {
    T* l = logits + row * words;
    float top = load(l[0]), total = 0;
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < words; i++) {
      const float value = load(l[i]);
      top = value > top ? value : top;
    }
    const float wanted = load(l[targets[row]]);
    // Of equal ones the first is the guess, as in argmax.
    int64_t guess = 0;
    while (guess < words - 1 && load(l[guess]) != top) guess++;
    right[row] = guess == targets[row];
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < words; i++) total += exp_nonpositive(load(l[i]) - top);
    const float denominator = top + __builtin_logf(total), inverse = 1.0f / total;
    losses[row] = denominator - wanted;
#pragma omp simd
    for (int64_t i = 0; i < words; i++) store(exp_nonpositive(load(l[i]) - top) * inverse, l[i]);
    store(exp_nonpositive(wanted - denominator) - 1.0f, l[targets[row]]);
  }
}

template <typename T>
constexpr DecoderKernels<T> typed() {
  return {add_rms_norm<T>,     add_rms_norm_backward<T>,     swiglu<T>,       swiglu_backward<T>,
          causal_attention<T>, causal_attention_backward<T>, cross_entropy<T>};
}

}  // namespace

extern const AllDecoderKernels decoder_table;
const AllDecoderKernels decoder_table = {typed<float>(), typed<bfloat16>()};

}  // namespace ft::FT_ISA
