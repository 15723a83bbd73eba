// Picks the kernels of the best instruction set that both this build and this processor have.
#include "kernels.h"

namespace ft {

namespace baseline { extern const Kernels table; }
#ifdef FT_HAVE_X86_64_LEVELS
namespace v3 { extern const Kernels table; }
namespace v4 { extern const Kernels table; }
#endif

static const Kernels& pick() {
#ifdef FT_HAVE_X86_64_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return v4::table;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    return v3::table;
#endif
  return baseline::table;
}

const Kernels& kernels() {
  static const Kernels& chosen = pick();
  return chosen;
}

}  // namespace ft
