// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Sum over numbers s of s G(s), G a small network of tanh layers of the one number, with the
 * derivatives of a training step; see training.h for the formulas.
 *
 * Value y and slope dy = dy/ds of all layers are carried along together. Numbers come in groups: a
 * row of a work array holds those of a group for one function.
 */
#pragma once

#include "kernels.h"
#include "vectors.h"

namespace {

/** Vectors in a group: chains of operations that the processor works on at the same time. */
constexpr int kVectors = 4;
template <class T>
constexpr int64_t kNumbers = kVectors * kLanes<T>;

template <class T>
using Group = Vec<T>[kVectors];

/** Values and slopes of all layers, the input first, and the layers without what they add. */
template <class T>
struct Jets {
  alignas(64) T y[DEEPMD_SCALAR_ROWS][kNumbers<T>];
  alignas(64) T dy[DEEPMD_SCALAR_ROWS][kNumbers<T>];
  alignas(64) T t[DEEPMD_SCALAR_ROWS][kNumbers<T>];
  alignas(64) T dt[DEEPMD_SCALAR_ROWS][kNumbers<T>];
};

template <class T>
inline void load_group(const T* from, Group<T>& v) {
  for (int i = 0; i < kVectors; ++i) v[i] = load<T>(from + i * kLanes<T>);
}

template <class T>
inline void store_group(T* to, const Group<T>& v) {
  for (int i = 0; i < kVectors; ++i) store<T>(to + i * kLanes<T>, v[i]);
}

template <class T, class Net>
struct Scalar {
  using Rows = T (*)[kNumbers<T>];

  const Net& net;
  Jets<T> jets;
  int64_t last;  // first row of the last layer

  explicit Scalar(const Net& n) : net(n), last(0) {
    for (int64_t l = 0; l < net.layers; ++l) last += net.widths[l];
  }

  int64_t width() const { return net.widths[net.layers]; }

  /** Read numbers of a group; those beyond the last are zero. */
  static void read(int64_t n, const T* from, T* to) {
    for (int64_t q = 0; q < kNumbers<T>; ++q) to[q] = q < n ? from[q] : T(0);
  }

  /** Evaluate all layers for n numbers. */
  void forward(int64_t n, const T* s) {
    read(n, s, jets.y[0]);
    for (int64_t q = 0; q < kNumbers<T>; ++q) jets.dy[0][q] = T(1);
    int64_t at = 0;
    for (int64_t l = 0; l < net.layers; ++l) {
      layer(l, at, at + net.widths[l]);
      at += net.widths[l];
    }
  }

  /** One layer, from the rows at `in` to those at `out`. */
  void layer(int64_t l, int64_t in, int64_t out) {
    const int64_t n_in = net.widths[l], n_out = net.widths[l + 1];
    for (int64_t q = 0; q < n_out; ++q) {
      Group<T> z, dz, x;
      for (int i = 0; i < kVectors; ++i) {
        z[i] = splat(net.b[l][q]);
        dz[i] = Vec<T>{};
      }
      for (int64_t p = 0; p < n_in; ++p) {
        const T w = net.w[l][p * n_out + q];
        load_group<T>(jets.y[in + p], x);
        for (int i = 0; i < kVectors; ++i) z[i] += w * x[i];
        load_group<T>(jets.dy[in + p], x);
        for (int i = 0; i < kVectors; ++i) dz[i] += w * x[i];
      }
      for (int i = 0; i < kVectors; ++i) z[i] = tanh_of<T>(z[i]);
      for (int i = 0; i < kVectors; ++i) dz[i] *= T(1) - z[i] * z[i];
      store_group<T>(jets.t[out + q], z);
      store_group<T>(jets.dt[out + q], dz);
      if (net.copies[l]) {
        const int64_t from = in + q % n_in;
        load_group<T>(jets.y[from], x);
        for (int i = 0; i < kVectors; ++i) z[i] += x[i];
        load_group<T>(jets.dy[from], x);
        for (int i = 0; i < kVectors; ++i) dz[i] += x[i];
      }
      store_group<T>(jets.y[out + q], z);
      store_group<T>(jets.dy[out + q], dz);
    }
  }

