// SPDX-License-Identifier: LGPL-3.0-or-later
/** The scalar sum of training.h. */
#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/kernels.h"
#include "parallel.h"
#include "precision.h"
#include "training.h"

namespace deepmd::training {
namespace {

/** Call work(arrays, center, part) for n centers, by threads with arrays of their own. */
template <class Make, class F>
void each(int64_t n, int32_t threads, const Make& make, const F& work) {
  const int64_t parts = std::min(n, kParts);
  in_parts(parts, threads, make, [&](auto& arrays, int64_t part) {
    const Range centers = part_of(n, part, parts);
    for (int64_t i = centers.first; i < centers.last; ++i) work(arrays, i, part);
  });
}

int nothing() { return 0; }

template <class Net, class T>
void scalar_value(const Net& net, int64_t n, int64_t k, const T* s, int32_t threads, T* sums) {
  const int64_t width = net.widths[net.layers];
  std::fill_n(sums, n * width, T(0));
  each(n, threads, nothing, [&](int, int64_t i, int64_t) {
    Kernels<T>::get().scalar_value(&net, k, s + i * k, sums + i * width);
  });
}

template <class Net, class T>
void scalar_vjp(const Net& net, int64_t n, int64_t k, const T* s, const T* bar, int32_t threads,
                T* s_bar) {
  const int64_t width = net.widths[net.layers];
  each(n, threads, nothing, [&](int, int64_t i, int64_t) {
    Kernels<T>::get().scalar_vjp(&net, k, s + i * k, bar + i * width, s_bar + i * k);
  });
}

template <class Net, class T>
void scalar_jvp(const Net& net, int64_t n, int64_t k, const T* s, const T* s_dot, int32_t threads,
                T* sums_dot) {
  const int64_t width = net.widths[net.layers];
  std::fill_n(sums_dot, n * width, T(0));
  each(n, threads, nothing, [&](int, int64_t i, int64_t) {
    Kernels<T>::get().scalar_jvp(&net, k, s + i * k, s_dot + i * k, sums_dot + i * width);
  });
}

template <class Net, class T>
void scalar_vjp_of_vjp(const Net& net, int64_t n, int64_t k, const T* s, const T* again,
                       const T* bar, const T* s_dot, int32_t threads, T* const* w_bar,
                       T* const* b_bar) {
  const auto& f = Kernels<T>::get();
  const int64_t width = net.widths[net.layers], lanes = f.lanes;
  int64_t weights = 0;
  for (int64_t l = 0; l < net.layers; ++l) weights += (net.widths[l] + 1) * net.widths[l + 1];
  // One set for every part, added up in their order: the same for any number of threads.
  std::vector<std::vector<T>> sums(std::min(n, kParts), std::vector<T>(weights * lanes, T(0)));
  each(n, threads, nothing, [&](int, int64_t i, int64_t part) {
    f.scalar_vjp_of_vjp(&net, k, s + i * k, again + i * width, bar + i * width, s_dot + i * k,
                        sums[part].data());
  });
  int64_t at = 0;
  const auto add_up = [&](int64_t count, T* out) {
    for (int64_t q = 0; q < count; ++q, ++at) {
      out[q] = T(0);
      for (const std::vector<T>& part : sums) {
        const T* all = part.data() + at * lanes;
        out[q] += std::accumulate(all, all + lanes, T(0));
      }
    }
  };
  for (int64_t l = 0; l < net.layers; ++l) {
    add_up(net.widths[l] * net.widths[l + 1], w_bar[l]);
    add_up(net.widths[l + 1], b_bar[l]);
  }
}

}  // namespace
}  // namespace deepmd::training

#define DEEPMD_DEFINE_SCALAR(T, S)                                                                 \
  int32_t deepmd_scalar_value_##S(const deepmd_scalar_##S* net, int64_t n, int64_t k, const T* s,  \
                                  int32_t threads, T* sums) {                                      \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::scalar_value(*net, n, k, s, threads, sums); });                    \
  }                                                                                                \
  int32_t deepmd_scalar_vjp_##S(const deepmd_scalar_##S* net, int64_t n, int64_t k, const T* s,    \
                                const T* bar, int32_t threads, T* s_bar) {                         \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::scalar_vjp(*net, n, k, s, bar, threads, s_bar); });                \
  }                                                                                                \
  int32_t deepmd_scalar_jvp_##S(const deepmd_scalar_##S* net, int64_t n, int64_t k, const T* s,    \
                                const T* s_dot, int32_t threads, T* sums_dot) {                    \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::scalar_jvp(*net, n, k, s, s_dot, threads, sums_dot); });           \
  }                                                                                                \
  int32_t deepmd_scalar_vjp_of_vjp_##S(const deepmd_scalar_##S* net, int64_t n, int64_t k,         \
                                       const T* s, const T* again, const T* bar, const T* s_dot,   \
                                       int32_t threads, T* const* w_bar, T* const* b_bar) {        \
    return deepmd::training::guarded([&] {                                                         \
      deepmd::training::scalar_vjp_of_vjp(*net, n, k, s, again, bar, s_dot, threads, w_bar,        \
                                          b_bar);                                                  \
    });                                                                                            \
  }

DEEPMD_DEFINE_SCALAR(double, f64)
DEEPMD_DEFINE_SCALAR(float, f32)
