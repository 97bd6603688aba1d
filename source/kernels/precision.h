// SPDX-License-Identifier: LGPL-3.0-or-later
/** Types and functions of the kernels by the type of their numbers, for C++. */
#pragma once

#include "kernels.h"

namespace deepmd {

/** Types and functions of the kernels for a precision. */
template <class T>
struct Kernels;
template <>
struct Kernels<double> {
  using Functions = deepmd_kernels_f64;
  using Layer = deepmd_layer_f64;
  using Table = deepmd_table_f64;
  using Pieces = deepmd_pieces_f64;
  static const Functions& get() { return *deepmd_kernels_for_f64(); }
};
template <>
struct Kernels<float> {
  using Functions = deepmd_kernels_f32;
  using Layer = deepmd_layer_f32;
  using Table = deepmd_table_f32;
  using Pieces = deepmd_pieces_f32;
  static const Functions& get() { return *deepmd_kernels_for_f32(); }
};

}  // namespace deepmd
