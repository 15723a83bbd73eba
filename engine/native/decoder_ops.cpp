// The fused operators of decoders as autograd functions. Each has its reference in plain libtorch operators in
// src/nn/causal.rs, and a test that compares value and gradients with it.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/ops/argmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "causal.h"
#include "origin.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

using ft::check_cpu;
using ft::data;
using ft::floats;

template <typename F>
void typed(const Tensor& tensor, F&& body) {
  ft::by_type(tensor, ft::decoder_kernels(), std::forward<F>(body));
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  // The sum of x and residual, and its norm in the type of x; without x the norm of residual alone, in `type`.
  static variable_list forward(AutogradContext* context, const std::optional<Tensor>& added, const Tensor& residual,
                               const Tensor& weight, double offset, double eps, at::ScalarType type) {
    const Tensor x = added.value_or(Tensor());
    if (x.defined()) check_cpu(x, "x");
    check_cpu(residual, "residual");
    check_cpu(weight, "weight");
    TORCH_CHECK(residual.dim() == 2 && weight.numel() == residual.size(1), "residual must be as wide as weight");
    TORCH_CHECK(!x.defined() || x.sizes() == residual.sizes(), "x must have the shape of residual");
    const int64_t rows = residual.size(0), width = residual.size(1);
    Tensor sum = x.defined() ? at::empty_like(residual) : residual;
    Tensor rstd = at::empty({rows}, residual.options());
    Tensor low = at::empty(residual.sizes(), residual.options().dtype(type));
    typed(low, [&](auto& kernel, auto* pointer) {
      kernel.add_rms_norm(data(x, pointer), floats(residual), floats(weight), float(offset), float(eps), floats(sum),
                          floats(rstd), data(low, pointer), rows, width);
    });
    context->save_for_backward({sum, rstd, weight});
    context->saved_data["offset"] = offset;
    context->saved_data["type"] = int64_t(type);
    context->saved_data["adds"] = x.defined();
    context->saved_data["learns"] = weight.requires_grad();
    return x.defined() ? variable_list{low, sum} : variable_list{low};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    variable_list saved = context->get_saved_variables();
    const Tensor &sum = saved[0], &rstd = saved[1], &weight = saved[2];
    const auto type = at::ScalarType(context->saved_data.at("type").toInt());
    const bool adds = context->saved_data.at("adds").toBool(), learns = context->saved_data.at("learns").toBool();
    Tensor grad_low = grads[0].defined() ? grads[0].contiguous() : Tensor();
    Tensor grad = grads.size() > 1 && grads[1].defined() ? grads[1].contiguous() : Tensor();
    Tensor grad_residual = at::empty_like(sum), grad_weight = learns ? at::empty_like(weight) : Tensor();
    Tensor grad_x = adds && type != at::kFloat ? at::empty(sum.sizes(), sum.options().dtype(type)) : Tensor();
    typed(grad_low.defined() ? grad_low : (grad_x.defined() ? grad_x : sum), [&](auto& kernel, auto* pointer) {
      kernel.add_rms_norm_backward(grad.defined() ? floats(grad) : nullptr, data(grad_low, pointer), floats(sum),
                                   floats(rstd), floats(weight), float(context->saved_data.at("offset").toDouble()),
                                   data(grad_x, pointer), floats(grad_residual), learns ? floats(grad_weight) : nullptr,
                                   sum.size(0), sum.size(1));
    });
    // In float32 both inputs have the very same gradient.
    if (adds && !grad_x.defined()) grad_x = grad_residual;
    return {grad_x, grad_residual, grad_weight, Tensor(), Tensor(), Tensor()};
  }
};

struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x) {
    context->save_for_backward({x});
    return ft::swiglu(x);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const Tensor x = context->get_saved_variables()[0], grad = grads[0].contiguous();
    Tensor grad_x = at::empty_like(x);
    typed(x, [&](auto& kernel, auto* type) {
      kernel.swiglu_backward(data(x, type), data(grad, type), data(grad_x, type), x.size(0), grad.size(1));
    });
    return {grad_x};
  }
};

// Both undefined, or both there.
struct Angles {
  Tensor cosine, sine;
};

