// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Attention between the slots of centers, center by center, whatever its kind.
 *
 * A kind has the type of its numbers, that of its layers in training.h, their packed weights, with
 * `net` for the kernels, and the functions of kernels.h that take it.
 */
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "parallel.h"
#include "precision.h"
#include "training.h"

namespace deepmd::training {

/** Slots of a center by the type of their numbers. */
template <class T>
struct CenterOf;
template <>
struct CenterOf<double> {
  using type = deepmd_attended_f64;
};
template <>
struct CenterOf<float> {
  using type = deepmd_attended_f32;
};

/** A matrix (k, n), or the transpose of (n, k), packed. */
template <class T>
std::vector<T> packed(int64_t k, int64_t n, const T* w, bool turned) {
  const auto& f = Kernels<T>::get();
  std::vector<T> to(f.packed_size(k, n));
  f.pack(k, n, w, turned ? k : n, turned, to.data());
  return to;
}

/** Call work(net, center, its number, part) for all centers. */
template <class Kind, class Slots, class F>
void each(const typename Kind::Layer& layer, const Slots& slots, const F& work) {
  using T = typename Kind::Number;
  const Kind kind(layer);
  const int64_t parts = std::min(slots.n, kParts), k = slots.k;
  const auto make = [&] { return std::vector<T>(kind.work(&kind.net, k)); };
  in_parts(parts, slots.threads, make, [&](std::vector<T>& scratch, int64_t part) {
    const Range centers = part_of(slots.n, part, parts);
    for (int64_t i = centers.first; i < centers.last; ++i) {
      const int64_t n = slots.filled[i];
      const typename CenterOf<T>::type center{n,
                                              k,
                                              slots.more + k - n,
                                              slots.x + i * k * layer.e,
                                              slots.sw + i * k,
                                              slots.unit + i * k * 3,
                                              slots.state + slots.first[i],
                                              scratch.data()};
      work(kind, &center, i, part);
    }
  });
}

template <class Kind, class T>
void count(const typename Kind::Layer& layer, int64_t n, int64_t k, const T* mask, int64_t* filled,
           int64_t* first) {
  first[0] = 0;
  for (int64_t i = 0; i < n; ++i, mask += k) {
    int64_t last = k;
    while (last > 0 && mask[last - 1] == T(0)) --last;
    filled[i] = last;
    first[i + 1] = first[i] + Kind::state(layer, last, k);
  }
}

template <class Kind, class Slots, class T>
void value(const typename Kind::Layer& layer, const Slots& slots, T* y) {
  const int64_t size = slots.k * layer.e;
  each<Kind>(layer, slots, [&](const Kind& kind, const auto* c, int64_t i, int64_t) {
    kind.value(&kind.net, c, y + i * size);
  });
}

template <class Kind, class Slots, class T>
void vjp(const typename Kind::Layer& layer, const Slots& slots, const T* y_bar, T* x_bar, T* sw_bar,
         T* unit_bar) {
  const int64_t k = slots.k, size = k * layer.e;
  each<Kind>(layer, slots, [&](const Kind& kind, const auto* c, int64_t i, int64_t) {
    kind.vjp(&kind.net, c, y_bar + i * size, x_bar + i * size, sw_bar + i * k,
             unit_bar + 3 * i * k);
  });
}

template <class Kind, class Slots, class T>
void jvp(const typename Kind::Layer& layer, const Slots& slots, const T* x_dot, const T* sw_dot,
         const T* unit_dot, T* y_dot) {
  const int64_t k = slots.k, size = k * layer.e;
  each<Kind>(layer, slots, [&](const Kind& kind, const auto* c, int64_t i, int64_t) {
    kind.jvp(&kind.net, c, x_dot + i * size, sw_dot + i * k, unit_dot + 3 * i * k,
             y_dot + i * size);
  });
}

template <class Kind, class Slots, class T>
void vjp_of_vjp(const typename Kind::Layer& layer, const Slots& slots, const T* again,
                const T* y_bar, const T* x_dot, T* x_bar, T* grads) {
  const int64_t size = slots.k * layer.e, weights = Kind::weights(layer);
  // One set for every part, added up in their order: the same for any number of threads.
  std::vector<std::vector<T>> sums(std::min(slots.n, kParts), std::vector<T>(weights, T(0)));
  each<Kind>(layer, slots, [&](const Kind& kind, const auto* c, int64_t i, int64_t part) {
    const int64_t at = i * size;
    kind.vjp_of_vjp(&kind.net, c, again + at, y_bar + at, x_dot + at, x_bar + at,
                    sums[part].data());
  });
  std::fill_n(grads, weights, T(0));
  for (const std::vector<T>& part : sums) {
    for (int64_t q = 0; q < weights; ++q) grads[q] += part[q];
  }
}

}  // namespace deepmd::training

/** The functions of training.h of one kind, `name`, and one type of numbers, S. */
#define DEEPMD_DEFINE_ATTENDED(name, Kind, T, S)                                                   \
  void deepmd_##name##_count_##S(const deepmd_##name##_layer_##S* layer, int64_t n, int64_t k,     \
                                 const T* mask, int64_t* filled, int64_t* first) {                 \
    deepmd::training::count<Kind>(*layer, n, k, mask, filled, first);                              \
  }                                                                                                \
  int32_t deepmd_##name##_value_##S(const deepmd_##name##_layer_##S* layer,                        \
                                    const deepmd_slots_##S* slots, T* y) {                         \
    return deepmd::training::guarded([&] { deepmd::training::value<Kind>(*layer, *slots, y); });   \
  }                                                                                                \
  int32_t deepmd_##name##_vjp_##S(const deepmd_##name##_layer_##S* layer,                          \
                                  const deepmd_slots_##S* slots, const T* y_bar, T* x_bar,         \
                                  T* sw_bar, T* unit_bar) {                                        \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::vjp<Kind>(*layer, *slots, y_bar, x_bar, sw_bar, unit_bar); });     \
  }                                                                                                \
  int32_t deepmd_##name##_jvp_##S(const deepmd_##name##_layer_##S* layer,                          \
                                  const deepmd_slots_##S* slots, const T* x_dot, const T* sw_dot,  \
                                  const T* unit_dot, T* y_dot) {                                   \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::jvp<Kind>(*layer, *slots, x_dot, sw_dot, unit_dot, y_dot); });     \
  }                                                                                                \
  int32_t deepmd_##name##_vjp_of_vjp_##S(const deepmd_##name##_layer_##S* layer,                   \
                                         const deepmd_slots_##S* slots, const T* again,            \
                                         const T* y_bar, const T* x_dot, T* x_bar, T* grads) {     \
    return deepmd::training::guarded([&] {                                                         \
      deepmd::training::vjp_of_vjp<Kind>(*layer, *slots, again, y_bar, x_dot, x_bar, grads);       \
    });                                                                                            \
  }
