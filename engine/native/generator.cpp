// The state of a device's random numbers.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/core/Generator.h>

#include <mutex>

#include "guard.h"

using at::Tensor;

extern "C" {

// *out = what the default generator of the device of `like` is at, on the host.
int ft_generator_state(TensorPtr* out, TensorPtr like) {
  return ft::guard([&] {
    at::Generator generator = at::globalContext().defaultGenerator(like->device());
    std::lock_guard<std::mutex> lock(generator.mutex());
    *out = new Tensor(generator.get_state());
  });
}

int ft_set_generator_state(TensorPtr like, TensorPtr state) {
  return ft::guard([&] {
    at::Generator generator = at::globalContext().defaultGenerator(like->device());
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(*state);
  });
}

}  // extern "C"
