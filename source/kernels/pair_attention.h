// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Attention with several heads between the neighbors of one center, gated by their directions, with
 * the derivatives of a training step; that of the pair features of DPA-2.
 *
 * Features x of the neighbors and weights q_h and v_h (e, e) of every head give
 *
 *   s_h = x q_h x^T, w_h = softmax((scale s_h g + c) pair - c), pair = sw sw, cos = u u
 *   p_h = w_h pair cos / sqrt(3), y = b + sum over heads of p_h x v_h
 *
 * with g = cos if the logits are gated, or 1; sw are switches, u directions, + c is the constant of
 * the softmax. Products of the projections of a model are made beforehand: those to queries and
 * keys, those to values and from heads. Empty slots have no weight: they count in the denominators
 * only, and y is b there. The suffix _bar is an adjoint, _dot a tangent.
 */
#pragma once

#include <math.h>

#include "kernels.h"
#include "softmax.h"

namespace {

/** One center; `state` is handed from one function to the next. */
template <class T, class Net, class Center>
struct PairAttention {
  const Net& net;
  const Center& c;
  const int64_t e, heads, both, n, rows, square;
  const T scale, norm;
  // Rows of features: queries of all heads, then values of all heads.
  T *qv, *qv_bar, *qv_dot;
  // Pairs of neighbors, those with a subscript for every head.
  T *cosine, *s, *w, *p_bar, *a_bar, *p_dot, *w_bar_dot, *s_bar_dot;
  // Scratch: packed matrices, pairs, rows of features.
  T *packed, *packed_x, *packed_x_dot, *packed_y, *packed_z, *first, *second, *pairs, *wide;

  PairAttention(const Net& net_, const Center& c_)
      : net(net_),
        c(c_),
        e(net_.e),
        heads(net_.heads),
        both(2 * net_.heads * net_.e),
        n(c_.n),
        rows(c_.rows),
        square(c_.n * c_.n),
        scale(static_cast<T>(net_.scale)),
        norm(static_cast<T>(1.0 / sqrt(3.0))) {
    T* at = c.state;
    const auto take = [&](int64_t count) {
      T* here = at;
      at += count;
      return here;
    };
    T** const of_rows[] = {&qv, &qv_bar, &qv_dot};
    T** const of_pairs[] = {&s, &w, &p_bar, &a_bar, &p_dot, &w_bar_dot, &s_bar_dot};
    for (T** x : of_rows) *x = take(n * both);
    for (T** x : of_pairs) *x = take(heads * square);
    cosine = take(square);
    at = c.work;
    T** const of_packed[] = {&packed, &packed_x, &packed_x_dot, &packed_y, &packed_z};
    for (T** x : of_packed) *x = take(most_packed(net, rows));
    T** const of_scratch[] = {&first, &second, &pairs};
    for (T** x : of_scratch) *x = take(rows * rows);
    wide = take(rows * both);
  }

  static int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }
  static int64_t most_packed(const Net& net, int64_t rows) {
    const int64_t both = 2 * net.heads * net.e;
    return larger(packed_size<T>(rows, both), packed_size<T>(net.e, rows));
  }
  static int64_t state_size(const Net& net, int64_t n, int64_t) {
    return 6 * net.heads * net.e * n + (7 * net.heads + 1) * n * n;
  }
  static int64_t work_size(const Net& net, int64_t rows) {
    return 5 * most_packed(net, rows) + 3 * rows * rows + 2 * net.heads * net.e * rows;
  }

  /** Queries and values of a head in rows of features. */
  T* query(T* of, int64_t head) const { return of + head * e; }
  T* key_value(T* of, int64_t head) const { return of + (heads + head) * e; }
  /** Factor of the logits of one pair. */
  T gate(T cos) const { return net.gated ? cos : T(1); }

  /** out (n, n) = a b^T, plus out itself; b as packed by pack_turned. */
  void pair_product(const T* a, int64_t lda, const T* b_turned, T* out, bool add) const {
    multiply<T>(n, n, e, a, lda, b_turned, out, n, add);
  }
  void pack_turned(const T* b, int64_t ldb, T* to) const { pack<T>(e, n, b, ldb, true, to); }
  void pack_rows(const T* b, int64_t ldb, T* to) const { pack<T>(n, e, b, ldb, false, to); }

