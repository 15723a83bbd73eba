// The kernels of encoders and of the optimizer; see kernels.h.
#include "common.h"

namespace ft::FT_ISA {
namespace {

// ---- random masks ----------------------------------------------------------------------------------------

constexpr int64_t MASK_BLOCK = 64;

inline int64_t mask_blocks(int64_t width) { return (width + MASK_BLOCK - 1) / MASK_BLOCK; }

inline uint32_t rotate(uint32_t x, int by) { return (x << by) | (x >> (32 - by)); }

// Threefry2x32-20 (Salmon et al., SC 2011) for 16 consecutive counters. Additions, rotations and exclusive ors alone,
// so it vectorises on every instruction set.
inline void threefry_block(uint64_t key, uint64_t block, uint32_t* x0, uint32_t* x1) {
  constexpr int ROTATIONS[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  const uint32_t k[3] = {uint32_t(key), uint32_t(key >> 32), 0x1BD11BDAu ^ uint32_t(key) ^ uint32_t(key >> 32)};
#pragma omp simd
  for (int l = 0; l < 16; l++) {
    const uint64_t counter = block * 16 + uint64_t(l);
    uint32_t a = uint32_t(counter) + k[0], b = uint32_t(counter >> 32) + k[1];
#pragma GCC unroll 20
    for (int round = 0; round < 20; round++) {
      a += b;
      b = rotate(b, ROTATIONS[round % 8]) ^ a;
      if (round % 4 == 3) {
        const uint32_t injection = uint32_t(round / 4 + 1);
        a += k[injection % 3];
        b += k[(injection + 1) % 3] + injection;
      }
    }
    x0[l] = a;
    x1[l] = b;
  }
}

// scale[i] = 0 with probability p, else 1 / (1 - p), for the first `count` of the `width` elements of row `row`.
// An element takes 16 random bits, so p counts as the nearest multiple of 2^-16. The buffer holds whole blocks.
inline void dropout_scales(Dropout dropout, int64_t row, int64_t width, int64_t count, float* scale) {
  const uint32_t rounded = uint32_t(dropout.p * 65536.0f + 0.5f), threshold = rounded < 65535u ? rounded : 65535u;
  const float kept = 65536.0f / (65536.0f - float(threshold));
  const int64_t blocks = mask_blocks(width);
  for (int64_t b = 0; b < mask_blocks(count); b++) {
    uint32_t x0[16], x1[16];
    threefry_block(dropout.key, uint64_t(row * blocks + b), x0, x1);
    float* out = scale + b * MASK_BLOCK;
#pragma omp simd
    for (int l = 0; l < 16; l++) {
      out[l] = (x0[l] & 0xffffu) < threshold ? 0.0f : kept;
      out[l + 16] = (x0[l] >> 16) < threshold ? 0.0f : kept;
      out[l + 32] = (x1[l] & 0xffffu) < threshold ? 0.0f : kept;
      out[l + 48] = (x1[l] >> 16) < threshold ? 0.0f : kept;
    }
  }
}

template <typename T>
void dropout_rows(const T* x, T* out, int64_t rows, int64_t width, Dropout dropout) {
#pragma omp parallel if (rows * width > PARALLEL_ELEMENTS)
  {
    Buffer scale(mask_blocks(width) * MASK_BLOCK);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
      dropout_scales(dropout, row, width, width, scale.data());
      const T* in = x + row * width;
      T* to = out + row * width;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) store(load(in[i]) * scale[i], to[i]);
    }
  }
}

// ---- dropout + residual + layer norm -----------------------------------------------------------------------

template <typename T>
void add_norm(const T* x, const float* residual, const float* weight, const float* bias, float eps, float* sum,
              float* mean, float* rstd, float* out, T* low, int64_t rows, int64_t width, Dropout dropout) {
#pragma omp parallel if (rows * width > PARALLEL_ELEMENTS)
  {
    Buffer scale(mask_blocks(width) * MASK_BLOCK);
    fill(scale.data(), width, 1.0f);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
      if (dropout.p > 0) dropout_scales(dropout, row, width, width, scale.data());
      const T* xr = x + row * width;
      const float* rr = residual + row * width;
      float* sr = sum + row * width;
      float total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t i = 0; i < width; i++) {
        sr[i] = rr[i] + load(xr[i]) * scale[i];
        total += sr[i];
      }
      const float m = total / float(width);
      float squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; i++) squares += (sr[i] - m) * (sr[i] - m);
      const float r = 1.0f / __builtin_sqrtf(squares / float(width) + eps);
      mean[row] = m;
      rstd[row] = r;
      float* or_ = out + row * width;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) or_[i] = (sr[i] - m) * r * weight[i] + bias[i];
      if (low) {
        T* lr = low + row * width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) store(or_[i], lr[i]);
      }
    }
  }
}

