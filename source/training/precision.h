// SPDX-License-Identifier: LGPL-3.0-or-later
/** Structures of training.h by the type of their numbers, and its statuses. */
#pragma once

#include <cstdint>
#include <exception>

#include "kernels/precision.h"
#include "training.h"

namespace deepmd::training {

/** deepmd_rows of a precision. */
template <class T>
struct RowsOf;
template <>
struct RowsOf<double> {
  using type = deepmd_rows_f64;
};
template <>
struct RowsOf<float> {
  using type = deepmd_rows_f32;
};

/** deepmd_batch of a precision. */
template <class T>
struct BatchOf;
template <>
struct BatchOf<double> {
  using type = deepmd_batch_f64;
};
template <>
struct BatchOf<float> {
  using type = deepmd_batch_f32;
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
