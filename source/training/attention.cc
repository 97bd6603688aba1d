// SPDX-License-Identifier: LGPL-3.0-or-later
/** Attention of training.h: the layers of DPA-1, and the attention of pairs of DPA-2. */
#include <vector>

#include "attended.h"

namespace deepmd::training {
namespace {

/** Structures by the type of their numbers. */
template <class T>
struct Names;
template <>
struct Names<double> {
  using Net = deepmd_attention_f64;
  using Layer = deepmd_attention_layer_f64;
  using PairNet = deepmd_pair_attention_f64;
  using PairLayer = deepmd_pair_attention_layer_f64;
};
template <>
struct Names<float> {
  using Net = deepmd_attention_f32;
  using Layer = deepmd_attention_layer_f32;
  using PairNet = deepmd_pair_attention_f32;
  using PairLayer = deepmd_pair_attention_layer_f32;
};

/** Layer with normalizations. */
template <class T>
struct Gated {
  using Number = T;
  using Layer = typename Names<T>::Layer;
  using Net = typename Names<T>::Net;
  std::vector<T> w_in, w_in_turned, w_out, w_out_turned;
  Net net;

  explicit Gated(const Layer& a)
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

  static int64_t weights(const Layer& a) { return a.e * 3 * a.h + 3 * a.h + a.h * a.e + 3 * a.e; }
  static int64_t state(const Layer& a, int64_t n, int64_t rows) {
    Net net{};
    net.e = a.e;
    net.h = a.h;
    return Kernels<T>::get().attention_state(&net, n, rows);
  }
  const typename Kernels<T>::Functions& f = Kernels<T>::get();
  decltype(f.attention_work) work = f.attention_work;
  decltype(f.attention_value) value = f.attention_value;
  decltype(f.attention_vjp) vjp = f.attention_vjp;
  decltype(f.attention_jvp) jvp = f.attention_jvp;
  decltype(f.attention_vjp_of_vjp) vjp_of_vjp = f.attention_vjp_of_vjp;
};

/** Attention of pairs with several heads. */
template <class T>
struct Heads {
  using Number = T;
  using Layer = typename Names<T>::PairLayer;
  using Net = typename Names<T>::PairNet;
  std::vector<T> w, w_turned;
  Net net;

  explicit Heads(const Layer& a)
      : w(packed(a.e, 2 * a.heads * a.e, a.w, false)),
        w_turned(packed(2 * a.heads * a.e, a.e, a.w, true)),
        net{a.e, a.heads, a.scale, a.gated, w.data(), w_turned.data(), a.b} {}

  static int64_t weights(const Layer& a) { return 2 * a.heads * a.e * a.e + a.e; }
  static int64_t state(const Layer& a, int64_t n, int64_t rows) {
    Net net{};
    net.e = a.e;
    net.heads = a.heads;
    return Kernels<T>::get().pair_attention_state(&net, n, rows);
  }
  const typename Kernels<T>::Functions& f = Kernels<T>::get();
  decltype(f.pair_attention_work) work = f.pair_attention_work;
  decltype(f.pair_attention_value) value = f.pair_attention_value;
  decltype(f.pair_attention_vjp) vjp = f.pair_attention_vjp;
  decltype(f.pair_attention_jvp) jvp = f.pair_attention_jvp;
  decltype(f.pair_attention_vjp_of_vjp) vjp_of_vjp = f.pair_attention_vjp_of_vjp;
};

}  // namespace
}  // namespace deepmd::training

DEEPMD_DEFINE_ATTENDED(attention, deepmd::training::Gated<double>, double, f64)
DEEPMD_DEFINE_ATTENDED(attention, deepmd::training::Gated<float>, float, f32)
DEEPMD_DEFINE_ATTENDED(pair_attention, deepmd::training::Heads<double>, double, f64)
DEEPMD_DEFINE_ATTENDED(pair_attention, deepmd::training::Heads<float>, float, f32)
