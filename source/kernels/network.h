// SPDX-License-Identifier: LGPL-3.0-or-later
/** Activations of dense layers with their slopes, and the residual connections. */
#pragma once

#include <math.h>

#include "kernels.h"
#include "vectors.h"

namespace {

/** Columns that are worked on together. */
constexpr int64_t kGroupOfColumns = 256;

/** Value and slope of a function of a vector. */
template <class T>
struct Point {
  Vec<T> value, slope;
};

template <class T>
inline Point<T> tanh_at(Vec<T> x) {
  const Vec<T> y = tanh_of<T>(x);
  return {y, T(1) - y * y};
}

template <class T>
inline Point<T> sigmoid_at(Vec<T> x) {
  const Vec<T> y = T(0.5) * tanh_of<T>(T(0.5) * x) + T(0.5);
  return {y, y * (T(1) - y)};
}

template <class T>
inline Point<T> silu_at(Vec<T> x) {
  const Point<T> s = sigmoid_at<T>(x);
  return {x * s.value, s.value + x * s.slope};
}

/** The form with tanh. */
template <class T>
inline Point<T> gelu_at(Vec<T> x) {
  const T c = T(0.79788456080286535588), b = T(0.044715);
  const Vec<T> t = tanh_of<T>(c * (x + b * x * x * x));
  return {T(0.5) * x * (T(1) + t),
          T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * c * (T(1) + T(3) * b * x * x)};
}

template <class T>
inline Point<T> softplus_at(Vec<T> x) {
  T values[kLanes<T>];
  store<T>(values, x);
  for (T& v : values) {
    const double d = v;
    v = static_cast<T>((d > 0.0 ? d : 0.0 * d) + log1p(exp(-fabs(d))));
  }
  return {load<T>(values), sigmoid_at<T>(x).value};
}

/** Silu below a threshold, continued by a tanh. */
template <class T>
inline Point<T> silut_at(Vec<T> x, double threshold) {
  const double s = 1.0 / (1.0 + exp(-threshold));
  const T slope = static_cast<T>(s + threshold * s * (1.0 - s));
  const Point<T> below = silu_at<T>(x);
  const Point<T> above = tanh_at<T>(slope * (x - static_cast<T>(threshold)));
  const auto low = x < static_cast<T>(threshold);
  return {low ? below.value : above.value + static_cast<T>(threshold * s),
          low ? below.slope : above.slope * slope};
}

template <class T>
inline Point<T> relu_at(Vec<T> x, T most) {
  const Vec<T> zero = {};
  const Vec<T> low = x < T(0) ? zero : x;
  const auto inside = (x > T(0)) & (x < most);
  return {low > most ? splat(most) : low, inside ? splat(T(1)) : zero};
}

template <class T, int A>
inline Point<T> activation_at(Vec<T> x, double threshold) {
  (void)threshold;
  if constexpr (A == DEEPMD_TANH) return tanh_at<T>(x);
  if constexpr (A == DEEPMD_GELU) return gelu_at<T>(x);
  if constexpr (A == DEEPMD_RELU) return relu_at<T>(x, static_cast<T>(INFINITY));
  if constexpr (A == DEEPMD_RELU6) return relu_at<T>(x, T(6));
  if constexpr (A == DEEPMD_SOFTPLUS) return softplus_at<T>(x);
  if constexpr (A == DEEPMD_SIGMOID) return sigmoid_at<T>(x);
  if constexpr (A == DEEPMD_SILU) return silu_at<T>(x);
  if constexpr (A == DEEPMD_SILUT) return silut_at<T>(x, threshold);
  return {x, splat(T(1))};
}

/** y += x, or y += [x, x]. */
template <class T>
inline void add_input(int64_t width, int32_t copies, const T* x, T* y) {
  const int64_t n = copies == 0 ? 0 : width / copies;
  for (int32_t c = 0; c < copies; ++c) {
    for (int64_t q = 0; q < n; ++q) y[c * n + q] += x[q];
  }
}

template <class T, class Layer, int A>
void activate_as(const Layer& layer, int64_t m, const T* z, const T* x, int64_t ldx, T* y, T* slope,
                 int64_t ld) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t q = 0; q < layer.width; q += kLanes<T>) {
      Vec<T> v = load<T>(z + i * ld + q);
      if (layer.bias) v += load<T>(layer.bias + q);
      Point<T> p = activation_at<T, A>(v, layer.threshold);
      if (layer.step) {
        const Vec<T> step = load<T>(layer.step + q);
        p.value *= step;
        p.slope *= step;
      }
      store<T>(y + i * ld + q, p.value);
      if (slope) store<T>(slope + i * ld + q, p.slope);
    }
    add_input(layer.width, layer.copies, x + i * ldx, y + i * ld);
  }
}

