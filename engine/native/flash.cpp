// Causal attention of packed sequences by FlashAttention 2 (Dao 2023, arXiv:2307.08691), which libtorch has for CUDA devices.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/ops/_flash_attention_forward.h>

#include <optional>

#include "causal.h"
#include "guard.h"

using at::Tensor;

extern "C" {

// As ft_causal_attention, of queries and keys that were turned already; `offsets` lies on the device of `qkv`.
int ft_flash_attention(TensorPtr* out, TensorPtr qkv, TensorPtr offsets, const ft::Causal* shape) {
  return ft::guard([&] {
    const auto [longest, query, key_value, head_size, reach, scale] = *shape;
    const int64_t tokens = qkv->size(0);
    const Tensor heads = qkv->view({tokens, query + 2 * key_value, head_size});
    const Tensor q = heads.narrow(1, 0, query), k = heads.narrow(1, query, key_value),
                 v = heads.narrow(1, query + key_value, key_value);
    // A window to the left alone; is_causal is the one to the right.
    const auto left = reach < longest ? std::optional<int64_t>(reach) : std::nullopt;
    const auto right = left ? std::optional<int64_t>(0) : std::nullopt;
    const auto result =
        at::_flash_attention_forward(q, k, v, *offsets, *offsets, longest, longest, 0.0, true, false, scale, left, right);
    *out = new Tensor(std::get<0>(result).reshape({tokens, query * head_size}));
  });
}

}  // extern "C"