ft::CausalShape over(const ft::Causal& shape, const Tensor& offsets) {
  const auto [longest, query, key_value, head_size, reach, scale] = shape;
  return {{offsets.data_ptr<int32_t>(), offsets.numel() - 1, longest}, query, key_value, head_size, reach, float(scale)};
}

struct CausalAttentionFunction : torch::autograd::Function<CausalAttentionFunction> {
  // Angles need no gradient.
  static Tensor forward(AutogradContext* context, const Tensor& qkv, const Angles& angles, const Tensor& offsets,
                        const ft::Causal& shape) {
    const Tensor &cosine = angles.cosine, &sine = angles.sine;
    check_cpu(qkv, "qkv");
    check_cpu(offsets, "offsets");
    TORCH_CHECK(offsets.scalar_type() == at::kInt, "offsets must be int32");
    const int64_t heads = shape.query + 2 * shape.key_value;
    TORCH_CHECK(shape.key_value > 0 && shape.query % shape.key_value == 0, "query heads must share key-value heads evenly");
    TORCH_CHECK(qkv.dim() == 2 && qkv.size(1) == heads * shape.head_size, "qkv must be [tokens, heads * head_size]");
    for (const Tensor* of : {&cosine, &sine}) {
      if (!of->defined()) continue;
      check_cpu(*of, "angles");
      TORCH_CHECK(of->numel() == qkv.size(0) * (shape.head_size / 2), "angles must be [tokens, head_size / 2]");
    }
    Tensor out = at::empty({qkv.size(0), shape.query * shape.head_size}, qkv.options());
    Tensor lse = at::empty({qkv.size(0), shape.query}, qkv.options().dtype(at::kFloat));
    typed(qkv, [&](auto& kernel, auto* type) {
      kernel.causal_attention(data(qkv, type), data(cosine, static_cast<float*>(nullptr)),
                              data(sine, static_cast<float*>(nullptr)), data(out, type), floats(lse), over(shape, offsets));
    });
    context->save_for_backward({qkv, cosine, sine, offsets, out, lse});
    context->saved_data["shape"] = std::vector<int64_t>{shape.longest, shape.query, shape.key_value, shape.head_size, shape.reach};
    context->saved_data["scale"] = shape.scale;
    return out;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    variable_list saved = context->get_saved_variables();
    const Tensor &qkv = saved[0], &cosine = saved[1], &sine = saved[2], &offsets = saved[3], &out = saved[4], &lse = saved[5];
    const auto n = context->saved_data.at("shape").toIntVector();
    const ft::Causal shape{n[0], n[1], n[2], n[3], n[4], context->saved_data.at("scale").toDouble()};
    const Tensor grad = grads[0].contiguous();
    Tensor grad_qkv = at::empty_like(qkv);
    typed(qkv, [&](auto& kernel, auto* type) {
      kernel.causal_attention_backward(data(qkv, type), data(cosine, static_cast<float*>(nullptr)),
                                       data(sine, static_cast<float*>(nullptr)), data(out, type), floats(lse),
                                       data(grad, type), data(grad_qkv, type), over(shape, offsets));
    });
    return {grad_qkv, Tensor(), Tensor(), Tensor()};
  }
};

// Turns logits [rows, words] into the gradient of each row's loss by them.
void cross_entropy(Tensor& logits, const Tensor& targets, Tensor losses, Tensor right) {
  if (logits.device().is_cpu()) {
    typed(logits, [&](auto& kernel, auto* type) {
      kernel.cross_entropy(data(logits, type), targets.data_ptr<int64_t>(), floats(losses), right.data_ptr<int64_t>(),
                           logits.size(0), logits.size(1));
    });
    return;
  }
  Tensor wide = logits.to(at::kFloat);
  const Tensor column = targets.unsqueeze(1), denominator = wide.logsumexp(1, true);
  losses.copy_(denominator.sub(wide.gather(1, column)).squeeze(1));
  right.copy_(wide.argmax(1).eq(targets));
  wide.sub_(denominator).exp_();
  wide.scatter_add_(1, column, at::full_like(column, -1, wide.options()));
  logits = wide.to(logits.scalar_type());
}

