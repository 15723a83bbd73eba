// The CPU kernels behind the fused operators of ops.cpp: plain C++ over raw pointers, no libtorch in sight.
// kernels.cpp is compiled once per instruction set; kernels() picks the best one this processor has.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ft {

// How many sequences lie end to end, and where each starts: offsets has count + 1 entries.
struct Sequences {
  const int32_t* offsets;
  int64_t count;
  int64_t longest;
};

struct AttentionShape {
  Sequences sequences;
  int64_t heads;
  int64_t head_size;
  float scale;
};

// Inverted dropout with probability p; the mask is a function of (key, element), so backward draws it again.
struct Dropout {
  float p;
  uint64_t key;
};

struct AdamW {
  float learning_rate, beta1, beta2, eps, weight_decay;
  float bias_correction1, bias_correction2_sqrt;
  float gradient_scale;
};

// T is float or bfloat16 (as its 16 bits) for activations; sums and statistics are always float.
template <typename T>
struct TypedKernels {
  // out[t] = x[t] * mask / (1 - p) over rows of `width`.
  void (*dropout)(const T* x, T* out, int64_t rows, int64_t width, Dropout);
  // sum = residual + dropout(x); out = layer_norm(sum) * weight + bias; `low` takes out in T unless null.
  void (*add_norm)(const T* x, const float* residual, const float* weight, const float* bias, float eps, float* sum,
                   float* mean, float* rstd, float* out, T* low, int64_t rows, int64_t width, Dropout);
  // grad and grad_low are the gradients of the two outputs of add_norm (either may be null). grad_weight and
  // grad_bias are overwritten.
  void (*add_norm_backward)(const float* grad, const T* grad_low, const float* sum, const float* mean,
                            const float* rstd, const float* weight, T* grad_x, float* grad_residual,
                            float* grad_weight, float* grad_bias, int64_t rows, int64_t width, Dropout);
  // qkv: [tokens, 3, heads, head_size]; out: [tokens, heads, head_size]. Bidirectional within each sequence.
  void (*attention)(const T* qkv, T* out, AttentionShape, Dropout);
  void (*attention_backward)(const T* qkv, const T* grad_out, T* grad_qkv, AttentionShape, Dropout);
  // One AdamW update of `count` elements from a gradient in T; `low` takes the new parameter in T unless null.
  void (*adamw)(float* parameter, float* moment1, float* moment2, const T* grad, T* low, int64_t count, AdamW);
  // The sum of squares of a gradient, accumulated in double over fixed blocks, so it does not depend on threads.
  double (*square_sum)(const T* grad, int64_t count);
};

using bfloat16 = uint16_t;

struct Kernels {
  const char* isa;
  TypedKernels<float> f32;
  TypedKernels<bfloat16> bf16;
};

const Kernels& kernels();

}  // namespace ft
