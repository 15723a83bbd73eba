// Activation checkpointing (Chen et al. 2016, arXiv:1604.06174): a layer of which nothing is kept but what goes into it, and
// which backward computes again. The layer itself is a function of the caller's.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guard.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

extern "C" {
// Computes the layer from the stream and what is still to be added to it, which may be null, and writes both as they are after
// it; the second stays null where there is nothing to add. Gives null, or what went wrong, which lives until the next call.
typedef const char* (*ft_layer)(void* state, TensorPtr* out, TensorPtr sum, TensorPtr pending);
}

namespace {

struct Layer : torch::CustomClassHolder {
  ft_layer call;
  void* state;
  void (*drop)(void*);

  Layer(ft_layer call, void* state, void (*drop)(void*)) : call(call), state(state), drop(drop) {}
  ~Layer() override { drop(state); }

  variable_list run(Tensor sum, Tensor pending) const {
    TensorPtr out[2] = {nullptr, nullptr};
    const char* error = call(state, out, &sum, pending.defined() ? &pending : nullptr);
    TORCH_CHECK(!error, error);
    variable_list found;
    for (TensorPtr one : out) {
      if (one) found.push_back(*one);
      delete one;
    }
    return found;
  }
};

Tensor leaf(const Tensor& tensor) { return tensor.defined() ? tensor.detach().requires_grad_(true) : tensor; }

struct CheckpointFunction : torch::autograd::Function<CheckpointFunction> {
  // The anchor needs a gradient, so that there is a backward pass for what the layer learns where nothing before it learns.
  static variable_list forward(AutogradContext* context, const Tensor& sum, const std::optional<Tensor>& pending,
                               const Tensor& /*anchor*/, c10::intrusive_ptr<Layer> layer) {
    context->save_for_backward({sum, pending.value_or(Tensor())});
    context->saved_data["layer"] = c10::IValue::make_capsule(layer);
    return layer->run(sum, pending.value_or(Tensor()));
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    variable_list saved = context->get_saved_variables();
    const auto layer = c10::static_intrusive_pointer_cast<Layer>(context->saved_data.at("layer").toCapsule());
    Tensor sum = leaf(saved[0]), pending = leaf(saved[1]);
    variable_list roots, root_grads;
    {
      at::AutoGradMode records(true);
      variable_list out = layer->run(sum, pending);
      for (size_t i = 0; i < out.size(); i++) {
        if (!grads[i].defined()) continue;
        roots.push_back(out[i]);
        root_grads.push_back(grads[i]);
      }
    }
    if (!roots.empty()) torch::autograd::backward(roots, root_grads);
    return {sum.grad(), pending.defined() ? pending.grad() : Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

extern "C" {

// pending may be null; out has two places. The state is dropped when nothing can ask for the layer any more, also where this
// fails.
int ft_checkpoint(TensorPtr* out, TensorPtr sum, TensorPtr pending, ft_layer call, void* state, void (*drop)(void*)) {
  return ft::guard([&] {
    auto layer = c10::make_intrusive<Layer>(call, state, drop);
    const Tensor anchor = at::zeros({1}, sum->options()).requires_grad_(true);
    variable_list found = CheckpointFunction::apply(*sum, pending ? std::optional<Tensor>(*pending) : std::nullopt, anchor, layer);
    for (size_t i = 0; i < found.size() && i < 2; i++) out[i] = new Tensor(found[i]);
  });
}

}  // extern "C"
