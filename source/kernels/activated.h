// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Activated rows, some columns of which are weighted and summed over segments, with the
 * derivatives of a training step; see training.h for the formulas.
 */
#pragma once

#include <math.h>

#include "kernels.h"
#include "network.h"
#include "vectors.h"

namespace {

/** Value and first two derivatives of a function of a vector. */
template <class T>
struct Curve {
  Vec<T> value, slope, bend;
};

template <class T>
inline Curve<T> tanh_curve(Vec<T> x) {
  const Vec<T> y = tanh_of<T>(x), slope = T(1) - y * y;
  return {y, slope, T(-2) * y * slope};
}

template <class T>
inline Curve<T> silu_curve(Vec<T> x) {
  const Vec<T> s = T(0.5) * tanh_of<T>(T(0.5) * x) + T(0.5);
  const Vec<T> rest = T(1) - s, y = s * x, slope = s + y * rest;
  return {y, slope, rest * (s * (T(1) - y) + slope)};
}

/** Constants of the silu that a tanh continues beyond a threshold. */
template <class T>
struct Tail {
  T threshold, scale, shift;

  explicit Tail(double t) {
    const double s = 1.0 / (1.0 + exp(-t));
    threshold = static_cast<T>(t);
    scale = static_cast<T>(s + t * s * (1.0 - s));
    shift = static_cast<T>(t * s);
  }
};

/** Replace the numbers beyond the threshold. */
template <class T>
inline Curve<T> with_tail(Vec<T> x, const Curve<T>& low, const Tail<T>& tail) {
  const Curve<T> high = tanh_curve<T>(tail.scale * (x - tail.threshold));
  const auto below = x < tail.threshold;
  return {below ? low.value : high.value + tail.shift, below ? low.slope : high.slope * tail.scale,
          below ? low.bend : high.bend * (tail.scale * tail.scale)};
}

template <class T, int A>
void curve(int64_t n, const T* z, const Tail<T>& tail, T* value, T* slope, T* bend) {
  bool beyond = false;
  for (int64_t q = 0; A == DEEPMD_SILUT && q < n; ++q) beyond |= !(z[q] < tail.threshold);
  for (int64_t q = 0; q < n; q += kLanes<T>) {
    const bool whole = q + kLanes<T> <= n;
    const Vec<T> x = whole ? load<T>(z + q) : load_some<T>(z + q, n - q);
    Curve<T> c = A == DEEPMD_TANH ? tanh_curve<T>(x) : silu_curve<T>(x);
    if (beyond) c = with_tail<T>(x, c, tail);
    // The arrays have room for a whole vector.
    store<T>(value + q, c.value);
    if (slope) store<T>(slope + q, c.slope);
    if (bend) store<T>(bend + q, c.bend);
  }
}

/** Columns that are worked on together. */
constexpr int64_t kColumns = 128;

/** Call work(row, first column, number of columns, z) for all rows in pieces that fit. */
template <class F>
inline void pieces(int64_t rows, int64_t columns, const F& work) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t q = 0; q < columns; q += kColumns) work(i, q, smaller(kColumns, columns - q));
  }
}

template <class T, class A, int F>
struct Activated {
  static void value(const A& a, const T* z, T* sums, T* others) {
    const Tail<T> tail(a.threshold);
    const int64_t c = a.columns, m = a.summed;
    alignas(64) T y[kColumns + kLanes<T>];
    pieces(a.rows, c, [&](int64_t i, int64_t first, int64_t n) {
      curve<T, F>(n, z + i * c + first, tail, y, nullptr, nullptr);
      const int64_t mine = first >= m ? 0 : smaller(n, m - first);
      const int64_t to = a.segment[i] * m + first;
      const T w = a.weight[i];
      for (int64_t q = 0; q < mine; ++q) sums[to + q] += w * y[q];
      const int64_t at = i * (c - m) + first - m;
      for (int64_t q = mine; q < n; ++q) others[at + q] = y[q];
    });
  }

  static void vjp(const A& a, const T* z, const T* sums_bar, const T* others_bar, T* z_bar,
                  T* w_bar) {
    const Tail<T> tail(a.threshold);
    const int64_t c = a.columns, m = a.summed;
    alignas(64) T y[kColumns + kLanes<T>], slope[kColumns + kLanes<T>];
    for (int64_t i = 0; i < a.rows; ++i) w_bar[i] = T(0);
    pieces(a.rows, c, [&](int64_t i, int64_t first, int64_t n) {
      curve<T, F>(n, z + i * c + first, tail, y, slope, nullptr);
      const int64_t mine = first >= m ? 0 : smaller(n, m - first);
      const int64_t to = a.segment[i] * m + first, at = i * (c - m) + first - m;
      T* __restrict out = z_bar + i * c + first;
      const T w = a.weight[i];
      T total = T(0);
      for (int64_t q = 0; q < mine; ++q) {
        out[q] = w * sums_bar[to + q] * slope[q];
        y[q] *= sums_bar[to + q];
      }
      for (int64_t q = 0; q < mine; ++q) total += y[q];
      w_bar[i] += total;
      for (int64_t q = mine; q < n; ++q) out[q] = others_bar[at + q] * slope[q];
    });
  }

