// SPDX-License-Identifier: LGPL-3.0-or-later
/** Choice of the instruction set, once, by the processor. */
#include "kernels.h"

#define DEEPMD_CHOOSE_KERNELS(S)                                                                   \
  extern "C" {                                                                                     \
  extern const deepmd_kernels_##S deepmd_kernels_##S##_generic;                                    \
  extern const deepmd_kernels_##S deepmd_kernels_##S##_avx2;                                       \
  extern const deepmd_kernels_##S deepmd_kernels_##S##_avx512;                                     \
  const deepmd_kernels_##S* deepmd_kernels_for_##S() {                                             \
    return DEEPMD_BEST_KERNELS(deepmd_kernels_##S##_generic, deepmd_kernels_##S##_avx2,            \
                               deepmd_kernels_##S##_avx512);                                       \
  }                                                                                                \
  }

#ifdef DEEPMD_KERNELS_X86
#define DEEPMD_BEST_KERNELS(generic, avx2, avx512)                                                 \
  (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") ? &(avx512)             \
   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")       ? &(avx2)               \
                                                                           : &(generic))
#else
#define DEEPMD_BEST_KERNELS(generic, avx2, avx512) (&(generic))
#endif

DEEPMD_CHOOSE_KERNELS(f64)
DEEPMD_CHOOSE_KERNELS(f32)
