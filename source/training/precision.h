// SPDX-License-Identifier: LGPL-3.0-or-later
/** Kernels and structures by the type of their numbers. */
#pragma once

#include <cstdint>
#include <exception>

#include "kernels/kernels.h"
#include "training.h"

namespace deepmd::training {

template <class T>
struct Kernels;
template <>
struct Kernels<double> {
  using Functions = deepmd_kernels_f64;
  using Layer = deepmd_layer_f64;
  using Rows = deepmd_rows_f64;
  static const Functions& get() { return *deepmd_kernels_for_f64(); }
};
template <>
struct Kernels<float> {
  using Functions = deepmd_kernels_f32;
  using Layer = deepmd_layer_f32;
  using Rows = deepmd_rows_f32;
  static const Functions& get() { return *deepmd_kernels_for_f32(); }
};

/** Return 0 or, if there was no memory, 1. */
template <class F>
int32_t guarded(const F& work) {
  try {
    work();
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}

}  // namespace deepmd::training