  /** p of one head from its w, in `to`. */
  void weights(const T* of, T* to) const {
    for (int64_t i = 0; i < n; ++i) {
      const T sw = c.sw[i] * norm;
      for (int64_t j = i * n, k = 0; k < n; ++j, ++k) to[j] = of[j] * (sw * c.sw[k]) * cosine[j];
    }
  }

  void value(T* y) {
    multiply<T>(n, both, e, c.x, e, net.w, qv, both, 0);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t q = 0; q < e; ++q) y[i * e + q] = net.b[q];
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        cosine[i * n + j] = cosine_of(c.unit + 3 * i, c.unit + 3 * j);
      }
    }
    pack_turned(c.x, e, packed_x);
    for (int64_t h = 0; h < heads; ++h) {
      T *logits = s + h * square, *weight = w + h * square;
      pair_product(query(qv, h), both, packed_x, logits, false);
      for (int64_t i = 0; i < n; ++i) {
        lift(logits + i * n, cosine + i * n, first);
        switched_softmax<T>(n, first, c.sw[i], c.sw, c.more, weight + i * n);
      }
      weights(weight, first);
      pack_rows(key_value(qv, h), both, packed);
      multiply<T>(n, e, n, first, n, packed, y, e, 1);
    }
  }

  /** scale s g + c of one row. */
  void lift(const T* logits, const T* cos, T* up) const {
    const T shift = static_cast<T>(kShift);
    for (int64_t j = 0; j < n; ++j) up[j] = logits[j] * gate(cos[j]) * scale + shift;
  }

  void vjp(const T* y_bar, T* x_bar, T* sw_bar, T* unit_bar) {
    memset(x_bar, 0, static_cast<size_t>(rows * e) * sizeof(T));
    memset(sw_bar, 0, static_cast<size_t>(rows) * sizeof(T));
    memset(unit_bar, 0, static_cast<size_t>(rows * 3) * sizeof(T));
    // Adjoints of pair and cos, summed over the heads.
    T *pair_bar = second, *cos_bar = pairs;
    memset(pair_bar, 0, static_cast<size_t>(square) * sizeof(T));
    memset(cos_bar, 0, static_cast<size_t>(square) * sizeof(T));
    pack_rows(c.x, e, packed_x);
    pack_rows(y_bar, e, packed_y);
    for (int64_t h = 0; h < heads; ++h) {
      pack_turned(key_value(qv, h), both, packed);
      pair_product(y_bar, e, packed, p_bar + h * square, false);
      for (int64_t i = 0; i < n; ++i) softmax_vjp(h, i, pair_bar + i * n, cos_bar + i * n);
      logit_bar(h, first);
      multiply<T>(n, e, n, first, n, packed_x, query(qv_bar, h), both, 0);
      pack_rows(query(qv, h), both, packed);
      multiply_turned<T>(n, e, n, first, n, packed, x_bar, e, 1);
      weights(w + h * square, first);
      multiply_turned<T>(n, e, n, first, n, packed_y, key_value(qv_bar, h), both, 0);
    }
    multiply<T>(n, e, both, qv_bar, both, net.w_turned, x_bar, e, 1);
    for (int64_t i = 0; i < n; ++i) {
      add_geometry<T>(n, i, pair_bar + i * n, cos_bar + i * n, c.sw, c.unit, sw_bar, unit_bar);
    }
  }

  /** Adjoint of the logits of one row before the switch, and what pair and cos receive. */
  void softmax_vjp(int64_t h, int64_t i, T* pair_bar, T* cos_bar) const {
    const int64_t at = h * square + i * n;
    const T sw = c.sw[i], shift = static_cast<T>(kShift);
    const T *bar = p_bar + at, *weight = w + at, *logits = s + at, *cos = cosine + i * n;
    T* a = a_bar + at;
    for (int64_t j = 0; j < n; ++j) a[j] = bar[j] * (sw * c.sw[j]) * cos[j] * norm;
    const T mean = dot<T>(n, weight, a);
    for (int64_t j = 0; j < n; ++j) {
      a[j] = weight[j] * (a[j] - mean);
      const T part = bar[j] * weight[j] * norm, pair = sw * c.sw[j];
      pair_bar[j] += a[j] * (logits[j] * gate(cos[j]) * scale + shift) + part * cos[j];
      cos_bar[j] += part * pair + (net.gated ? a[j] * pair * scale * logits[j] : T(0));
    }
  }

  /** Adjoint of s of one head in the vjp. */
  void logit_bar(int64_t h, T* to) const {
    const T* a = a_bar + h * square;
    for (int64_t i = 0; i < n; ++i) {
      const T sw = c.sw[i] * scale;
      for (int64_t j = i * n, k = 0; k < n; ++j, ++k) {
        to[j] = a[j] * (sw * c.sw[k]) * gate(cosine[j]);
      }
    }
  }

  void jvp(const T* x_dot, const T* sw_dot, const T* unit_dot, T* y_dot) {
    multiply<T>(n, both, e, x_dot, e, net.w, qv_dot, both, 0);
    memset(y_dot, 0, static_cast<size_t>(rows * e) * sizeof(T));
    T* cos_dot = pairs;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        cos_dot[i * n + j] = cosine_of(unit_dot + 3 * i, c.unit + 3 * j) +
                             cosine_of(c.unit + 3 * i, unit_dot + 3 * j);
      }
    }
    pack_turned(c.x, e, packed_x);
    pack_turned(x_dot, e, packed_y);
    for (int64_t h = 0; h < heads; ++h) {
      pair_product(query(qv_dot, h), both, packed_x, first, false);
      pair_product(query(qv, h), both, packed_y, first, true);
      for (int64_t i = 0; i < n; ++i) softmax_jvp(h, i, sw_dot, cos_dot + i * n);
      pack_rows(key_value(qv, h), both, packed);
      multiply<T>(n, e, n, p_dot + h * square, n, packed, y_dot, e, 1);
      weights(w + h * square, first);
      pack_rows(key_value(qv_dot, h), both, packed);
      multiply<T>(n, e, n, first, n, packed, y_dot, e, 1);
    }
  }

  /** Tangents of one row of weights, from that of s in `first`. */
  void softmax_jvp(int64_t h, int64_t i, const T* sw_dot, const T* cos_dot) {
    const int64_t at = h * square + i * n;
    const T sw = c.sw[i], d_sw = sw_dot[i], shift = static_cast<T>(kShift);
    const T *weight = w + at, *bar = p_bar + at, *a = a_bar + at, *logits = s + at;
    const T* cos = cosine + i * n;
    T *a_dot = first + i * n, *out = w_bar_dot + at, *s_out = s_bar_dot + at;
    T *change = p_dot + at, *gate_dot = second;
    for (int64_t j = 0; j < n; ++j) {
      const T pair = sw * c.sw[j], pair_dot = d_sw * c.sw[j] + sw * sw_dot[j];
      const T g = gate(cos[j]), g_dot = net.gated ? cos_dot[j] : T(0);
      const T up_dot = (a_dot[j] * g + logits[j] * g_dot) * scale;
      a_dot[j] = up_dot * pair + (logits[j] * g * scale + shift) * pair_dot;
      gate_dot[j] = (pair_dot * cos[j] + pair * cos_dot[j]) * norm;
      s_out[j] = a[j] * (pair_dot * g + pair * g_dot) * scale;
      out[j] = bar[j] * pair * cos[j] * norm;
    }
    const T mean = dot<T>(n, weight, a_dot), all = dot<T>(n, weight, out);
    for (int64_t j = 0; j < n; ++j) {
      const T centered = a_dot[j] - mean;
      out[j] = out[j] * centered - a_dot[j] * all + bar[j] * gate_dot[j];
      change[j] = weight[j] * (gate_dot[j] + centered * (sw * c.sw[j]) * cos[j] * norm);
    }
  }

  /** `grads`: adjoints of w and b, which are added to. */
  void vjp_of_vjp(const T* again, const T* y_bar, const T* x_dot, T* x_bar, T* grads) {
    T *w_bar = grads, *b_bar = grads + e * both;
    for (int64_t i = 0; i < rows; ++i) add_times<T>(e, T(1), again + i * e, b_bar);
    memset(x_bar, 0, static_cast<size_t>(rows * e) * sizeof(T));
    pack_rows(c.x, e, packed_x);
    pack_rows(x_dot, e, packed_x_dot);
    pack_rows(again, e, packed_y);
    pack_rows(y_bar, e, packed_z);
    // In `wide`, adjoints of queries and values.
    for (int64_t h = 0; h < heads; ++h) {
      pack_turned(key_value(qv, h), both, packed);
      pair_product(again, e, packed, first, false);
      pack_turned(key_value(qv_dot, h), both, packed);
      pair_product(y_bar, e, packed, first, true);
      for (int64_t i = 0; i < n; ++i) softmax_again(h, i);
      logit_bar(h, second);
      logits_again(h, x_bar);
      weights(w + h * square, first);
      multiply_turned<T>(n, e, n, first, n, packed_y, key_value(wide, h), both, 0);
      multiply_turned<T>(n, e, n, p_dot + h * square, n, packed_z, key_value(wide, h), both, 1);
    }
    multiply<T>(n, e, both, wide, both, net.w_turned, x_bar, e, 1);
    pack<T>(n, both, wide, both, false, packed);
    multiply_turned<T>(e, both, n, c.x, e, packed, w_bar, both, 1);
    pack<T>(n, both, qv_bar, both, false, packed);
    multiply_turned<T>(e, both, n, x_dot, e, packed, w_bar, both, 1);
  }

  /** Adjoint of one row of s, from that of p, both in `first`. */
  void softmax_again(int64_t h, int64_t i) {
    const int64_t at = h * square + i * n;
    const T sw = c.sw[i], *weight = w + at, *cos = cosine + i * n;
    T* out = first + i * n;
    for (int64_t j = 0; j < n; ++j) {
      out[j] = w_bar_dot[at + j] + out[j] * (sw * c.sw[j]) * cos[j] * norm;
    }
    const T mean = dot<T>(n, weight, out);
    for (int64_t j = 0; j < n; ++j) {
      const T a = weight[j] * (out[j] - mean) * (sw * c.sw[j]) * scale;
      out[j] = a * gate(cos[j]) + s_bar_dot[at + j];
    }
  }

  /** What adjoints of s, in `first`, and of its tangent, in `second`, give to queries and keys. */
  void logits_again(int64_t h, T* x_bar) {
    multiply<T>(n, e, n, first, n, packed_x, query(wide, h), both, 0);
    multiply<T>(n, e, n, second, n, packed_x_dot, query(wide, h), both, 1);
    pack_rows(query(qv, h), both, packed);
    multiply_turned<T>(n, e, n, first, n, packed, x_bar, e, 1);
    pack_rows(query(qv_dot, h), both, packed);
    multiply_turned<T>(n, e, n, second, n, packed, x_bar, e, 1);
  }
};

