// Attention of packed sequences on CUDA devices: FlashAttention 2 (Dao 2023, arXiv:2307.08691) of half-precision numbers, and
// memory-efficient attention (Rabe & Staats 2021, arXiv:2112.05682) of float32. libtorch has both with their gradients.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/_flash_attention_forward.h>

#include <optional>

#include "guard.h"

using at::Tensor;

namespace {

// What attention is over, laid out as PackedShape in native/packed.rs.
struct Packed {
  // Tokens of the longest sequence; heads of queries, in groups that share those of keys and values, and how wide all are.
  int64_t longest, query, key_value, head_size;
  // How far a token sees before and behind itself; all the way below 0.
  int64_t left, right;
  // What scores are multiplied by, and the share of probabilities that is dropped, by libtorch's generator.
  double scale, dropout;
};

std::optional<int64_t> bound(int64_t reach) { return reach < 0 ? std::nullopt : std::optional<int64_t>(reach); }

}  // namespace

extern "C" {

// *out [tokens, query * head_size] of `qkv` [tokens, (query + 2 key_value) * head_size], whose sequences begin and end at `offsets`
// (int32, [sequences + 1], on its device).
int ft_packed_attention(TensorPtr* out, TensorPtr qkv, TensorPtr offsets, const Packed* shape) {
  return ft::guard([&] {
    const auto [longest, query, key_value, head_size, left, right, scale, dropout] = *shape;
    const int64_t tokens = qkv->size(0);
    const Tensor heads = qkv->view({tokens, query + 2 * key_value, head_size});
    const Tensor q = heads.narrow(1, 0, query), k = heads.narrow(1, query, key_value),
                 v = heads.narrow(1, query + key_value, key_value);
    Tensor result;
    if (qkv->scalar_type() == at::kFloat) {
      // It knows no groups and no windows.
      TORCH_CHECK(query == key_value && left < 0 && right <= 0, "memory-efficient attention of this shape is not there");
      const int64_t from_top_left = right == 0;
      result = std::get<0>(at::_efficient_attention_forward(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), {}, *offsets, *offsets,
                                                            longest, longest, dropout, from_top_left, true, scale));
    } else {
      const bool is_causal = left < 0 && right == 0;
      result = std::get<0>(at::_flash_attention_forward(q, k, v, *offsets, *offsets, longest, longest, dropout, is_causal, false, scale,
                                                        bound(left), is_causal ? std::nullopt : bound(right)));
    }
    *out = new Tensor(result.reshape({tokens, query * head_size}));
  });
}

}  // extern "C"
