// Attention of decoders: queries in blocks, so that no more than a block's scores are ever there; see kernels.h.
#pragma once
#include "common.h"

namespace ft::FT_ISA {
namespace {

// Queries that are handled together: their scores over a whole sequence of usual length stay in cache.
constexpr int64_t QUERY_BLOCK = 64;

// A key-value head of one sequence.
struct Group {
  int64_t start, length, head;
};

inline Group group_at(const CausalShape& shape, int64_t index) {
  const int64_t s = index / shape.key_value, start = shape.sequences.offsets[s];
  return {start, shape.sequences.offsets[s + 1] - start, index % shape.key_value};
}

// The tokens at `row` of a packed tensor with `heads` heads, one of them.
template <typename T>
T* head_at(T* tensor, int64_t row, int64_t heads, int64_t head, const CausalShape& shape) {
  return tensor + (row * heads + head) * shape.head_size;
}

// Reads rows of one head into floats of whole lanes, turned by the angles of their tokens where there are any.
template <typename T>
void load_turned(const T* from, int64_t stride, const float* cosine, const float* sine, int64_t rows, int64_t size,
                 float* to, int64_t width) {
  const int64_t half = size / 2;
  for (int64_t t = 0; t < rows; t++) {
    const T* in = from + t * stride;
    float* out = to + t * width;
    if (cosine) {
      const float* c = cosine + t * half;
      const float* s = sine + t * half;
#pragma omp simd
      for (int64_t i = 0; i < half; i++) {
        const float a = load(in[i]), b = load(in[i + half]);
        out[i] = a * c[i] - b * s[i];
        out[i + half] = b * c[i] + a * s[i];
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < size; i++) out[i] = load(in[i]);
    }
  }
}

// Writes gradients of turned rows, turned back.
template <typename T>
void store_turned_back(const float* from, int64_t width, const float* cosine, const float* sine, int64_t rows,
                       int64_t size, T* to, int64_t stride) {
  const int64_t half = size / 2;
  for (int64_t t = 0; t < rows; t++) {
    const float* in = from + t * width;
    T* out = to + t * stride;
    if (cosine) {
      const float* c = cosine + t * half;
      const float* s = sine + t * half;
#pragma omp simd
      for (int64_t i = 0; i < half; i++) {
        store(in[i] * c[i] + in[i + half] * s[i], out[i]);
        store(in[i + half] * c[i] - in[i] * s[i], out[i + half]);
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < size; i++) store(in[i], out[i]);
    }
  }
}

inline void transposed(const float* from, int64_t rows, int64_t size, int64_t width, float* to, int64_t span) {
  for (int64_t t = 0; t < rows; t++)
    for (int64_t i = 0; i < size; i++) to[i * span + t] = from[t * width + i];
}

// The first key that the query at `place` sees, and the end of those that it sees.
inline int64_t first_seen(const CausalShape& shape, int64_t place) {
  return place > shape.reach ? place - shape.reach : 0;
}

// Room for one group, in float. Rows are `width` long, or `span`, both whole lanes.
struct Room {
  int64_t width, span;
  Buffer q, k, v, kt, scores;

  Room(const CausalShape& shape)
      : width(padded(shape.head_size, LANES)),
        span(padded(shape.sequences.longest, LANES)),
        q(QUERY_BLOCK * width),
        k(shape.sequences.longest * width),
        v(shape.sequences.longest * width),
        kt(shape.head_size * span),
        scores(QUERY_BLOCK * span) {}

  // Keys, turned, and values of a group.
  template <typename T>
  void load_group(const T* qkv, const float* cosine, const float* sine, const CausalShape& shape, const Group& group) {
    const int64_t heads = shape.query + 2 * shape.key_value, stride = heads * shape.head_size;
    const float *c = angles(cosine, group.start, shape), *s = angles(sine, group.start, shape);
    const T* keys = head_at(qkv, group.start, heads, shape.query + group.head, shape);
    load_turned(keys, stride, c, s, group.length, shape.head_size, k.data(), width);
    const T* values = keys + shape.key_value * shape.head_size;
    load_turned(values, stride, nullptr, nullptr, group.length, shape.head_size, v.data(), width);
    transposed(k.data(), group.length, shape.head_size, width, kt.data(), span);
  }

