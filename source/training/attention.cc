// SPDX-License-Identifier: LGPL-3.0-or-later
/** Attention of training.h, center by center. */
#include <algorithm>
#include <vector>

#include "kernels/kernels.h"
#include "parallel.h"
#include "precision.h"
#include "training.h"

namespace deepmd::training {
namespace {

/** Structures of attention by the type of their numbers. */
template <class T>
struct Names;
template <>
struct Names<double> {
  using Net = deepmd_attention_f64;
  using Center = deepmd_attended_f64;
};
template <>
struct Names<float> {
  using Net = deepmd_attention_f32;
  using Center = deepmd_attended_f32;
};

/** Layer with packed weights. */
template <class T, class Layer>
struct Packed {
  std::vector<T> w_in, w_in_turned, w_out, w_out_turned;
  typename Names<T>::Net net;

  explicit Packed(const Layer& a)
      : w_in(packed(a.e, 3 * a.h, a.w_in, false)),
        w_in_turned(packed(3 * a.h, a.e, a.w_in, true)),
        w_out(packed(a.h, a.e, a.w_out, false)),
        w_out_turned(packed(a.e, a.h, a.w_out, true)),
        net{a.e,          a.h,
            a.scale,      a.eps,
            w_in.data(),  w_in_turned.data(),
            w_out.data(), w_out_turned.data(),
            a.b_in,       a.b_out,
            a.gamma,      a.beta} {}

  static std::vector<T> packed(int64_t k, int64_t n, const T* w, bool turned) {
    const auto& f = Kernels<T>::get();
    std::vector<T> to(f.packed_size(k, n));
    f.pack(k, n, w, turned ? k : n, turned, to.data());
    return to;
  }
};

/** Call work(net, center, its number, part) for all centers. */
template <class T, class Layer, class Slots, class F>
void each(const Layer& layer, const Slots& slots, const F& work) {
  const Packed<T, Layer> packed(layer);
  const int64_t parts = std::min(slots.n, kParts), k = slots.k;
  const auto make = [&] {
    return std::vector<T>(Kernels<T>::get().attention_work(&packed.net, k));
  };
  in_parts(parts, slots.threads, make, [&](std::vector<T>& scratch, int64_t part) {
    const Range centers = part_of(slots.n, part, parts);
    for (int64_t i = centers.first; i < centers.last; ++i) {
      const int64_t n = slots.filled[i];
      const typename Names<T>::Center center{n,
                                             k,
                                             slots.more + k - n,
                                             slots.x + i * k * layer.e,
                                             slots.sw + i * k,
                                             slots.unit + i * k * 3,
                                             slots.state + slots.first[i],
                                             scratch.data()};
      work(packed.net, center, i, part);
    }
  });
}

template <class T, class Layer>
void count(const Layer& layer, int64_t n, int64_t k, const T* mask, int64_t* filled,
           int64_t* first) {
  typename Names<T>::Net net{};
  net.e = layer.e;
  net.h = layer.h;
  first[0] = 0;
  for (int64_t i = 0; i < n; ++i, mask += k) {
    int64_t last = k;
    while (last > 0 && mask[last - 1] == T(0)) --last;
    filled[i] = last;
    first[i + 1] = first[i] + Kernels<T>::get().attention_state(&net, last, k);
  }
}

template <class T, class Layer, class Slots>
void value(const Layer& layer, const Slots& slots, T* y) {
  const int64_t size = slots.k * layer.e;
  each<T>(layer, slots, [&](const auto& net, const auto& c, int64_t i, int64_t) {
    Kernels<T>::get().attention_value(&net, &c, y + i * size);
  });
}

template <class T, class Layer, class Slots>
void vjp(const Layer& layer, const Slots& slots, const T* y_bar, T* x_bar, T* sw_bar, T* unit_bar) {
  const int64_t k = slots.k, size = k * layer.e;
  each<T>(layer, slots, [&](const auto& net, const auto& c, int64_t i, int64_t) {
    Kernels<T>::get().attention_vjp(&net, &c, y_bar + i * size, x_bar + i * size, sw_bar + i * k,
                                    unit_bar + 3 * i * k);
  });
}

template <class T, class Layer, class Slots>
void jvp(const Layer& layer, const Slots& slots, const T* x_dot, const T* sw_dot, const T* unit_dot,
         T* y_dot) {
  const int64_t k = slots.k, size = k * layer.e;
  each<T>(layer, slots, [&](const auto& net, const auto& c, int64_t i, int64_t) {
    Kernels<T>::get().attention_jvp(&net, &c, x_dot + i * size, sw_dot + i * k,
                                    unit_dot + 3 * i * k, y_dot + i * size);
  });
}

template <class T, class Layer, class Slots>
void vjp_of_vjp(const Layer& layer, const Slots& slots, const T* again, const T* y_bar,
                const T* x_dot, T* x_bar, T* grads) {
  const int64_t size = slots.k * layer.e, e = layer.e, h = layer.h;
  const int64_t weights = e * 3 * h + 3 * h + h * e + 3 * e;
  // One set for every part, added up in their order: the same for any number of threads.
  std::vector<std::vector<T>> sums(std::min(slots.n, kParts), std::vector<T>(weights, T(0)));
  each<T>(layer, slots, [&](const auto& net, const auto& c, int64_t i, int64_t part) {
    const int64_t at = i * size;
    Kernels<T>::get().attention_vjp_of_vjp(&net, &c, again + at, y_bar + at, x_dot + at, x_bar + at,
                                           sums[part].data());
  });
  std::fill_n(grads, weights, T(0));
  for (const std::vector<T>& part : sums) {
    for (int64_t q = 0; q < weights; ++q) grads[q] += part[q];
  }
}

}  // namespace
}  // namespace deepmd::training

