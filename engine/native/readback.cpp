// Numbers on their way from a device to the host.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <memory>
#include <utility>

#include "guard.h"

using at::Tensor;

extern "C" {

// *out = a copy of `values` on the host. Of a device's it is there once *event has come, which the caller waits for and drops; of
// the host's at once, and *event stays null.
int ft_readback(TensorPtr* out, c10::Event** event, TensorPtr values) {
  return ft::guard([&] {
    const at::Device device = values->device();
    // What is copied without waiting goes to memory that the host does not page out.
    Tensor host = values->to(at::kCPU, values->scalar_type(), /*non_blocking=*/true, /*copy=*/true);
    if (!device.is_cpu()) {
      auto recorded = std::make_unique<c10::Event>(device.type());
      recorded->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
      *event = recorded.release();
    }
    *out = new Tensor(std::move(host));
  });
}

// Waits for an event of ft_readback. The host sleeps or spins as the device's runtime has it, and other work of the device goes on.
int ft_wait(const c10::Event* event) {
  return ft::guard([&] { event->synchronize(); });
}

void ft_drop_event(c10::Event* event) { delete event; }

}  // extern "C"
