// A linear layer with low-rank adapters as one autograd function, for every device: no product of the adapters is ever
// there by itself, and of forward nothing is kept but the layer's input, or what that is made of, and the adapters' narrow
// middle. A test compares value and gradients with plain libtorch operators.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nf4.h"
#include "origin.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Where the adapted parts of a fused layer's output lie; each has its rows of a and of b.
struct Parts {
  std::vector<int64_t> starts, widths;
  int64_t rank;
  double scaling;

  // Calls body with the number of each part and where it begins in b.
  template <typename F>
  void each(F&& body) const {
    int64_t row = 0;
    for (size_t i = 0; i < starts.size(); i++) {
      body(i, row);
      row += widths[i];
    }
  }
  Tensor of_output(const Tensor& y, size_t i) const { return y.narrow(1, starts[i], widths[i]); }
  Tensor of_middle(const Tensor& h, size_t i) const { return h.narrow(1, int64_t(i) * rank, rank); }
  Tensor of_b(const Tensor& b, size_t i, int64_t row) const { return b.narrow(0, row, widths[i]); }
};

// The weight of a frozen layer [out, in]: as it is, or quantised, and then read anew whenever it is needed.
struct Frozen {
  Tensor weight;
  ft::Nf4 quantized;
  // Whether what is quantised is [in, out].
  bool is_transposed;

  Tensor in(at::ScalarType type) const {
    if (weight.defined()) return weight;
    const Tensor dense = quantized.dense(type);
    return is_transposed ? dense.t() : dense;
  }

  void save(AutogradContext* context) const {
    auto& data = context->saved_data;
    data["pieces"] = quantized.pieces;
    data["offsets"] = quantized.offsets;
    data["rows"] = quantized.rows;
    data["columns"] = quantized.columns;
    data["is_transposed"] = is_transposed;
  }

  static Frozen saved(AutogradContext* context, const Tensor& weight) {
    auto& data = context->saved_data;
    return {weight,
            {data.at("pieces").toTensorVector(), data.at("offsets").toDoubleVector(), data.at("rows").toIntVector(),
             data.at("columns").toInt()},
            data.at("is_transposed").toBool()};
  }
};

struct LoraLinearFunction : torch::autograd::Function<LoraLinearFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& dropped, const Tensor& a, const Tensor& b,
                        Frozen frozen, const std::optional<Tensor>& bias, Parts parts, ft::Origin origin, bool is_dropped,
                        bool learns_x) {
    const Tensor weight = frozen.in(x.scalar_type());
    TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1), "x must be as wide as weight");
    Tensor y = bias ? at::addmm(*bias, x, weight.t()) : at::mm(x, weight.t());
    Tensor h = at::mm(dropped, a.t());
    parts.each([&](size_t i, int64_t row) {
      parts.of_output(y, i).addmm_(parts.of_middle(h, i), parts.of_b(b, i, row).t(), 1, parts.scaling);
    });
    const bool is_kept = origin.way == ft::Origin::itself;
    context->save_for_backward({is_kept ? dropped : origin.source, a, b, frozen.weight, h, origin.weight});
    frozen.save(context);
    context->saved_data["way"] = origin.way;
    context->saved_data["offset"] = origin.offset;
    context->saved_data["eps"] = origin.eps;
    context->saved_data["starts"] = parts.starts;
    context->saved_data["widths"] = parts.widths;
    context->saved_data["rank"] = parts.rank;
    context->saved_data["scaling"] = parts.scaling;
    context->saved_data["is_dropped"] = is_dropped;
    context->saved_data["learns_x"] = learns_x;
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    variable_list saved = context->get_saved_variables();
    const Tensor &a = saved[1], &b = saved[2], &h = saved[4];
    const ft::Origin origin{context->saved_data.at("way").toInt(), saved[0], saved[5],
                            context->saved_data.at("offset").toDouble(), context->saved_data.at("eps").toDouble()};
    const Parts parts{context->saved_data.at("starts").toIntVector(), context->saved_data.at("widths").toIntVector(),
                      context->saved_data.at("rank").toInt(), context->saved_data.at("scaling").toDouble()};
    const bool is_dropped = context->saved_data.at("is_dropped").toBool();
    const bool learns_x = context->saved_data.at("learns_x").toBool();
    const Tensor grad = grads[0].contiguous();
    Tensor grad_h = at::empty_like(h), grad_b = at::empty_like(b);
    parts.each([&](size_t i, int64_t row) {
      const Tensor part = parts.of_output(grad, i);
      Tensor middle = parts.of_middle(grad_h, i), rows = parts.of_b(grad_b, i, row);
      at::mm_out(middle, part, parts.of_b(b, i, row));
      at::mm_out(rows, part.t(), parts.of_middle(h, i));
    });
    grad_h.mul_(parts.scaling);
    grad_b.mul_(parts.scaling);
    Tensor grad_x, grad_dropped;
    if (learns_x) {
      grad_x = at::mm(grad, Frozen::saved(context, saved[3]).in(grad.scalar_type()));
      if (is_dropped)
        grad_dropped = at::mm(grad_h, a);
      else
        grad_x.addmm_(grad_h, a);
    }
    Tensor grad_a = at::mm(grad_h.t(), origin.made(h.scalar_type()));
    return {grad_x, grad_dropped, grad_a, grad_b, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

// dropped may be null: x itself; bias may be null. Where weight is null, it is quantised: `count_quantized` parts of three pieces
// each, [in, out] if it is transposed. x is made of `source` in a way of ft::Origin, with the weight, the offset and
// the eps of a norm; source may be null: x is kept, as it is where it is dropped.
int ft_lora_linear(TensorPtr* out, TensorPtr x, TensorPtr dropped, TensorPtr a, TensorPtr b, TensorPtr weight,
                   TensorPtr bias, const int64_t* starts, const int64_t* widths, int64_t count, double scaling,
                   int64_t way, TensorPtr source, TensorPtr norm_weight, double offset, double eps, const TensorPtr* pieces,
                   const double* offsets, const int64_t* rows, int64_t count_quantized, int64_t columns, int is_transposed) {
  return ft::guard([&] {
    ft::Origin origin;
    if (source && !dropped) {
      origin = {way, source->detach(), norm_weight ? norm_weight->detach() : Tensor(), offset, eps};
    }
    TORCH_CHECK(!(weight && weight->requires_grad()) && (!bias || !bias->requires_grad()), "an adapted layer must be frozen");
    const Parts parts{{starts, starts + count}, {widths, widths + count}, a->size(0) / count, scaling};
    const Frozen frozen{weight ? *weight : Tensor(), ft::Nf4::of(pieces, offsets, rows, count_quantized, columns),
                        is_transposed != 0};
    *out = new Tensor(LoraLinearFunction::apply(*x, dropped ? *dropped : *x, *a, *b, frozen,
                                                bias ? std::optional<Tensor>(*bias) : std::nullopt, parts, origin,
                                                dropped != nullptr, x->requires_grad()));
  });
}

}  // extern "C"
