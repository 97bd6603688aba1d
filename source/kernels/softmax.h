// SPDX-License-Identifier: LGPL-3.0-or-later
/** What the kernels of attention share: sums over rows, and the switched softmax of their weights.
 */
#pragma once

#include <math.h>

#include "gemm.h"
#include "maps.h"
#include "vectors.h"

namespace {

/** The constant of the softmax: exp(-c) is left of a neighbor at the cutoff. */
constexpr double kShift = 20.0;

template <class T>
inline T dot(int64_t n, const T* a, const T* b) {
  Vec<T> total = {};
  int64_t q = 0;
  for (; q + kLanes<T> <= n; q += kLanes<T>) total += load<T>(a + q) * load<T>(b + q);
  T rest = sum<T>(total);
  for (; q < n; ++q) rest += a[q] * b[q];
  return rest;
}

template <class T>
inline T total_of(int64_t n, const T* a) {
  Vec<T> total = {};
  int64_t q = 0;
  for (; q + kLanes<T> <= n; q += kLanes<T>) total += load<T>(a + q);
  T rest = sum<T>(total);
  for (; q < n; ++q) rest += a[q];
  return rest;
}

/** y += f x */
template <class T>
inline void add_times(int64_t n, T f, const T* __restrict x, T* __restrict y) {
  for (int64_t q = 0; q < n; ++q) y[q] += f * x[q];
}

/** x = exp(x - top), and their sum. */
template <class T>
inline T exponentials(int64_t n, T top, T* x) {
  int64_t q = 0;
  for (; q + kLanes<T> <= n; q += kLanes<T>) store<T>(x + q, exp_of<T>(load<T>(x + q) - top));
  if (q < n) store_some<T>(x + q, exp_of<T>(load_some<T>(x + q, n - q) - top), n - q);
  return total_of<T>(n, x);
}

template <class T>
inline T cosine_of(const T* a, const T* b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/**
 * w = softmax(up pair - c) of one row, pair = sw sw_j and c the constant; `more` empty slots count
 * in the denominator.
 */
template <class T>
inline void switched_softmax(int64_t n, const T* up, T sw, const T* sw_j, int64_t more, T* w) {
  const T shift = static_cast<T>(kShift);
  T top = -shift;
  for (int64_t j = 0; j < n; ++j) w[j] = up[j] * (sw * sw_j[j]) - shift;
  for (int64_t j = 0; j < n; ++j) top = w[j] > top ? w[j] : top;
  const T empty = static_cast<T>(exp(static_cast<double>(-shift - top)));
  const T all = exponentials<T>(n, top, w) + static_cast<T>(more) * empty;
  for (int64_t j = 0; j < n; ++j) w[j] /= all;
}

/**
 * Adjoints of switches and directions from those of pair = sw sw and cos = u u in one row.
 *
 * Rows are visited one after the other; each adds to what all of its slots have.
 */
template <class T>
inline void add_geometry(int64_t n, int64_t i, const T* pair_bar, const T* cos_bar, const T* sw,
                         const T* unit, T* sw_bar, T* unit_bar) {
  const T *u = unit + 3 * i, mine_sw = sw[i];
  T mine = T(0), direction[3] = {};
  for (int64_t j = 0; j < n; ++j) {
    mine += pair_bar[j] * sw[j];
    sw_bar[j] += pair_bar[j] * mine_sw;
    for (int d = 0; d < 3; ++d) {
      direction[d] += cos_bar[j] * unit[3 * j + d];
      unit_bar[3 * j + d] += cos_bar[j] * u[d];
    }
  }
  sw_bar[i] += mine;
  for (int d = 0; d < 3; ++d) unit_bar[3 * i + d] += direction[d];
}

}  // namespace