template <typename T>
void add_norm_backward(const float* grad, const T* grad_low, const float* sum, const float* mean, const float* rstd,
                       const float* weight, T* grad_x, float* grad_residual, float* grad_weight, float* grad_bias,
                       int64_t rows, int64_t width, Dropout dropout) {
  const int64_t chunks = (rows + ROW_CHUNK - 1) / ROW_CHUNK;
  Buffer partial(chunks * 2 * width);
#pragma omp parallel if (rows * width > PARALLEL_ELEMENTS)
  {
    Buffer scale(mask_blocks(width) * MASK_BLOCK), g(width);
    fill(scale.data(), width, 1.0f);
#pragma omp for schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      float* pw = partial.data() + chunk * 2 * width;
      float* pb = pw + width;
      const int64_t end = least(rows, (chunk + 1) * ROW_CHUNK);
      for (int64_t row = chunk * ROW_CHUNK; row < end; row++) {
        if (dropout.p > 0) dropout_scales(dropout, row, width, width, scale.data());
        const float* sr = sum + row * width;
        const float m = mean[row], r = rstd[row];
        if (grad)
          std::memcpy(g.data(), grad + row * width, size_t(width) * sizeof(float));
        else
          fill(g.data(), width, 0.0f);
        if (grad_low) {
          const T* lr = grad_low + row * width;
#pragma omp simd
          for (int64_t i = 0; i < width; i++) g[i] += load(lr[i]);
        }
        float dot = 0, total = 0;
#pragma omp simd reduction(+ : dot, total)
        for (int64_t i = 0; i < width; i++) {
          const float hat = (sr[i] - m) * r;
          pw[i] += g[i] * hat;
          pb[i] += g[i];
          g[i] *= weight[i];
          total += g[i];
          dot += g[i] * hat;
        }
        const float mean_g = total / float(width), mean_dot = dot / float(width);
        float* gr = grad_residual + row * width;
        T* gx = grad_x + row * width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
          const float value = r * (g[i] - mean_g - (sr[i] - m) * r * mean_dot);
          gr[i] = value;
          store(value * scale[i], gx[i]);
        }
      }
    }
  }
  fill(grad_weight, width, 0.0f);
  fill(grad_bias, width, 0.0f);
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    const float* pw = partial.data() + chunk * 2 * width;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
      grad_weight[i] += pw[i];
      grad_bias[i] += pw[width + i];
    }
  }
}

// ---- attention -----------------------------------------------------------------------------------------------

// Scratch for one head of one sequence, in float. Rows of `width` hold a token's head_size values, rows of `span`
// hold a token's scores; both are padded with zeros to whole lanes.
struct Head {
  int64_t size, width, span;
  Buffer q, k, v, kt, vt, scores, scale;

  Head(int64_t longest, int64_t head_size)
      : size(head_size),
        width(padded(head_size, LANES)),
        span(padded(longest, MASK_BLOCK)),
        q(longest * width),
        k(longest * width),
        v(longest * width),
        kt(span * size),
        vt(span * size),
        scores(longest * span),
        scale(span) {
    fill(scale.data(), span, 1.0f);
  }
};

template <typename T>
void load_rows(const T* from, int64_t stride, int64_t length, const Head& head, float* to) {
  for (int64_t t = 0; t < length; t++) {
    const T* in = from + t * stride;
    float* out = to + t * head.width;
#pragma omp simd
    for (int64_t c = 0; c < head.size; c++) out[c] = load(in[c]);
  }
}

template <typename T>
void store_rows(const float* from, int64_t length, const Head& head, T* to, int64_t stride) {
  for (int64_t t = 0; t < length; t++) {
    const float* in = from + t * head.width;
    T* out = to + t * stride;
#pragma omp simd
    for (int64_t c = 0; c < head.size; c++) store(in[c], out[c]);
  }
}

