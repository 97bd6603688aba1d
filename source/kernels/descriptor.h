// SPDX-License-Identifier: LGPL-3.0-or-later
/** Environment rows, and the product of their sums that is the descriptor. */
#pragma once

#include <math.h>

#include "kernels.h"
#include "vectors.h"

namespace {

/** d (width, axis) = S^T S_<. */
template <class T>
void symmetrize(int64_t width, int64_t axis, const T* sums, int64_t lds, T* d) {
  for (int64_t m = 0; m < width; ++m, d += axis) {
    for (int64_t a = 0; a < axis; a += kLanes<T>) {
      Vec<T> v = {};
      for (int c = 0; c < DEEPMD_ROW; ++c) v += sums[c * lds + m] * load<T>(sums + c * lds + a);
      if (a + kLanes<T> <= axis) {
        store<T>(d + a, v);
      } else {
        store_some<T>(d + a, v, axis - a);
      }
    }
  }
}

template <class T>
void symmetrize_backward(int64_t width, int64_t axis, const T* sums, int64_t lds, const T* d_bar,
                         T* sums_bar) {
  for (int64_t m = 0; m < width; ++m) {
    Vec<T> v[DEEPMD_ROW] = {};
    for (int64_t a = 0; a < axis; a += kLanes<T>) {
      const T* from = d_bar + m * axis + a;
      const int64_t n = axis - a;
      const Vec<T> bar = n >= kLanes<T> ? load<T>(from) : load_some<T>(from, n);
      for (int c = 0; c < DEEPMD_ROW; ++c) v[c] += bar * load<T>(sums + c * lds + a);
    }
    for (int c = 0; c < DEEPMD_ROW; ++c) sums_bar[c * lds + m] = sum<T>(v[c]);
  }
  for (int64_t a = 0; a < axis; a += kLanes<T>) {
    const int64_t n = axis - a;
    Vec<T> v[DEEPMD_ROW] = {};
    for (int64_t m = 0; m < width; ++m) {
      const T* from = d_bar + m * axis + a;
      const Vec<T> bar = n >= kLanes<T> ? load<T>(from) : load_some<T>(from, n);
      for (int c = 0; c < DEEPMD_ROW; ++c) v[c] += sums[c * lds + m] * bar;
    }
    for (int c = 0; c < DEEPMD_ROW; ++c) {
      T* to = sums_bar + c * lds + a;
      if (n >= kLanes<T>) {
        store<T>(to, load<T>(to) + v[c]);
      } else {
        store_some<T>(to, load_some<T>(to, n) + v[c], n);
      }
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