template <class T, class Layer>
void activate(const Layer* layer, int64_t m, const T* z, const T* x, int64_t ldx, T* y, T* slope,
              int64_t ld) {
  const auto run = [&](auto f) { f(*layer, m, z, x, ldx, y, slope, ld); };
  switch (layer->activation) {
    case DEEPMD_TANH:
      return run(activate_as<T, Layer, DEEPMD_TANH>);
    case DEEPMD_GELU:
      return run(activate_as<T, Layer, DEEPMD_GELU>);
    case DEEPMD_RELU:
      return run(activate_as<T, Layer, DEEPMD_RELU>);
    case DEEPMD_RELU6:
      return run(activate_as<T, Layer, DEEPMD_RELU6>);
    case DEEPMD_SOFTPLUS:
      return run(activate_as<T, Layer, DEEPMD_SOFTPLUS>);
    case DEEPMD_SIGMOID:
      return run(activate_as<T, Layer, DEEPMD_SIGMOID>);
    case DEEPMD_SILU:
      return run(activate_as<T, Layer, DEEPMD_SILU>);
    case DEEPMD_SILUT:
      return run(activate_as<T, Layer, DEEPMD_SILUT>);
    default:
      return run(activate_as<T, Layer, DEEPMD_LINEAR>);
  }
}

template <class T, class Layer>
void activate_tangent(const Layer* layer, int64_t m, const T* slope, const T* dz, const T* dx,
                      int64_t ldx, T* dy, int64_t ld) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t q = 0; q < layer->width; q += kLanes<T>) {
      const int64_t at = i * ld + q;
      store<T>(dy + at, load<T>(dz + at) * load<T>(slope + at));
    }
    add_input(layer->width, layer->copies, dx + i * ldx, dy + i * ld);
  }
}

template <class T>
void activate_backward(int64_t n, const T* y_bar, const T* slope, T* z_bar) {
  int64_t q = 0;
  for (; q + kLanes<T> <= n; q += kLanes<T>) {
    store<T>(z_bar + q, load<T>(y_bar + q) * load<T>(slope + q));
  }
  for (; q < n; ++q) z_bar[q] = y_bar[q] * slope[q];
}

template <class T, class Layer>
void tanh_pair_backward(const Layer* layer, int64_t m, const T* y, const T* x, int64_t ldx,
                        const T* y_bar, T* z_bar, int64_t ld) {
  const int64_t width = layer->width, half = m * ld, n = layer->copies ? width / layer->copies : 0;
  for (int64_t i = 0; i < m; ++i) {
    // Without the input: tanh(z) = t and its derivative, 1 - t^2 times dz.
    T t[kGroupOfColumns], dt[kGroupOfColumns];
    for (int64_t begin = 0; begin < width;) {
      int64_t end = smaller(width, begin + kGroupOfColumns);
      const int64_t copy = n ? begin / n : 0;
      if (n) end = smaller(end, (copy + 1) * n);
      const int64_t count = end - begin, at = i * ld + begin;
      for (int64_t q = 0; q < count; ++q) {
        t[q] = y[at + q];
        dt[q] = y[half + at + q];
      }
      const T* from = x + i * ldx + begin - copy * n;
      for (int64_t q = 0; n && q < count; ++q) {
        t[q] -= from[q];
        dt[q] -= from[m * ldx + q];
      }
      for (int64_t q = 0; q < count; ++q) {
        const T slope = T(1) - t[q] * t[q], bar = y_bar[half + at + q];
        z_bar[at + q] = y_bar[at + q] * slope - T(2) * t[q] * dt[q] * bar;
        z_bar[half + at + q] = bar * slope;
      }
      begin = end;
    }
  }
}

template <class T, class Layer>
void add_copies(const Layer* layer, int64_t m, const T* y_bar, int64_t ld, T* x_bar, int64_t ldx) {
  const int64_t n = layer->copies == 0 ? 0 : layer->width / layer->copies;
  for (int64_t i = 0; i < m; ++i) {
    for (int32_t c = 0; c < layer->copies; ++c) {
      for (int64_t q = 0; q < n; ++q) x_bar[i * ldx + q] += y_bar[i * ld + c * n + q];
    }
  }
}

}  // namespace