inline void transpose(const float* from, int64_t length, const Head& head, float* to) {
  for (int64_t t = 0; t < length; t++)
    for (int64_t c = 0; c < head.size; c++) to[c * head.span + t] = from[t * head.width + c];
}

inline void softmax_row(float* row, int64_t length) {
  float top = row[0];
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < length; j++) top = row[j] > top ? row[j] : top;
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t j = 0; j < length; j++) {
    row[j] = exp_nonpositive(row[j] - top);
    total += row[j];
  }
  const float inverse = 1.0f / total;
#pragma omp simd
  for (int64_t j = 0; j < length; j++) row[j] *= inverse;
}

// One head of one sequence.
struct Task {
  int64_t start, length, n;
};

inline Task task_at(const AttentionShape& shape, int64_t index) {
  const int64_t s = index / shape.heads;
  const int64_t start = shape.sequences.offsets[s];
  return {start, shape.sequences.offsets[s + 1] - start, index % shape.heads};
}

// Loads q, k and v, and leaves softmax(q kᵀ scale) in head.scores.
template <typename T>
void probabilities(const T* qkv, const AttentionShape& shape, const Task& task, Head& head) {
  const int64_t model_width = shape.heads * shape.head_size, length = task.length;
  const T* base = qkv + task.start * 3 * model_width + task.n * shape.head_size;
  load_rows(base, 3 * model_width, length, head, head.q.data());
  load_rows(base + model_width, 3 * model_width, length, head, head.k.data());
  load_rows(base + 2 * model_width, 3 * model_width, length, head, head.v.data());
  transpose(head.k.data(), length, head, head.kt.data());
  matmul({head.q.data(), head.width, 1}, head.kt.data(), head.span, head.scores.data(), head.span, length,
         padded(length, LANES), shape.head_size, shape.scale);
  for (int64_t i = 0; i < length; i++) softmax_row(head.scores.data() + i * head.span, length);
}

// The dropout factors of one token's scores; each (token, head) has its own row of the mask.
inline void score_scales(Dropout dropout, const AttentionShape& shape, const Task& task, int64_t i, Head& head) {
  if (dropout.p > 0)
    dropout_scales(dropout, (task.start + i) * shape.heads + task.n, shape.sequences.longest, task.length,
                   head.scale.data());
}

template <typename T>
void attention(const T* qkv, T* out, AttentionShape shape, Dropout dropout) {
  const int64_t model_width = shape.heads * shape.head_size, tasks = shape.sequences.count * shape.heads;
#pragma omp parallel
  {
    Head head(shape.sequences.longest, shape.head_size);
    Buffer o(shape.sequences.longest * head.width);
#pragma omp for schedule(dynamic)
    for (int64_t index = 0; index < tasks; index++) {
      const Task task = task_at(shape, index);
      probabilities(qkv, shape, task, head);
      if (dropout.p > 0) {
        for (int64_t i = 0; i < task.length; i++) {
          score_scales(dropout, shape, task, i, head);
          float* row = head.scores.data() + i * head.span;
#pragma omp simd
          for (int64_t j = 0; j < task.length; j++) row[j] *= head.scale[j];
        }
      }
      matmul({head.scores.data(), head.span, 1}, head.v.data(), head.width, o.data(), head.width, task.length,
             head.width, task.length, 1.0f);
      store_rows(o.data(), task.length, head, out + task.start * model_width + task.n * shape.head_size, model_width);
    }
  }
}