  static const float* angles(const float* of, int64_t token, const CausalShape& shape) {
    return of ? of + token * (shape.head_size / 2) : nullptr;
  }

  // Queries of a block, turned; then their scores over the keys `from..to`, which are whole lanes.
  template <typename T>
  void score(const T* qkv, const float* cosine, const float* sine, const CausalShape& shape, const Group& group,
             int64_t head, int64_t begin, int64_t rows, int64_t from, int64_t to) {
    const int64_t heads = shape.query + 2 * shape.key_value, token = group.start + begin;
    load_turned(head_at(qkv, token, heads, head, shape), heads * shape.head_size, angles(cosine, token, shape),
                angles(sine, token, shape), rows, shape.head_size, q.data(), width);
    matmul({q.data(), width, 1}, kt.data() + from, span, scores.data() + from, span, rows, to - from, shape.head_size,
           shape.scale);
  }
};

// What a block of queries looks at: from whole lanes to whole lanes.
struct Span {
  int64_t from, to;
};

inline Span span_of(const CausalShape& shape, int64_t begin, int64_t rows) {
  return {first_seen(shape, begin) / LANES * LANES, padded(begin + rows, LANES)};
}

// Zeroes what lies within whole lanes but is not seen.
inline void zero_unseen(float* row, Span seen, int64_t first, int64_t end) {
  fill(row + seen.from, first - seen.from, 0.0f);
  fill(row + end, seen.to - end, 0.0f);
}

template <typename T>
void causal_attention(const T* qkv, const float* cosine, const float* sine, T* out, float* lse, CausalShape shape) {
  const int64_t groups = shape.sequences.count * shape.key_value, share = shape.query / shape.key_value;
#pragma omp parallel
  {
    Room room(shape);
    Buffer o(QUERY_BLOCK * room.width);
#pragma omp for schedule(dynamic)
    for (int64_t index = 0; index < groups; index++) {
      const Group group = group_at(shape, index);
      room.load_group(qkv, cosine, sine, shape, group);
      for (int64_t head = group.head * share; head < (group.head + 1) * share; head++) {
        for (int64_t begin = 0; begin < group.length; begin += QUERY_BLOCK) {
          const int64_t rows = least(QUERY_BLOCK, group.length - begin);
          const Span seen = span_of(shape, begin, rows);
          room.score(qkv, cosine, sine, shape, group, head, begin, rows, seen.from, seen.to);
          for (int64_t i = 0; i < rows; i++) {
            float* row = room.scores.data() + i * room.span;
            const int64_t first = first_seen(shape, begin + i), end = begin + i + 1;
            float top = row[first], total = 0;
#pragma omp simd reduction(max : top)
            for (int64_t j = first; j < end; j++) top = row[j] > top ? row[j] : top;
#pragma omp simd reduction(+ : total)
            for (int64_t j = first; j < end; j++) {
              row[j] = exp_nonpositive(row[j] - top);
              total += row[j];
            }
            const float inverse = 1.0f / total;
#pragma omp simd
            for (int64_t j = first; j < end; j++) row[j] *= inverse;
            zero_unseen(row, seen, first, end);
            lse[(group.start + begin + i) * shape.query + head] = top + __builtin_logf(total);
          }
          const int64_t keys = least(seen.to, group.length) - seen.from;
          matmul({room.scores.data() + seen.from, room.span, 1}, room.v.data() + seen.from * room.width, room.width,
                 o.data(), room.width, rows, room.width, keys, 1.0f);
          T* to = head_at(out, group.start + begin, shape.query, head, shape);
          store_turned_back(o.data(), room.width, nullptr, nullptr, rows, shape.head_size, to,
                            shape.query * shape.head_size);
        }
      }
    }
  }
}

template <typename T>
void causal_attention_backward(const T* qkv, const float* cosine, const float* sine, const T* out, const float* lse,
                               const T* grad_out, T* grad_qkv, CausalShape shape) {
  const int64_t groups = shape.sequences.count * shape.key_value, share = shape.query / shape.key_value;
  const int64_t heads = shape.query + 2 * shape.key_value, stride = heads * shape.head_size;
  const int64_t longest = shape.sequences.longest;
#pragma omp parallel
  {
    Room room(shape);
    Buffer vt(shape.head_size * room.span), gk(longest * room.width), gv(longest * room.width);
    Buffer grad(QUERY_BLOCK * room.width), gq(QUERY_BLOCK * room.width), gs(QUERY_BLOCK * room.span);
#pragma omp for schedule(dynamic)
    for (int64_t index = 0; index < groups; index++) {
      const Group group = group_at(shape, index);
      room.load_group(qkv, cosine, sine, shape, group);
      transposed(room.v.data(), group.length, shape.head_size, room.width, vt.data(), room.span);
      fill(gk.data(), group.length * room.width, 0.0f);
      fill(gv.data(), group.length * room.width, 0.0f);
      for (int64_t head = group.head * share; head < (group.head + 1) * share; head++) {
        for (int64_t begin = 0; begin < group.length; begin += QUERY_BLOCK) {
          const int64_t rows = least(QUERY_BLOCK, group.length - begin), token = group.start + begin;
          const Span seen = span_of(shape, begin, rows);
          room.score(qkv, cosine, sine, shape, group, head, begin, rows, seen.from, seen.to);
          load_turned(head_at(grad_out, token, shape.query, head, shape), shape.query * shape.head_size, nullptr, nullptr,
                      rows, shape.head_size, grad.data(), room.width);
          matmul({grad.data(), room.width, 1}, vt.data() + seen.from, room.span, gs.data() + seen.from, room.span, rows,
                 seen.to - seen.from, shape.head_size, 1.0f);
          for (int64_t i = 0; i < rows; i++) {
            float* p = room.scores.data() + i * room.span;
            float* g = gs.data() + i * room.span;
            const T* o = head_at(out, token + i, shape.query, head, shape);
            const float* go = grad.data() + i * room.width;
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t c = 0; c < shape.head_size; c++) dot += load(o[c]) * go[c];
            const float denominator = lse[(token + i) * shape.query + head];
            const int64_t first = first_seen(shape, begin + i), end = begin + i + 1;
#pragma omp simd
            for (int64_t j = first; j < end; j++) {
              const float x = p[j] - denominator;
              p[j] = exp_nonpositive(x < 0 ? x : 0.0f);
              g[j] = p[j] * (g[j] - dot) * shape.scale;
            }
            zero_unseen(p, seen, first, end);
            zero_unseen(g, seen, first, end);
          }
          const int64_t keys = least(seen.to, group.length) - seen.from;
          const Matrix by_key = {gs.data() + seen.from, 1, room.span}, by_query = {gs.data() + seen.from, room.span, 1};
          matmul<true>({room.scores.data() + seen.from, 1, room.span}, grad.data(), room.width,
                       gv.data() + seen.from * room.width, room.width, keys, room.width, rows, 1.0f);
          matmul<true>(by_key, room.q.data(), room.width, gk.data() + seen.from * room.width, room.width, keys,
                       room.width, rows, 1.0f);
          matmul(by_query, room.k.data() + seen.from * room.width, room.width, gq.data(), room.width, rows, room.width,
                 keys, 1.0f);
          store_turned_back(gq.data(), room.width, Room::angles(cosine, token, shape), Room::angles(sine, token, shape),
                            rows, shape.head_size, head_at(grad_qkv, token, heads, head, shape), stride);
        }
      }
      T* keys = head_at(grad_qkv, group.start, heads, shape.query + group.head, shape);
      store_turned_back(gk.data(), room.width, Room::angles(cosine, group.start, shape),
                        Room::angles(sine, group.start, shape), group.length, shape.head_size, keys, stride);
      store_turned_back(gv.data(), room.width, nullptr, nullptr, group.length, shape.head_size,
                        keys + shape.key_value * shape.head_size, stride);
    }
  }
}

}  // namespace
}  // namespace ft::FT_ISA