  static void jvp(const A& a, const T* z, const T* z_dot, const T* w_dot, T* sums_dot,
                  T* others_dot) {
    const Tail<T> tail(a.threshold);
    const int64_t c = a.columns, m = a.summed;
    alignas(64) T y[kColumns + kLanes<T>], slope[kColumns + kLanes<T>];
    pieces(a.rows, c, [&](int64_t i, int64_t first, int64_t n) {
      curve<T, F>(n, z + i * c + first, tail, y, slope, nullptr);
      const int64_t mine = first >= m ? 0 : smaller(n, m - first);
      const int64_t to = a.segment[i] * m + first, at = i * (c - m) + first - m;
      const T* __restrict dz = z_dot + i * c + first;
      const T w = a.weight[i], dw = w_dot[i];
      for (int64_t q = 0; q < mine; ++q) {
        sums_dot[to + q] += w * slope[q] * dz[q] + dw * y[q];
      }
      for (int64_t q = mine; q < n; ++q) others_dot[at + q] = slope[q] * dz[q];
    });
  }

  static void vjp_of_vjp(const A& a, const T* z, const T* sums_again, const T* others_again,
                         const T* sums_bar, const T* others_bar, const T* z_dot, const T* w_dot,
                         T* z_bar) {
    const Tail<T> tail(a.threshold);
    const int64_t c = a.columns, m = a.summed;
    alignas(64) T y[kColumns + kLanes<T>], slope[kColumns + kLanes<T>], bend[kColumns + kLanes<T>];
    pieces(a.rows, c, [&](int64_t i, int64_t first, int64_t n) {
      curve<T, F>(n, z + i * c + first, tail, y, slope, bend);
      const int64_t mine = first >= m ? 0 : smaller(n, m - first);
      // Positions, not pointers: without columns of a kind there is no array.
      const int64_t to = a.segment[i] * m + first, at = i * (c - m) + first - m;
      const T* dz = z_dot + i * c + first;
      const T w = a.weight[i], dw = w_dot[i];
      T* out = z_bar + i * c + first;
      for (int64_t q = 0; q < mine; ++q) {
        const T bar = sums_bar[to + q];
        out[q] = (w * sums_again[to + q] + dw * bar) * slope[q] + w * bar * bend[q] * dz[q];
      }
      for (int64_t q = mine; q < n; ++q) {
        out[q] = others_again[at + q] * slope[q] + others_bar[at + q] * bend[q] * dz[q];
      }
    });
  }
};

/** Call work with the functions of an activation. */
template <class T, class A, class W>
inline void with_activation(const A& a, const W& work) {
  if (a.activation == DEEPMD_TANH) {
    work(Activated<T, A, DEEPMD_TANH>());
  } else if (a.activation == DEEPMD_SILU) {
    work(Activated<T, A, DEEPMD_SILU>());
  } else {
    work(Activated<T, A, DEEPMD_SILUT>());
  }
}

template <class T, class A>
void activated_value(const A* a, const T* z, T* sums, T* others) {
  with_activation<T>(*a, [&](auto f) { f.value(*a, z, sums, others); });
}

template <class T, class A>
void activated_vjp(const A* a, const T* z, const T* sums_bar, const T* others_bar, T* z_bar,
                   T* w_bar) {
  with_activation<T>(*a, [&](auto f) { f.vjp(*a, z, sums_bar, others_bar, z_bar, w_bar); });
}

template <class T, class A>
void activated_jvp(const A* a, const T* z, const T* z_dot, const T* w_dot, T* sums_dot,
                   T* others_dot) {
  with_activation<T>(*a, [&](auto f) { f.jvp(*a, z, z_dot, w_dot, sums_dot, others_dot); });
}

template <class T, class A>
void activated_vjp_of_vjp(const A* a, const T* z, const T* sums_again, const T* others_again,
                          const T* sums_bar, const T* others_bar, const T* z_dot, const T* w_dot,
                          T* z_bar) {
  with_activation<T>(*a, [&](auto f) {
    f.vjp_of_vjp(*a, z, sums_again, others_again, sums_bar, others_bar, z_dot, w_dot, z_bar);
  });
}

}  // namespace