  /** Add the adjoints of all parameters, from those of the last layer in `bar` and `dbar`. */
  void backward(Rows bar, Rows dbar, Rows below, Rows dbelow, T* sums) const {
    int64_t out = last, at = 0;
    for (int64_t l = 0; l < net.layers; ++l) at += (net.widths[l] + 1) * net.widths[l + 1];
    for (int64_t l = net.layers; l-- > 0;) {
      const int64_t n_in = net.widths[l], n_out = net.widths[l + 1], in = out - n_in;
      at -= (n_in + 1) * n_out;
      for (int64_t p = 0; p < n_in; ++p) copied(l, p, bar, below[p]);
      for (int64_t p = 0; p < n_in; ++p) copied(l, p, dbar, dbelow[p]);
      T* b_sums = sums + (at + n_in * n_out) * kLanes<T>;
      for (int64_t q = 0; q < n_out; ++q) {
        Group<T> z, dz;
        linear(out + q, bar[q], dbar[q], z, dz);
        Vec<T> total = load<T>(b_sums + q * kLanes<T>);
        for (int i = 0; i < kVectors; ++i) total += z[i];
        store<T>(b_sums + q * kLanes<T>, total);
        for (int64_t p = 0; p < n_in; ++p) {
          weight(in + p, z, dz, sums + (at + p * n_out + q) * kLanes<T>);
          if (l > 0) add(net.w[l][p * n_out + q], z, dz, below[p], dbelow[p]);
        }
      }
      const Rows y = bar, dy = dbar;
      bar = below, dbar = dbelow, below = y, dbelow = dy;
      out = in;
    }
  }

 private:
  /** Adjoint of a row of the input as far as it is added to the output. */
  void copied(int64_t l, int64_t p, Rows bar, T* below) const {
    Group<T> sum = {}, x;
    for (int64_t c = 0; c < net.copies[l]; ++c) {
      load_group<T>(bar[p + c * net.widths[l]], x);
      for (int i = 0; i < kVectors; ++i) sum[i] += x[i];
    }
    store_group<T>(below, sum);
  }

  /** Adjoints of z and dz in t = tanh(z) and dt = tanh'(z) dz. */
  void linear(int64_t row, const T* bar, const T* dbar, Group<T>& z, Group<T>& dz) const {
    Group<T> t, dt, y, dy;
    load_group<T>(jets.t[row], t);
    load_group<T>(jets.dt[row], dt);
    load_group<T>(bar, y);
    load_group<T>(dbar, dy);
    for (int i = 0; i < kVectors; ++i) {
      const Vec<T> slope = T(1) - t[i] * t[i];
      z[i] = y[i] * slope - T(2) * t[i] * dt[i] * dy[i];
      dz[i] = dy[i] * slope;
    }
  }

  void weight(int64_t row, const Group<T>& z, const Group<T>& dz, T* sums) const {
    Group<T> y, dy;
    load_group<T>(jets.y[row], y);
    load_group<T>(jets.dy[row], dy);
    Vec<T> total = load<T>(sums);
    for (int i = 0; i < kVectors; ++i) total += y[i] * z[i] + dy[i] * dz[i];
    store<T>(sums, total);
  }

