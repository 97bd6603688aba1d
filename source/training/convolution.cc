// SPDX-License-Identifier: LGPL-3.0-or-later
/** Convolutions of training.h, center by center. */
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"
#include "parallel.h"
#include "precision.h"
#include "training.h"

namespace deepmd::training {
namespace {

/** One center; `state` is handed from one function to the next. */
template <class T>
struct Center {
  const typename Kernels<T>::Functions& kernels;
  const int64_t k, a, c, both;
  const T *w, *y, *f, *h;
  T *m, *m_dot;
  // Scratch: (f, h) and its tangent, adjoints of (f, h) and of m, packed matrices.
  T *fh, *fh_dot, *fh_bar, *m_bar, *packed;

  template <class Layer>
  Center(const Layer& layer, int64_t i, T* work)
      : kernels(Kernels<T>::get()),
        k(layer.k),
        a(layer.a),
        c(layer.c),
        both(layer.a + 3),
        w(layer.w),
        y(layer.y + i * layer.k * layer.c),
        f(layer.f + i * layer.k * layer.a),
        h(layer.h + i * layer.k * 3),
        m(layer.state + i * state_size(layer)),
        m_dot(m + both * c),
        fh(work),
        fh_dot(fh + k * both),
        fh_bar(fh_dot + k * both),
        m_bar(fh_bar + k * both),
        packed(m_bar + both * c) {}

  template <class Layer>
  static int64_t state_size(const Layer& layer) {
    return 2 * (layer.a + 3) * layer.c;
  }
  template <class Layer>
  static int64_t work_size(const Layer& layer) {
    const auto size = Kernels<T>::get().packed_size;
    const int64_t k = layer.k, c = layer.c, both = layer.a + 3;
    return 3 * k * both + both * c + std::max({size(k, c), size(both, c), size(c, both)});
  }

  /** Rows (f, h), side by side. */
  void join(const T* some_f, const T* some_h, T* to) const {
    for (int64_t i = 0; i < k; ++i, to += both) {
      memcpy(to, some_f + i * a, static_cast<size_t>(a) * sizeof(T));
      memcpy(to + a, some_h + i * 3, 3 * sizeof(T));
    }
  }

  /** to (a + 3, c) = rows^T of, plus itself. */
  void contract(const T* rows, const T* of, T* to, bool add) const {
    kernels.pack(k, c, of, c, false, packed);
    kernels.multiply_turned(both, c, k, rows, both, packed, to, c, add);
  }

  /** Sums and moments of a matrix like m. */
  void outputs(const T* of, T* sums, T* moments) const {
    memset(sums, 0, static_cast<size_t>(c) * sizeof(T));
    for (int64_t i = 0; i < a; ++i) {
      for (int64_t q = 0; q < c; ++q) sums[q] += w[i * c + q] * of[i * c + q];
    }
    memcpy(moments, of + a * c, static_cast<size_t>(3 * c) * sizeof(T));
  }

  void value(T* sums, T* moments) const {
    join(f, h, fh);
    contract(fh, y, m, false);
    outputs(m, sums, moments);
  }

  /** Adjoint of m from those of the outputs. */
  void m_adjoint(const T* sums_bar, const T* moments_bar) const {
    for (int64_t i = 0; i < a; ++i) {
      for (int64_t q = 0; q < c; ++q) m_bar[i * c + q] = w[i * c + q] * sums_bar[q];
    }
    memcpy(m_bar + a * c, moments_bar, static_cast<size_t>(3 * c) * sizeof(T));
  }

  /** Adjoints of y and (f, h), plus themselves, from that of m and what these are. */
  void backward(const T* rows, const T* of, T* y_bar, bool add) const {
    kernels.pack(both, c, m_bar, c, false, packed);
    kernels.multiply(k, c, both, rows, both, packed, y_bar, c, add);
    kernels.pack(c, both, m_bar, c, true, packed);
    kernels.multiply(k, both, c, of, c, packed, fh_bar, both, add);
  }

  /** Adjoints of f and h from that of (f, h). */
  void divide(T* f_bar, T* h_bar) const {
    const T* from = fh_bar;
    for (int64_t i = 0; i < k; ++i, from += both) {
      memcpy(f_bar + i * a, from, static_cast<size_t>(a) * sizeof(T));
      memcpy(h_bar + i * 3, from + a, 3 * sizeof(T));
    }
  }

  void vjp(const T* sums_bar, const T* moments_bar, T* y_bar, T* f_bar, T* h_bar) const {
    join(f, h, fh);
    m_adjoint(sums_bar, moments_bar);
    backward(fh, y, y_bar, false);
    divide(f_bar, h_bar);
  }

  void jvp(const T* y_dot, const T* f_dot, const T* h_dot, T* sums_dot, T* moments_dot) const {
    join(f, h, fh);
    join(f_dot, h_dot, fh_dot);
    contract(fh_dot, y, m_dot, false);
    contract(fh, y_dot, m_dot, true);
    outputs(m_dot, sums_dot, moments_dot);
  }

