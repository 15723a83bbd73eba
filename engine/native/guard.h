// No C++ exception may cross into Rust: every exported function returns 0, or -1 with a text in ft_last_error().
#pragma once
#include <ATen/core/Tensor.h>

#include <exception>
#include <string>

namespace ft {
inline thread_local std::string last_error;

template <typename F>
int guard(F&& body) {
  try {
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
