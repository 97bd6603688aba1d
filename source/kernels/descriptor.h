// SPDX-License-Identifier: LGPL-3.0-or-later
/** Environment rows, and the product of their sums that is the descriptor. */
#pragma once

#include <math.h>

#include "kernels.h"
#include "vectors.h"

namespace {

/** Rows of a product (width, axis), the square before which may be folded. */
struct ProductRows {
  int64_t axis;
  bool folded;

  /** First column that a row has. */
  int64_t first(int64_t m) const { return folded && m < axis ? m : 0; }
  /** Place of column 0, whether the row has it or not. */
  int64_t start(int64_t m) const {
    if (!folded) return m * axis;
    return m < axis ? m * axis - m * (m + 1) / 2 : m * axis - axis * (axis - 1) / 2;
  }
  /** Columns from a on; those that the row does not have are zero. */
  template <class T>
  Vec<T> at(const T* d, int64_t m, int64_t a) const {
    const int64_t begin = first(m);
    d += start(m);
    if (a >= begin && a + kLanes<T> <= axis) return load<T>(d + a);
    T some[kLanes<T>] = {};
    for (int64_t k = begin > a ? begin - a : 0; k < kLanes<T> && a + k < axis; ++k) {
      some[k] = d[a + k];
    }
    return load<T>(some);
  }
};

/** Two rows of d = S^T S_<, of whole vectors. */
template <class T>
inline void two_rows(int64_t axis, const T* sums, int64_t lds, int64_t m, T* d) {
  for (int64_t a = 0; a < axis; a += kLanes<T>) {
    Vec<T> low = {}, high = {};
#pragma GCC unroll 4
    for (int c = 0; c < DEEPMD_ROW; ++c) {
      const Vec<T> from = load<T>(sums + c * lds + a);
      low += sums[c * lds + m] * from;
      high += sums[c * lds + m + 1] * from;
    }
    store<T>(d + a, low);
    store<T>(d + axis + a, high);
  }
}

/** One row, from a column on. */
template <class T>
inline void one_row(int64_t first, int64_t axis, const T* sums, int64_t lds, int64_t m, T* d) {
  for (int64_t a = first; a < axis; a += kLanes<T>, d += kLanes<T>) {
    const int64_t n = smaller(kLanes<T>, axis - a);
    Vec<T> v = {};
    for (int c = 0; c < DEEPMD_ROW; ++c) {
      const T* from = sums + c * lds + a;
      v += sums[c * lds + m] * (n == kLanes<T> ? load<T>(from) : load_some<T>(from, n));
    }
    if (n == kLanes<T>) {
      store<T>(d, v);
    } else {
      store_some<T>(d, v, n);
    }
  }
}

template <class T>
void symmetrize(int64_t width, int64_t axis, const T* sums, int64_t lds, int32_t folded, T* d) {
  const ProductRows rows{axis, folded != 0};
  const bool whole = axis % kLanes<T> == 0;
  int64_t m = 0;
  while (m < width) {
    const int64_t first = rows.first(m);
    T* to = d + rows.start(m) + first;
    if (whole && first == 0 && m + 1 < width && rows.first(m + 1) == 0) {
      two_rows<T>(axis, sums, lds, m, to);
      m += 2;
    } else {
      one_row<T>(first, axis, sums, lds, m++, to);
    }
  }
}

/** Add products of rows from m on with the first sums to sums_bar, as far as rows are whole. */
template <class T>
inline int64_t add_rows(int64_t width, int64_t axis, const T* sums, int64_t lds, const T* d_bar,
                        int64_t m, T* sums_bar) {
  for (; m + 1 < width; m += 2, d_bar += 2 * axis) {
    Vec<T> low[DEEPMD_ROW] = {}, high[DEEPMD_ROW] = {};
    for (int64_t a = 0; a < axis; a += kLanes<T>) {
      const Vec<T> one = load<T>(d_bar + a), other = load<T>(d_bar + axis + a);
#pragma GCC unroll 4
      for (int c = 0; c < DEEPMD_ROW; ++c) {
        const Vec<T> from = load<T>(sums + c * lds + a);
        low[c] += one * from;
        high[c] += other * from;
      }
    }
    T row[2][DEEPMD_ROW];
    sum_four<T>(low, row[0]);
    sum_four<T>(high, row[1]);
    for (int c = 0; c < DEEPMD_ROW; ++c) {
      sums_bar[c * lds + m] = row[0][c];
      sums_bar[c * lds + m + 1] = row[1][c];
    }
  }
  return m;
}

template <class T>
void symmetrize_backward(int64_t width, int64_t axis, const T* sums, int64_t lds, const T* d_bar,
                         int32_t folded, T* sums_bar) {
  constexpr int64_t w = kLanes<T>;
  const ProductRows rows{axis, folded != 0};
  const int64_t square = folded ? axis : 0;
  int64_t m = 0;
  while (m < width) {
    if (axis % w == 0 && m == square) {
      m = add_rows<T>(width, axis, sums, lds, d_bar + rows.start(m), m, sums_bar);
      if (m == width) break;
    }
    Vec<T> v[DEEPMD_ROW] = {};
    T row[DEEPMD_ROW];
    for (int64_t a = 0; a < axis; a += w) {
      const Vec<T> bar = rows.at(d_bar, m, a);
      for (int c = 0; c < DEEPMD_ROW; ++c) v[c] += bar * load<T>(sums + c * lds + a);
    }
    sum_four<T>(v, row);
    for (int c = 0; c < DEEPMD_ROW; ++c) sums_bar[c * lds + m] = row[c];
    ++m;
  }
  // Two vectors of columns: the sums of one alone would wait for each other.
  for (int64_t a = 0; a < axis; a += 2 * w) {
    Vec<T> low[DEEPMD_ROW] = {}, high[DEEPMD_ROW] = {};
    const auto add = [&](int64_t k, Vec<T> one, Vec<T> other) {
#pragma GCC unroll 4
      for (int c = 0; c < DEEPMD_ROW; ++c) {
        low[c] += sums[c * lds + k] * one;
        high[c] += sums[c * lds + k] * other;
      }
    };
    const int64_t plain = a + 2 * w <= axis ? square : width;
    for (m = 0; m < plain; ++m) add(m, rows.at(d_bar, m, a), rows.at(d_bar, m, a + w));
    const T* from = d_bar + rows.start(m) + a;
    for (; m < width; ++m, from += axis) add(m, load<T>(from), load<T>(from + w));
    for (int c = 0; c < DEEPMD_ROW; ++c) {
      T both[2 * w];
      store<T>(both, low[c]);
      store<T>(both + w, high[c]);
      for (int64_t k = 0; k < 2 * w && a + k < axis; ++k) sums_bar[c * lds + a + k] += both[k];
    }
  }
}

/** Edges whose rows are computed together. */
constexpr int64_t kGroup = 64;

template <class T>
void environment(const deepmd_environment* settings, int64_t n, const int64_t* edge,
                 const double* vec, T* r, double* slopes) {
  const deepmd_environment& s = *settings;
  const double inverse_width = 1.0 / (s.rcut - s.rcut_smth);
  const double least = s.protection != 0.0 ? 1e-40 : 0.0;
  for (int64_t first = 0; first < n; first += kGroup) {
    const int64_t count = smaller(kGroup, n - first);
    double d[3][kGroup], radial[kGroup], angular[kGroup], f[DEEPMD_ROW_SLOPES][kGroup];
    for (int64_t k = 0; k < count; ++k) {
      for (int a = 0; a < 3; ++a) d[a][k] = vec[3 * edge[first + k] + a];
    }
    for (int64_t k = 0; k < count; ++k) {
      double squared = d[0][k] * d[0][k] + d[1][k] * d[1][k] + d[2][k] * d[2][k];
      squared = squared < least ? least : squared;
      const double length = sqrt(squared), inverse = 1.0 / (length + s.protection);
      double u = (length - s.rcut_smth) * inverse_width;
      u = u < 0.0 ? 0.0 : u;
      u = u > 1.0 ? 1.0 : u;
      const double sw = u * u * u * (u * (-6.0 * u + 15.0) - 10.0) + 1.0;
      const double fall = u * u * (u * (-30.0 * u + 60.0) - 30.0) * inverse_width;
      radial[k] = sw * inverse;
      angular[k] = radial[k] * inverse;
      f[0][k] = 1.0 / length;
      f[1][k] = (fall - radial[k]) * inverse;
      f[2][k] = angular[k];
      f[3][k] = (fall - 2.0 * radial[k]) * inverse * inverse;
    }
    for (int64_t k = 0; k < count; ++k) {
      T* row = r + DEEPMD_ROW * (first + k);
      row[0] = static_cast<T>((radial[k] - s.mean[0]) * s.inverse_deviation[0]);
      for (int a = 0; a < 3; ++a) {
        row[a + 1] =
            static_cast<T>((angular[k] * d[a][k] - s.mean[a + 1]) * s.inverse_deviation[a + 1]);
      }
      for (int a = 0; a < DEEPMD_ROW_SLOPES; ++a) {
        slopes[DEEPMD_ROW_SLOPES * (first + k) + a] = f[a][k];
      }
    }
  }
}

template <class T>
void environment_backward(const deepmd_environment* settings, int64_t n, const int64_t* edge,
                          const double* vec, const double* slopes, const T* r_bar, double* gradient,
                          int64_t stride) {
  const double* scale = settings->inverse_deviation;
  for (int64_t k = 0; k < n; ++k) {
    const double* d = vec + 3 * edge[k];
    const double* f = slopes + DEEPMD_ROW_SLOPES * k;
    const T* bar = r_bar + DEEPMD_ROW * k;
    double g[3], along = 0.0;
    for (int a = 0; a < 3; ++a) {
      g[a] = bar[a + 1] * scale[a + 1];
      along += g[a] * d[a];
    }
    const double radial = (bar[0] * scale[0] * f[1] + along * f[3]) * f[0];
    double* to = gradient + stride * edge[k];
    for (int a = 0; a < 3; ++a) to[a] += radial * d[a] + g[a] * f[2];
  }
}

}  // namespace
