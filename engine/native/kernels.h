// The CPU kernels behind the fused operators of ops.cpp: plain C++ over raw pointers, no libtorch in sight.
// kernels.cpp and decoder.cpp are compiled once per instruction set; kernels() and decoder_kernels() give the best ones
// that this processor has.
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

// What a decoder's attention is over: `query` heads in groups that share `key_value` heads, all `head_size` wide.
// A token sees itself and those before it in its sequence that are at most `reach` away.
struct CausalShape {
  Sequences sequences;
  int64_t query, key_value, head_size, reach;
  float scale;
};

// The kernels of decoders; types as above.
template <typename T>
struct DecoderKernels {
  // sum = residual + x (x may be null); low = sum / rms(sum) * (offset + weight), where rms has eps in it. rstd takes
  // one over it, row by row.
  void (*add_rms_norm)(const T* x, const float* residual, const float* weight, float offset, float eps, float* sum,
                       float* rstd, T* low, int64_t rows, int64_t width);
  // grad and grad_low are the gradients of the two outputs (either may be null); grad_x and grad_weight, where not
  // null, are overwritten.
  void (*add_rms_norm_backward)(const float* grad, const T* grad_low, const float* sum, const float* rstd,
                                const float* weight, float offset, T* grad_x, float* grad_residual,
                                float* grad_weight, int64_t rows, int64_t width);
  // x: [rows, 2, width], a gate and what it lets through: out = silu(gate) * up.
  void (*swiglu)(const T* x, T* out, int64_t rows, int64_t width);
  void (*swiglu_backward)(const T* x, const T* grad, T* grad_x, int64_t rows, int64_t width);
  // qkv: [tokens, query + 2 * key_value, head_size]; cosine and sine: [tokens, head_size / 2], by which queries and keys
  // are turned (null: not at all); out: [tokens, query, head_size]; lse: [tokens, query], the logarithm of each
  // softmax's denominator.
  void (*causal_attention)(const T* qkv, const float* cosine, const float* sine, T* out, float* lse, CausalShape);
  void (*causal_attention_backward)(const T* qkv, const float* cosine, const float* sine, const T* out,
                                    const float* lse, const T* grad_out, T* grad_qkv, CausalShape);
  // logits: [rows, words], which become softmax(logits) less one at the target: the gradient of the loss.
  void (*cross_entropy)(T* logits, const int64_t* targets, float* losses, int64_t* right, int64_t rows, int64_t words);
};

struct Kernels {
  const char* isa;
  TypedKernels<float> f32;
  TypedKernels<bfloat16> bf16;
};

struct AllDecoderKernels {
  DecoderKernels<float> f32;
  DecoderKernels<bfloat16> bf16;
};

const Kernels& kernels();
const AllDecoderKernels& decoder_kernels();

}  // namespace ft
