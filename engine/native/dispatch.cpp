// Picks the kernels of the best instruction set that both this build and this processor have.
#include "kernels.h"

namespace ft {

// All kernels of one instruction set.
struct Level {
  const Kernels& kernels;
  const AllDecoderKernels& decoder;
};

#define FT_LEVEL(isa)                      \
  namespace isa {                          \
  extern const Kernels table;              \
  extern const AllDecoderKernels decoder_table; \
  }
FT_LEVEL(baseline)
#ifdef FT_HAVE_X86_64_LEVELS
FT_LEVEL(v3)
FT_LEVEL(v4)
#endif

static Level pick() {
#ifdef FT_HAVE_X86_64_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return {v4::table, v4::decoder_table};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    return {v3::table, v3::decoder_table};
#endif
  return {baseline::table, baseline::decoder_table};
}

static const Level& level() {
  static const Level chosen = pick();
  return chosen;
}

const Kernels& kernels() { return level().kernels; }

const AllDecoderKernels& decoder_kernels() { return level().decoder; }

}  // namespace ft