struct LinearCrossEntropyFunction : torch::autograd::Function<LinearCrossEntropyFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& targets,
                               int64_t chunk, bool learns_x, bool learns_weight) {
    TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1), "x and weight must be equally wide");
    TORCH_CHECK(x.scalar_type() == weight.scalar_type(), "x and weight must be of one type");
    TORCH_CHECK(targets.scalar_type() == at::kLong && targets.numel() == x.size(0), "there must be a target for each row");
    const int64_t rows = x.size(0);
    Tensor losses = at::empty({rows}, x.options().dtype(at::kFloat)), right = at::empty({rows}, targets.options());
    Tensor grad_x = learns_x ? at::empty_like(x) : Tensor();
    const Tensor transposed = weight.t();
    for (int64_t start = 0; start < rows; start += chunk) {
      const int64_t count = std::min(chunk, rows - start);
      Tensor logits = at::mm(x.narrow(0, start, count), transposed);
      cross_entropy(logits, targets.narrow(0, start, count), losses.narrow(0, start, count), right.narrow(0, start, count));
      if (learns_x) {
        Tensor part = grad_x.narrow(0, start, count);
        at::mm_out(part, logits, weight);
      }
    }
    context->save_for_backward({learns_weight ? x : Tensor(), learns_weight ? weight : Tensor(), targets, grad_x});
    context->saved_data["chunk"] = chunk;
    context->mark_non_differentiable({right});
    return {losses, right};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &targets = saved[2];
    const Tensor factor = grads[0].unsqueeze(1);
    Tensor grad_x = saved[3].defined() ? saved[3].mul(factor.to(saved[3].scalar_type())) : Tensor();
    if (!weight.defined()) return {grad_x, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    const int64_t rows = x.size(0), chunk = context->saved_data.at("chunk").toInt();
    Tensor grad_weight = at::zeros(weight.sizes(), weight.options().dtype(at::kFloat));
    Tensor losses = at::empty({rows}, x.options().dtype(at::kFloat)), right = at::empty({rows}, targets.options());
    const Tensor transposed = weight.t();
    for (int64_t start = 0; start < rows; start += chunk) {
      const int64_t count = std::min(chunk, rows - start);
      const Tensor part = x.narrow(0, start, count);
      Tensor logits = at::mm(part, transposed);
      cross_entropy(logits, targets.narrow(0, start, count), losses.narrow(0, start, count), right.narrow(0, start, count));
      const Tensor scaled = part.mul(factor.narrow(0, start, count).to(part.scalar_type()));
      grad_weight.add_(at::mm(logits.t(), scaled));
    }
    return {grad_x, grad_weight.to(weight.scalar_type()), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

// x may be null; then out[1] is null, too.
int ft_rms_norm(TensorPtr* out, TensorPtr x, TensorPtr residual, TensorPtr weight, double offset, double eps, int low) {
  return ft::guard([&] {
    const auto type = x ? x->scalar_type() : (low ? at::kBFloat16 : at::kFloat);
    variable_list outputs = RmsNormFunction::apply(x ? std::optional<Tensor>(*x) : std::nullopt, *residual, *weight, offset, eps, type);
    out[0] = new Tensor(outputs[0]);
    out[1] = outputs.size() > 1 ? new Tensor(outputs[1]) : nullptr;
  });
}

int ft_swiglu(TensorPtr* out, TensorPtr x) {
  return ft::guard([&] { *out = new Tensor(SwigluFunction::apply(*x)); });
}

// cosine and sine may be null.
int ft_causal_attention(TensorPtr* out, TensorPtr qkv, TensorPtr cosine, TensorPtr sine, TensorPtr offsets,
                        const ft::Causal* shape) {
  return ft::guard([&] {
    const Angles angles{cosine ? *cosine : Tensor(), sine ? *sine : Tensor()};
    *out = new Tensor(CausalAttentionFunction::apply(*qkv, angles, *offsets, *shape));
  });
}

int ft_linear_cross_entropy(TensorPtr* out, TensorPtr x, TensorPtr weight, TensorPtr targets, int64_t chunk) {
  return ft::guard([&] {
    const bool learns = at::GradMode::is_enabled();
    variable_list outputs = LinearCrossEntropyFunction::apply(*x, *weight, *targets, chunk, learns && x->requires_grad(),
                                                              learns && weight->requires_grad());
    out[0] = new Tensor(outputs[0]);
    out[1] = new Tensor(outputs[1]);
  });
}

}  // extern "C"