template <typename T>
void attention_backward(const T* qkv, const T* grad_out, T* grad_qkv, AttentionShape shape, Dropout dropout) {
  const int64_t model_width = shape.heads * shape.head_size, longest = shape.sequences.longest;
  const int64_t tasks = shape.sequences.count * shape.heads;
#pragma omp parallel
  {
    Head head(longest, shape.head_size);
    Buffer grad(longest * head.width), gq(longest * head.width), gk(longest * head.width), gv(longest * head.width);
    Buffer dropped(longest * head.span), grad_scores(longest * head.span);
#pragma omp for schedule(dynamic)
    for (int64_t index = 0; index < tasks; index++) {
      const Task task = task_at(shape, index);
      const int64_t length = task.length, column = task.n * shape.head_size;
      probabilities(qkv, shape, task, head);
      load_rows(grad_out + task.start * model_width + column, model_width, length, head, grad.data());
      transpose(head.v.data(), length, head, head.vt.data());
      matmul({grad.data(), head.width, 1}, head.vt.data(), head.span, grad_scores.data(), head.span, length,
             padded(length, LANES), shape.head_size, 1.0f);
      for (int64_t i = 0; i < length; i++) {
        score_scales(dropout, shape, task, i, head);
        const float* p = head.scores.data() + i * head.span;
        float* g = grad_scores.data() + i * head.span;
        float* w = dropped.data() + i * head.span;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < length; j++) {
          w[j] = p[j] * head.scale[j];
          g[j] *= head.scale[j];
          dot += p[j] * g[j];
        }
#pragma omp simd
        for (int64_t j = 0; j < length; j++) g[j] = p[j] * (g[j] - dot) * shape.scale;
      }
      const Matrix by_key = {grad_scores.data(), 1, head.span}, by_query = {grad_scores.data(), head.span, 1};
      matmul({dropped.data(), 1, head.span}, grad.data(), head.width, gv.data(), head.width, length, head.width, length,
             1.0f);
      matmul(by_key, head.q.data(), head.width, gk.data(), head.width, length, head.width, length, 1.0f);
      matmul(by_query, head.k.data(), head.width, gq.data(), head.width, length, head.width, length, 1.0f);
      T* base = grad_qkv + task.start * 3 * model_width + column;
      store_rows(gq.data(), length, head, base, 3 * model_width);
      store_rows(gk.data(), length, head, base + model_width, 3 * model_width);
      store_rows(gv.data(), length, head, base + 2 * model_width, 3 * model_width);
    }
  }
}

// ---- optimizer -----------------------------------------------------------------------------------------------

// Elements that one pass of an inner loop handles: small enough that what one loop wrote the next finds in cache.
constexpr int64_t OPTIMIZER_BLOCK = 2048;

template <typename T>
void adamw(float* parameter, float* moment1, float* moment2, const T* grad, T* low, int64_t count, AdamW h) {
  const float decay = 1.0f - h.learning_rate * h.weight_decay;
  const float step = h.learning_rate / h.bias_correction1;
  const float inverse_correction = 1.0f / h.bias_correction2_sqrt;
  const float keep1 = 1.0f - h.beta1, keep2 = 1.0f - h.beta2;
#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
  for (int64_t start = 0; start < count; start += OPTIMIZER_BLOCK) {
    const int64_t end = least(count, start + OPTIMIZER_BLOCK);
    float* __restrict p = parameter;
    float* __restrict m = moment1;
    float* __restrict v = moment2;
    const T* __restrict g = grad;
#pragma omp simd
    for (int64_t i = start; i < end; i++) {
      const float gradient = load(g[i]) * h.gradient_scale;
      m[i] += (gradient - m[i]) * keep1;
      v[i] = v[i] * h.beta2 + gradient * gradient * keep2;
      p[i] = p[i] * decay - step * (m[i] / (__builtin_sqrtf(v[i]) * inverse_correction + h.eps));
    }
    if (low) {
#pragma omp simd
      for (int64_t i = start; i < end; i++) store(p[i], low[i]);
    }
  }
}

template <typename T>
double square_sum(const T* grad, int64_t count) {
  constexpr int64_t block = 4096;
  const int64_t blocks = (count + block - 1) / block;
  Buffer partial(blocks);
#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t end = least(count, (b + 1) * block);
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = b * block; i < end; i++) total += load(grad[i]) * load(grad[i]);
    partial[b] = total;
  }
  double total = 0;
  for (int64_t b = 0; b < blocks; b++) total += double(partial[b]);
  return total;
}

template <typename T>
constexpr TypedKernels<T> typed() {
  return {dropout_rows<T>, add_norm<T>, add_norm_backward<T>, attention<T>, attention_backward<T>, adamw<T>,
          square_sum<T>};
}

}  // namespace

#define FT_TEXT2(x) #x
#define FT_TEXT(x) FT_TEXT2(x)
extern const Kernels table;
const Kernels table = {FT_TEXT(FT_ISA), typed<float>(), typed<bfloat16>()};

}  // namespace ft::FT_ISA
