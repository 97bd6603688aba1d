// SPDX-License-Identifier: LGPL-3.0-or-later
/** Chebyshev polynomials. */
#pragma once

#include "vectors.h"

namespace {

/** T_{j+w} = 2 T_w T_j - T_{j-w} for w numbers at once. */
template <class T>
void chebyshev(int64_t n, int64_t terms, const T* x, T* values, int64_t ld) {
  constexpr int64_t w = kLanes<T>;
  for (int64_t e = 0; e < n; ++e) {
    T first[w + 1], before[w];
    first[0] = T(1);
    first[1] = x[e];
    for (int64_t j = 2; j <= w; ++j) first[j] = T(2) * x[e] * first[j - 1] - first[j - 2];
    for (int64_t j = 0; j < w; ++j) before[j] = first[w - j];
    Vec<T> a = load<T>(before), b = load<T>(first);
    const T twice = T(2) * first[w];
    for (int64_t q = 0; q < terms; q += w) {
      store<T>(values + e * ld + q, b);
      const Vec<T> next = twice * b - a;
      a = b;
      b = next;
    }
  }
}

}  // namespace