  static void add(T w, const Group<T>& z, const Group<T>& dz, T* below, T* dbelow) {
    Group<T> x;
    load_group<T>(below, x);
    for (int i = 0; i < kVectors; ++i) x[i] += w * z[i];
    store_group<T>(below, x);
    load_group<T>(dbelow, x);
    for (int i = 0; i < kVectors; ++i) x[i] += w * dz[i];
    store_group<T>(dbelow, x);
  }
};

template <class T, class Net>
void scalar_value(const Net* net, int64_t n, const T* s, T* sums) {
  Scalar<T, Net> g(*net);
  alignas(64) T totals[DEEPMD_SCALAR_ROWS][kLanes<T>] = {};
  for (int64_t k = 0; k < n; k += kNumbers<T>) {
    g.forward(n - k, s + k);
    Group<T> x, y;
    load_group<T>(g.jets.y[0], x);
    for (int64_t m = 0; m < g.width(); ++m) {
      load_group<T>(g.jets.y[g.last + m], y);
      Vec<T> total = load<T>(totals[m]);
      for (int i = 0; i < kVectors; ++i) total += x[i] * y[i];
      store<T>(totals[m], total);
    }
  }
  for (int64_t m = 0; m < g.width(); ++m) sums[m] += sum<T>(load<T>(totals[m]));
}

template <class T, class Net>
void scalar_vjp(const Net* net, int64_t n, const T* s, const T* bar, T* s_bar) {
  Scalar<T, Net> g(*net);
  alignas(64) T out[kNumbers<T>];
  for (int64_t k = 0; k < n; k += kNumbers<T>) {
    g.forward(n - k, s + k);
    Group<T> total = {}, x, y, dy;
    load_group<T>(g.jets.y[0], x);
    for (int64_t m = 0; m < g.width(); ++m) {
      load_group<T>(g.jets.y[g.last + m], y);
      load_group<T>(g.jets.dy[g.last + m], dy);
      for (int i = 0; i < kVectors; ++i) total[i] += bar[m] * (y[i] + x[i] * dy[i]);
    }
    store_group<T>(out, total);
    for (int64_t q = 0; q < smaller(kNumbers<T>, n - k); ++q) s_bar[k + q] = out[q];
  }
}

template <class T, class Net>
void scalar_jvp(const Net* net, int64_t n, const T* s, const T* s_dot, T* sums_dot) {
  Scalar<T, Net> g(*net);
  alignas(64) T totals[DEEPMD_SCALAR_ROWS][kLanes<T>] = {};
  alignas(64) T change[kNumbers<T>];
  for (int64_t k = 0; k < n; k += kNumbers<T>) {
    g.forward(n - k, s + k);
    g.read(n - k, s_dot + k, change);
    Group<T> x, dx, y, dy;
    load_group<T>(g.jets.y[0], x);
    load_group<T>(change, dx);
    for (int64_t m = 0; m < g.width(); ++m) {
      load_group<T>(g.jets.y[g.last + m], y);
      load_group<T>(g.jets.dy[g.last + m], dy);
      Vec<T> total = load<T>(totals[m]);
      for (int i = 0; i < kVectors; ++i) total += dx[i] * (y[i] + x[i] * dy[i]);
      store<T>(totals[m], total);
    }
  }
  for (int64_t m = 0; m < g.width(); ++m) sums_dot[m] += sum<T>(load<T>(totals[m]));
}

template <class T, class Net>
void scalar_vjp_of_vjp(const Net* net, int64_t n, const T* s, const T* again, const T* bar,
                       const T* s_dot, T* sums) {
  Scalar<T, Net> g(*net);
  alignas(64) T arrays[4][DEEPMD_SCALAR_ROWS][kNumbers<T>];
  alignas(64) T change[kNumbers<T>];
  for (int64_t k = 0; k < n; k += kNumbers<T>) {
    g.forward(n - k, s + k);
    g.read(n - k, s_dot + k, change);
    Group<T> x, dx, y;
    load_group<T>(g.jets.y[0], x);
    load_group<T>(change, dx);
    for (int64_t m = 0; m < g.width(); ++m) {
      for (int i = 0; i < kVectors; ++i) y[i] = again[m] * x[i] + bar[m] * dx[i];
      store_group<T>(arrays[0][m], y);
      for (int i = 0; i < kVectors; ++i) y[i] = bar[m] * x[i] * dx[i];
      store_group<T>(arrays[1][m], y);
    }
    g.backward(arrays[0], arrays[1], arrays[2], arrays[3], sums);
  }
}

}  // namespace