  /** `w_bar` is added to. */
  void vjp_of_vjp(const T* sums_again, const T* moments_again, const T* sums_bar,
                  const T* moments_bar, const T* y_dot, const T* f_dot, const T* h_dot, T* y_bar,
                  T* f_bar, T* h_bar, T* w_bar) const {
    join(f, h, fh);
    join(f_dot, h_dot, fh_dot);
    m_adjoint(sums_again, moments_again);
    backward(fh, y, y_bar, false);
    m_adjoint(sums_bar, moments_bar);
    backward(fh_dot, y_dot, y_bar, true);
    divide(f_bar, h_bar);
    for (int64_t i = 0; i < a * c; i += c) {
      for (int64_t q = 0; q < c; ++q) {
        w_bar[i + q] += sums_again[q] * m[i + q] + sums_bar[q] * m_dot[i + q];
      }
    }
  }
};

/** Call work(center, its number, part) for all centers. */
template <class T, class Layer, class F>
void each(const Layer& layer, const F& work) {
  const int64_t parts = std::min(layer.n, kParts);
  const auto make = [&] { return std::vector<T>(Center<T>::work_size(layer)); };
  in_parts(parts, layer.threads, make, [&](std::vector<T>& scratch, int64_t part) {
    const Range centers = part_of(layer.n, part, parts);
    for (int64_t i = centers.first; i < centers.last; ++i) {
      work(Center<T>(layer, i, scratch.data()), i, part);
    }
  });
}

template <class T, class Layer>
void value(const Layer& layer, T* sums, T* moments) {
  each<T>(layer, [&](const Center<T>& center, int64_t i, int64_t) {
    center.value(sums + i * layer.c, moments + 3 * i * layer.c);
  });
}

template <class T, class Layer>
void vjp(const Layer& layer, const T* const* bar, T* const* out) {
  const int64_t k = layer.k, c = layer.c;
  each<T>(layer, [&](const Center<T>& center, int64_t i, int64_t) {
    center.vjp(bar[0] + i * c, bar[1] + 3 * i * c, out[0] + i * k * c, out[1] + i * k * layer.a,
               out[2] + 3 * i * k);
  });
}

template <class T, class Layer>
void jvp(const Layer& layer, const T* const* dot, T* sums_dot, T* moments_dot) {
  const int64_t k = layer.k, c = layer.c;
  each<T>(layer, [&](const Center<T>& center, int64_t i, int64_t) {
    center.jvp(dot[0] + i * k * c, dot[1] + i * k * layer.a, dot[2] + 3 * i * k, sums_dot + i * c,
               moments_dot + 3 * i * c);
  });
}

template <class T, class Layer>
void vjp_of_vjp(const Layer& layer, const T* const* again, const T* const* bar, const T* const* dot,
                T* const* out, T* w_bar) {
  const int64_t k = layer.k, a = layer.a, c = layer.c;
  // One set for every part, added up in their order: the same for any number of threads.
  std::vector<std::vector<T>> sums(std::min(layer.n, kParts), std::vector<T>(a * c, T(0)));
  each<T>(layer, [&](const Center<T>& center, int64_t i, int64_t part) {
    const int64_t row = i * c, moments = 3 * i * c, y = i * k * c, f = i * k * a, h = 3 * i * k;
    center.vjp_of_vjp(again[0] + row, again[1] + moments, bar[0] + row, bar[1] + moments,
                      dot[0] + y, dot[1] + f, dot[2] + h, out[0] + y, out[1] + f, out[2] + h,
                      sums[part].data());
  });
  std::fill_n(w_bar, a * c, T(0));
  for (const std::vector<T>& part : sums) {
    for (int64_t q = 0; q < a * c; ++q) w_bar[q] += part[q];
  }
}

}  // namespace
}  // namespace deepmd::training

#define DEEPMD_DEFINE_CONVOLUTION(T, S)                                                            \
  int64_t deepmd_convolution_state_##S(const deepmd_convolution_##S* layer) {                      \
    return layer->n * deepmd::training::Center<T>::state_size(*layer);                             \
  }                                                                                                \
  int32_t deepmd_convolution_value_##S(const deepmd_convolution_##S* layer, T* sums, T* moments) { \
    return deepmd::training::guarded([&] { deepmd::training::value(*layer, sums, moments); });     \
  }                                                                                                \
  int32_t deepmd_convolution_vjp_##S(const deepmd_convolution_##S* layer, const T* const* bar,     \
                                     T* const* out) {                                              \
    return deepmd::training::guarded([&] { deepmd::training::vjp<T>(*layer, bar, out); });         \
  }                                                                                                \
  int32_t deepmd_convolution_jvp_##S(const deepmd_convolution_##S* layer, const T* const* dot,     \
                                     T* sums_dot, T* moments_dot) {                                \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::jvp(*layer, dot, sums_dot, moments_dot); });                       \
  }                                                                                                \
  int32_t deepmd_convolution_vjp_of_vjp_##S(const deepmd_convolution_##S* layer,                   \
                                            const T* const* again, const T* const* bar,            \
                                            const T* const* dot, T* const* out, T* w_bar) {        \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::vjp_of_vjp(*layer, again, bar, dot, out, w_bar); });               \
  }

DEEPMD_DEFINE_CONVOLUTION(double, f64)
DEEPMD_DEFINE_CONVOLUTION(float, f32)
