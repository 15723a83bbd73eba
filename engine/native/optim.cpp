// Gradient norm and AdamW over a list of tensors. On the CPU our own kernels do it in one pass each; elsewhere
// libtorch's multi-tensor operators do, without reading anything back to the host.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>

#include <cmath>
#include <vector>

#include "adamw.h"
#include "guard.h"
#include "kernels.h"

using at::Tensor;

namespace {

std::vector<Tensor> list(TensorPtr* tensors, int64_t count) {
  std::vector<Tensor> out;
  out.reserve(count);
  for (int64_t i = 0; i < count; i++) out.push_back(*tensors[i]);
  return out;
}

bool on_cpu(const std::vector<Tensor>& tensors) { return tensors.empty() || tensors[0].device().is_cpu(); }

void check(const Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
}

struct State {
  std::vector<Tensor> parameters, grads, moments1, moments2;
  TensorPtr* lows;
  const double* weight_decay;
  const Tensor& halted;
};

void adamw_cpu(const State& state, const ft::AdamWScalars& hyper, double gradient_scale) {
  if (state.halted.item<float>() != 0) return;
  for (size_t i = 0; i < state.parameters.size(); i++) {
    const Tensor &parameter = state.parameters[i], &grad = state.grads[i];
    const Tensor low = state.lows[i] ? *state.lows[i] : Tensor();
    check(parameter, "parameter");
    check(grad, "gradient");
    TORCH_CHECK(parameter.numel() == grad.numel(), "gradient ", i, " has another size than its parameter");
    const ft::AdamW h = {float(hyper.learning_rate),
                         float(hyper.beta1),
                         float(hyper.beta2),
                         float(hyper.eps),
                         float(state.weight_decay[i]),
                         float(1 - std::pow(hyper.beta1, double(hyper.step))),
                         float(std::sqrt(1 - std::pow(hyper.beta2, double(hyper.step)))),
                         float(gradient_scale)};
    float *p = parameter.data_ptr<float>(), *m = state.moments1[i].data_ptr<float>(),
          *v = state.moments2[i].data_ptr<float>();
    const auto& kernels = ft::kernels();
    if (grad.scalar_type() == at::kFloat) {
      kernels.f32.adamw(p, m, v, grad.data_ptr<float>(), nullptr, parameter.numel(), h);
      // Gradients of several bfloat16 batches add up in float32.
      if (low.defined()) low.copy_(parameter);
    } else {
      TORCH_CHECK(grad.scalar_type() == at::kBFloat16, "gradients are float32 or bfloat16");
      auto* low_data = low.defined() ? static_cast<ft::bfloat16*>(low.data_ptr()) : nullptr;
      kernels.bf16.adamw(p, m, v, static_cast<ft::bfloat16*>(grad.data_ptr()), low_data, parameter.numel(), h);
    }
  }
}

// at::_fused_adamw_ takes one weight decay for a whole list, so the list is split by decay.
void adamw_multi_tensor(const State& state, const ft::AdamWScalars& hyper, const Tensor& gradient_scale) {
  std::vector<Tensor> copies_from, copies_to;
  const Tensor step = at::full({}, double(hyper.step), state.halted.options());
  std::vector<bool> done(state.parameters.size(), false);
  for (size_t first = 0; first < state.parameters.size(); first++) {
    if (done[first]) continue;
    std::vector<Tensor> p, g, m, v;
    for (size_t i = first; i < state.parameters.size(); i++) {
      if (done[i] || state.weight_decay[i] != state.weight_decay[first]) continue;
      done[i] = true;
      p.push_back(state.parameters[i]);
      g.push_back(state.grads[i].to(at::kFloat));
      m.push_back(state.moments1[i]);
      v.push_back(state.moments2[i]);
      if (state.lows[i]) {
        copies_to.push_back(*state.lows[i]);
        copies_from.push_back(state.parameters[i]);
      }
    }
    at::_foreach_mul_(g, gradient_scale);
    // Where `halted` is 1 it leaves everything as it is.
    const std::vector<Tensor> steps(p.size(), step);
    at::_fused_adamw_(p, g, m, v, {}, steps, hyper.learning_rate, hyper.beta1, hyper.beta2, state.weight_decay[first],
                      hyper.eps, false, false, {}, state.halted);
  }
  if (!copies_to.empty()) at::_foreach_copy_(copies_to, copies_from);
}

}  // namespace

extern "C" {

// *out = the L2 norm of all gradients taken together, a 0-dimensional float32 tensor on their device.
int ft_grad_norm(TensorPtr* out, TensorPtr* grads, int64_t count, int multi_tensor) {
  return ft::guard([&] {
    std::vector<Tensor> tensors = list(grads, count);
    if (!on_cpu(tensors) || multi_tensor) {
      std::vector<Tensor> as_float;
      for (const Tensor& tensor : tensors) as_float.push_back(tensor.to(at::kFloat));
      *out = new Tensor(at::linalg_vector_norm(at::stack(at::_foreach_norm(as_float, 2.0))));
      return;
    }
    double squares = 0;
    for (const Tensor& tensor : tensors) {
      check(tensor, "gradient");
      squares += tensor.scalar_type() == at::kFloat
                     ? ft::kernels().f32.square_sum(tensor.data_ptr<float>(), tensor.numel())
                     : ft::kernels().bf16.square_sum(static_cast<ft::bfloat16*>(tensor.data_ptr()), tensor.numel());
    }
    *out = new Tensor(at::scalar_tensor(std::sqrt(squares), at::TensorOptions().dtype(at::kFloat)));
  });
}

// One AdamW step (Loshchilov & Hutter 2019) as torch.optim.AdamW does it: gradients are first scaled by
// min(1, max_norm / (norm + 1e-6)) where max_norm > 0. `lows[i]` (or null) takes the new parameter in bfloat16. Nothing changes
// where `halted` (float32, 0-dimensional, on the parameters' device) is 1.
int ft_adamw(TensorPtr* parameters, TensorPtr* grads, TensorPtr* moments1, TensorPtr* moments2, TensorPtr* lows,
             const double* weight_decay, int64_t count, TensorPtr norm, TensorPtr halted, const ft::AdamWScalars* scalars,
             int multi_tensor) {
  return ft::guard([&] {
    const State state = {list(parameters, count), list(grads, count), list(moments1, count),
                         list(moments2, count),   lows,               weight_decay,
                         *halted};
    if (on_cpu(state.parameters) && !multi_tensor) {
      adamw_cpu(state, *scalars, scalars->clip(norm->item<double>()));
    } else {
      adamw_multi_tensor(state, *scalars, scalars->clip(*norm));
    }
  });
}

}  // extern "C"
