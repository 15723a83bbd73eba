// The fused operators of the CPU path as autograd functions. Each has its reference in plain libtorch operators in
// src/nn/functional.rs, and a test that compares value and gradients with it.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "autograd.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

using ft::check_cpu;
using ft::data;
using ft::floats;

template <typename F>
void typed(const Tensor& tensor, F&& body) {
  ft::by_type(tensor, ft::kernels(), std::forward<F>(body));
}

ft::Dropout dropout_of(const AutogradContext* context) {
  return {float(context->saved_data.at("p").toDouble()), uint64_t(context->saved_data.at("key").toInt())};
}

void save_dropout(AutogradContext* context, double p, int64_t key) {
  TORCH_CHECK(p >= 0 && p < 1, "dropout probability must be in [0, 1), not ", p);
  context->saved_data["p"] = p;
  context->saved_data["key"] = key;
}

struct DropoutFunction : torch::autograd::Function<DropoutFunction> {
  static Tensor run(const Tensor& x, ft::Dropout dropout) {
    Tensor out = at::empty_like(x);
    const int64_t width = x.size(-1), rows = x.numel() / std::max<int64_t>(width, 1);
    typed(x, [&](auto& kernel, auto* type) { kernel.dropout(data(x, type), data(out, type), rows, width, dropout); });
    return out;
  }
  static Tensor forward(AutogradContext* context, const Tensor& x, double p, int64_t key) {
    check_cpu(x, "x");
    save_dropout(context, p, key);
    return run(x, dropout_of(context));
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {run(grads[0].contiguous(), dropout_of(context)), Tensor(), Tensor()};
  }
};

struct AddNormFunction : torch::autograd::Function<AddNormFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& residual, const Tensor& weight,
                               const Tensor& bias, double eps, double p, int64_t key) {
    check_cpu(x, "x");
    check_cpu(residual, "residual");
    check_cpu(weight, "weight");
    check_cpu(bias, "bias");
    TORCH_CHECK(x.dim() == 2 && x.sizes() == residual.sizes(), "x and residual must be [rows, width]");
    TORCH_CHECK(weight.numel() == x.size(1) && bias.numel() == x.size(1), "weight and bias must have `width` elements");
    save_dropout(context, p, key);
    const int64_t rows = x.size(0), width = x.size(1);
    Tensor sum = at::empty_like(residual), out = at::empty_like(residual);
    Tensor mean = at::empty({rows}, residual.options()), rstd = at::empty({rows}, residual.options());
    Tensor low = x.scalar_type() == at::kFloat ? Tensor() : at::empty_like(x);
    typed(x, [&](auto& kernel, auto* type) {
      kernel.add_norm(data(x, type), floats(residual), floats(weight), floats(bias), float(eps), floats(sum),
                      floats(mean), floats(rstd), floats(out), data(low, type), rows, width, dropout_of(context));
    });
    context->save_for_backward({sum, mean, rstd, weight});
    context->saved_data["type"] = int64_t(x.scalar_type());
    return low.defined() ? variable_list{out, low} : variable_list{out};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    variable_list saved = context->get_saved_variables();
    const Tensor &sum = saved[0], &mean = saved[1], &rstd = saved[2], &weight = saved[3];
    const auto type = at::ScalarType(context->saved_data.at("type").toInt());
    Tensor grad = grads[0].defined() ? grads[0].contiguous() : Tensor();
    Tensor grad_low = grads.size() > 1 && grads[1].defined() ? grads[1].contiguous() : Tensor();
    Tensor grad_x = at::empty(sum.sizes(), sum.options().dtype(type)), grad_residual = at::empty_like(sum);
    Tensor grad_weight = at::empty_like(weight), grad_bias = at::empty_like(weight);
    typed(grad_x, [&](auto& kernel, auto* pointer) {
      kernel.add_norm_backward(grad.defined() ? floats(grad) : nullptr, data(grad_low, pointer), floats(sum),
                               floats(mean), floats(rstd), floats(weight), data(grad_x, pointer), floats(grad_residual),
                               floats(grad_weight), floats(grad_bias), sum.size(0), sum.size(1), dropout_of(context));
    });
    return {grad_x, grad_residual, grad_weight, grad_bias, Tensor(), Tensor(), Tensor()};
  }
};

ft::AttentionShape attention_shape(const Tensor& offsets, int64_t longest, int64_t heads, int64_t head_size) {
  const float scale = 1.0f / std::sqrt(float(head_size));
  return {{offsets.data_ptr<int32_t>(), offsets.numel() - 1, longest}, heads, head_size, scale};
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& qkv, const Tensor& offsets, int64_t longest, int64_t heads,
                        double p, int64_t key) {
    check_cpu(qkv, "qkv");
    check_cpu(offsets, "offsets");
    TORCH_CHECK(qkv.dim() == 2 && qkv.size(1) % (3 * heads) == 0, "qkv must be [tokens, 3 * heads * head_size]");
    TORCH_CHECK(offsets.scalar_type() == at::kInt, "offsets must be int32");
    save_dropout(context, p, key);
    context->save_for_backward({qkv, offsets});
    context->saved_data["longest"] = longest;
    context->saved_data["heads"] = heads;
    const int64_t width = qkv.size(1) / 3;
    Tensor out = at::empty({qkv.size(0), width}, qkv.options());
    typed(qkv, [&](auto& kernel, auto* type) {
      kernel.attention(data(qkv, type), data(out, type), attention_shape(offsets, longest, heads, width / heads),
                       dropout_of(context));
    });
    return out;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    variable_list saved = context->get_saved_variables();
    const Tensor &qkv = saved[0], &offsets = saved[1];
    const int64_t heads = context->saved_data.at("heads").toInt();
    const Tensor grad = grads[0].contiguous();
    Tensor grad_qkv = at::empty_like(qkv);
    typed(qkv, [&](auto& kernel, auto* type) {
      kernel.attention_backward(
          data(qkv, type), data(grad, type), data(grad_qkv, type),
          attention_shape(offsets, context->saved_data.at("longest").toInt(), heads, qkv.size(1) / 3 / heads),
          dropout_of(context));
    });
    return {grad_qkv, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

const char* ft_last_error() { return ft::last_error.c_str(); }

const char* ft_kernel_isa() { return ft::kernels().isa; }

int ft_dropout(TensorPtr* out, TensorPtr x, double p, int64_t key) {
  return ft::guard([&] { *out = new Tensor(DropoutFunction::apply(*x, p, key)); });
}

// out[1] is null where x is float32: the second output is the first in x's own type.
int ft_dropout_add_norm(TensorPtr* out, TensorPtr x, TensorPtr residual, TensorPtr weight, TensorPtr bias, double eps,
                        double p, int64_t key) {
  return ft::guard([&] {
    variable_list outputs = AddNormFunction::apply(*x, *residual, *weight, *bias, eps, p, key);
    out[0] = new Tensor(outputs[0]);
    out[1] = outputs.size() > 1 ? new Tensor(outputs[1]) : nullptr;
  });
}

int ft_attention(TensorPtr* out, TensorPtr qkv, TensorPtr offsets, int64_t longest, int64_t heads, double p,
                 int64_t key) {
  return ft::guard([&] { *out = new Tensor(AttentionFunction::apply(*qkv, *offsets, longest, heads, p, key)); });
}

}  // extern "C"