template <class T, class Net, class Center>
int64_t pair_attention_state(const Net* net, int64_t n, int64_t rows) {
  return PairAttention<T, Net, Center>::state_size(*net, n, rows);
}

template <class T, class Net, class Center>
int64_t pair_attention_work(const Net* net, int64_t rows) {
  return PairAttention<T, Net, Center>::work_size(*net, rows);
}

template <class T, class Net, class Center>
void pair_attention_value(const Net* net, const Center* c, T* y) {
  PairAttention<T, Net, Center>(*net, *c).value(y);
}

template <class T, class Net, class Center>
void pair_attention_vjp(const Net* net, const Center* c, const T* y_bar, T* x_bar, T* sw_bar,
                        T* unit_bar) {
  PairAttention<T, Net, Center>(*net, *c).vjp(y_bar, x_bar, sw_bar, unit_bar);
}

template <class T, class Net, class Center>
void pair_attention_jvp(const Net* net, const Center* c, const T* x_dot, const T* sw_dot,
                        const T* unit_dot, T* y_dot) {
  PairAttention<T, Net, Center>(*net, *c).jvp(x_dot, sw_dot, unit_dot, y_dot);
}

template <class T, class Net, class Center>
void pair_attention_vjp_of_vjp(const Net* net, const Center* c, const T* again, const T* y_bar,
                               const T* x_dot, T* x_bar, T* grads) {
  PairAttention<T, Net, Center>(*net, *c).vjp_of_vjp(again, y_bar, x_dot, x_bar, grads);
}

}  // namespace