#define DEEPMD_DEFINE_ATTENTION(T, S)                                                              \
  void deepmd_attention_count_##S(const deepmd_attention_layer_##S* layer, int64_t n, int64_t k,   \
                                  const T* mask, int64_t* filled, int64_t* first) {                \
    deepmd::training::count(*layer, n, k, mask, filled, first);                                    \
  }                                                                                                \
  int32_t deepmd_attention_value_##S(const deepmd_attention_layer_##S* layer,                      \
                                     const deepmd_slots_##S* slots, T* y) {                        \
    return deepmd::training::guarded([&] { deepmd::training::value(*layer, *slots, y); });         \
  }                                                                                                \
  int32_t deepmd_attention_vjp_##S(const deepmd_attention_layer_##S* layer,                        \
                                   const deepmd_slots_##S* slots, const T* y_bar, T* x_bar,        \
                                   T* sw_bar, T* unit_bar) {                                       \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::vjp(*layer, *slots, y_bar, x_bar, sw_bar, unit_bar); });           \
  }                                                                                                \
  int32_t deepmd_attention_jvp_##S(const deepmd_attention_layer_##S* layer,                        \
                                   const deepmd_slots_##S* slots, const T* x_dot, const T* sw_dot, \
                                   const T* unit_dot, T* y_dot) {                                  \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::jvp(*layer, *slots, x_dot, sw_dot, unit_dot, y_dot); });           \
  }                                                                                                \
  int32_t deepmd_attention_vjp_of_vjp_##S(const deepmd_attention_layer_##S* layer,                 \
                                          const deepmd_slots_##S* slots, const T* again,           \
                                          const T* y_bar, const T* x_dot, T* x_bar, T* grads) {    \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::vjp_of_vjp(*layer, *slots, again, y_bar, x_dot, x_bar, grads); }); \
  }

DEEPMD_DEFINE_ATTENTION(double, f64)
DEEPMD_DEFINE_ATTENTION(float, f32)
