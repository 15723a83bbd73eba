// No C++ exception may cross into Rust: every exported function returns 0, or -1 with a text in ft_last_error().
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <exception>
#include <string>

namespace ft {
inline thread_local std::string last_error;

// Profiles show it by the name of the function that calls it.
template <typename F>
int guard(F&& body, const char* name = __builtin_FUNCTION()) {
  try {
    RECORD_USER_SCOPE(name);
    body();
    return 0;
  } catch (const c10::Error& error) {
    last_error = error.what_without_backtrace();
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "an exception that is no std::exception";
  }
  return -1;
}
}  // namespace ft

// A tch::Tensor is a pointer to an at::Tensor.
using TensorPtr = at::Tensor*;
