// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Gated self-attention of the neighbors of one center, with the derivatives of a training step.
 *
 * Features x of the neighbors are projected to unit vectors q, k and v. With sw switches, u unit
 * vectors to the neighbors and + c the constant of the softmax,
 *
 *   w = softmax((scale q k + c) pair - c), pair = sw sw, p = w pair cos, cos = u u
 *   y = beta + gamma norm(x + b_out + p v w_out)
 *
 * Empty slots have no weight: they count in the denominators only, with their own x in y.
 * The suffix _bar is an adjoint, _dot a tangent.
 */
#pragma once

#include <math.h>

#include "kernels.h"
#include "softmax.h"

namespace {

/** w - mean(w) where asked for, then r (w - y <y w>): derivative of a normalization; <y w>. */
template <class T>
inline T project(int64_t n, T share, bool centered, T r, const T* __restrict y,
                 const T* __restrict w, T* __restrict out) {
  const T mean = centered ? share * total_of<T>(n, w) : T(0);
  // <y 1> is zero where the mean is subtracted.
  const T along = share * dot<T>(n, y, w);
  for (int64_t q = 0; q < n; ++q) out[q] = (w[q] - mean - y[q] * along) * r;
  return along;
}

/** One center; `state` is handed from one function to the next. */
template <class T, class Net, class Center>
struct Attention {
  const Net& net;
  const Center& c;
  const int64_t e, h, h3, n, rows;
  // Rows of features: those of all slots, then those of the neighbors.
  T *norm, *norm_r, *z_bar, *norm_along, *norm_dot, *norm_change, *norm_along_dot;
  T *qkv, *r, *v_out, *in_bar, *along, *v_out_bar, *qkv_dot, *change, *along_dot, *v_out_dot;
  // Pairs of neighbors.
  T *lifted, *cosine, *w, *p, *p_bar, *a_bar, *w_bar_dot, *s_bar_dot, *p_dot;
  // Scratch.
  T *packed, *square, *line, *wide, *narrow;

  Attention(const Net& net_, const Center& c_)
      : net(net_), c(c_), e(net_.e), h(net_.h), h3(3 * net_.h), n(c_.n), rows(c_.rows) {
    T* at = c.state;
    const auto take = [&](int64_t count) {
      T* here = at;
      at += count;
      return here;
    };
    T** const of_rows[] = {&norm, &z_bar, &norm_dot};
    T** const per_row[] = {&norm_r, &norm_along, &norm_change, &norm_along_dot};
    T** const of_projections[] = {&qkv, &in_bar, &qkv_dot};
    T** const per_vector[] = {&r, &along, &change, &along_dot};
    T** const of_features[] = {&v_out, &v_out_bar, &v_out_dot};
    T** const of_pairs[] = {&lifted, &cosine,    &w,         &p,    &p_bar,
                            &a_bar,  &w_bar_dot, &s_bar_dot, &p_dot};
    for (T** x : of_rows) *x = take(rows * e);
    for (T** x : per_row) *x = take(rows);
    for (T** x : of_projections) *x = take(n * h3);
    for (T** x : per_vector) *x = take(n * 3);
    for (T** x : of_features) *x = take(n * e);
    for (T** x : of_pairs) *x = take(n * n);
    at = c.work;
    const int64_t most = larger(larger(h3, e), rows);
    packed = take(packed_size<T>(most, most));
    square = take(rows * rows);
    line = take(most);
    wide = take(rows * h3);
    narrow = take(rows * e);
  }

  static int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }
  static int64_t state_size(const Net& net, int64_t n, int64_t rows) {
    return rows * (3 * net.e + 4) + n * (9 * net.h + 12 + 3 * net.e) + 9 * n * n;
  }
  static int64_t work_size(const Net& net, int64_t rows) {
    const int64_t most = larger(larger(3 * net.h, net.e), rows);
    return packed_size<T>(most, most) + rows * (rows + 3 * net.h + net.e) + most;
  }

  /** out (m, q) = a (m, k) b, plus out itself; b (k, q) or, transposed, (q, k). */
  void product(int64_t m, int64_t q, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
               bool transposed, T* out, int64_t ldc, bool add) const {
    pack<T>(k, q, b, ldb, transposed, packed);
    multiply<T>(m, q, k, a, lda, packed, out, ldc, add);
  }

  /** out (q, s) = a^T b, plus out itself; a (k, q) and b (k, s). */
  void turned_product(int64_t q, int64_t s, int64_t k, const T* a, int64_t lda, const T* b,
                      int64_t ldb, T* out, int64_t ldc, bool add) const {
    pack<T>(k, s, b, ldb, false, packed);
    multiply_turned<T>(q, s, k, a, lda, packed, out, ldc, add);
  }

  void value(T* y) {
    multiply<T>(n, h3, e, c.x, e, net.w_in, qkv, h3, 0);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t t = 0; t < 3; ++t) {
        T* z = qkv + i * h3 + t * h;
        for (int64_t q = 0; q < h; ++q) z[q] += net.b_in[t * h + q];
        const T length = sqrt(dot<T>(h, z, z));
        const T inverse = r[i * 3 + t] = T(1) / (length < T(1e-12) ? T(1e-12) : length);
        for (int64_t q = 0; q < h; ++q) z[q] *= inverse;
      }
    }
    product(n, n, h, qkv, h3, qkv + h, h3, true, lifted, n, false);
    for (int64_t i = 0; i < n; ++i) softmax(i);
    multiply<T>(n, e, h, qkv + 2 * h, h3, net.w_out, v_out, e, 0);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t q = 0; q < e; ++q) norm[i * e + q] = c.x[i * e + q] + net.b_out[q];
    }
    product(n, e, n, p, n, v_out, e, false, norm, e, true);
    const T share = T(1) / static_cast<T>(e);
    for (int64_t i = 0; i < rows; ++i) {
      T *z = norm + i * e, *out = y + i * e;
      const T mean = share * total_of<T>(e, z);
      for (int64_t q = 0; q < e; ++q) z[q] -= mean;
      norm_r[i] = T(1) / sqrt(share * dot<T>(e, z, z) + static_cast<T>(net.eps));
      for (int64_t q = 0; q < e; ++q) {
        z[q] *= norm_r[i];
        out[q] = net.beta[q] + net.gamma[q] * z[q];
      }
    }
  }

  /** Weights of one row, from s in `lifted`. */
  void softmax(int64_t i) {
    const T shift = static_cast<T>(kShift), scale = static_cast<T>(net.scale), sw = c.sw[i];
    T *up = lifted + i * n, *weight = w + i * n, *cos = cosine + i * n, *gated = p + i * n;
    for (int64_t j = 0; j < n; ++j) up[j] = up[j] * scale + shift;
    switched_softmax<T>(n, up, sw, c.sw, c.more, weight);
    for (int64_t j = 0; j < n; ++j) {
      cos[j] = cosine_of(c.unit + 3 * i, c.unit + 3 * j);
      gated[j] = weight[j] * (sw * c.sw[j]) * cos[j];
    }
  }

  void vjp(const T* y_bar, T* x_bar, T* sw_bar, T* unit_bar) {
    const T share = T(1) / static_cast<T>(e), scale = static_cast<T>(net.scale);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t q = 0; q < e; ++q) line[q] = y_bar[i * e + q] * net.gamma[q];
      norm_along[i] = project<T>(e, share, true, norm_r[i], norm + i * e, line, z_bar + i * e);
      for (int64_t q = 0; q < e; ++q) x_bar[i * e + q] = z_bar[i * e + q];
      sw_bar[i] = unit_bar[3 * i] = unit_bar[3 * i + 1] = unit_bar[3 * i + 2] = T(0);
    }
    product(n, n, e, z_bar, e, v_out, e, true, p_bar, n, false);
    for (int64_t i = 0; i < n; ++i) {
      const T sw = c.sw[i];
      T *a = a_bar + i * n, *s = square + i * n;
      const T *bar = p_bar + i * n, *cos = cosine + i * n, *weight = w + i * n;
      for (int64_t j = 0; j < n; ++j) a[j] = bar[j] * (sw * c.sw[j]) * cos[j];
      const T mean = dot<T>(n, weight, a);
      for (int64_t j = 0; j < n; ++j) a[j] = weight[j] * (a[j] - mean);
      geometry(i, a, bar, sw_bar, unit_bar);
      for (int64_t j = 0; j < n; ++j) s[j] = a[j] * (sw * c.sw[j]) * scale;
    }
    turned_product(n, e, n, p, n, z_bar, e, v_out_bar, e, false);
    qkv_bar(v_out_bar, false, square, qkv);
    for (int64_t k = 0; k < 3 * n; ++k) {
      along[k] = project<T>(h, T(1), false, r[k], qkv + k * h, wide + k * h, in_bar + k * h);
    }
    multiply<T>(n, e, h3, in_bar, h3, net.w_in_turned, x_bar, e, 1);
  }

  /** Adjoints of switches and directions in pair and gate of one row. */
  void geometry(int64_t i, const T* a, const T* bar, T* sw_bar, T* unit_bar) const {
    const T sw = c.sw[i], *cos = cosine + i * n, *up = lifted + i * n, *weight = w + i * n;
    T *pair_bar = line, *cos_bar = wide;
    for (int64_t j = 0; j < n; ++j) {
      const T gate = bar[j] * weight[j];
      pair_bar[j] = a[j] * up[j] + gate * cos[j];
      cos_bar[j] = gate * (sw * c.sw[j]);
    }
    add_geometry<T>(n, i, pair_bar, cos_bar, c.sw, c.unit, sw_bar, unit_bar);
  }

  /** Adjoints of q, k and v in `wide`, or more of them, from those of s and of v w_out. */
  void qkv_bar(const T* out_bar, bool add, const T* s_bar, const T* of) {
    product(n, h, n, s_bar, n, of + h, h3, false, wide, h3, add);
    turned_product(n, h, n, s_bar, n, of, h3, wide + h, h3, add);
    if (!add) multiply<T>(n, h, e, out_bar, e, net.w_out_turned, wide + 2 * h, h3, 0);
  }

  void jvp(const T* x_dot, const T* sw_dot, const T* unit_dot, T* y_dot) {
    multiply<T>(n, h3, e, x_dot, e, net.w_in, wide, h3, 0);
    for (int64_t k = 0; k < 3 * n; ++k) {
      change[k] = dot<T>(h, in_bar + k * h, wide + k * h);
      along_dot[k] = project<T>(h, T(1), false, r[k], qkv + k * h, wide + k * h, qkv_dot + k * h);
    }
    product(n, n, h, qkv, h3, qkv_dot + h, h3, true, square, n, false);
    product(n, n, h, qkv_dot, h3, qkv + h, h3, true, square, n, true);
    for (int64_t i = 0; i < n; ++i) softmax_jvp(i, sw_dot, unit_dot);
    multiply<T>(n, e, h, qkv_dot + 2 * h, h3, net.w_out, v_out_dot, e, 0);
    memcpy(narrow, x_dot, static_cast<size_t>(rows * e) * sizeof(T));
    product(n, e, n, p_dot, n, v_out, e, false, narrow, e, true);
    product(n, e, n, p, n, v_out_dot, e, false, narrow, e, true);
    const T share = T(1) / static_cast<T>(e);
    for (int64_t i = 0; i < rows; ++i) {
      const T* z_dot = narrow + i * e;
      norm_change[i] = share * dot<T>(e, z_bar + i * e, z_dot);
      norm_along_dot[i] =
          project<T>(e, share, true, norm_r[i], norm + i * e, z_dot, norm_dot + i * e);
      for (int64_t q = 0; q < e; ++q) y_dot[i * e + q] = norm_dot[i * e + q] * net.gamma[q];
    }
  }

  /** Tangents of one row of weights, from that of s in `square`. */
  void softmax_jvp(int64_t i, const T* sw_dot, const T* unit_dot) {
    const T scale = static_cast<T>(net.scale), sw = c.sw[i], d_sw = sw_dot[i];
    const T *u = c.unit + 3 * i, *du = unit_dot + 3 * i, *up = lifted + i * n,
            *cos = cosine + i * n;
    const T *weight = w + i * n, *bar = p_bar + i * n, *a = a_bar + i * n;
    T *a_dot = square + i * n, *out = w_bar_dot + i * n, *s_out = s_bar_dot + i * n;
    T *change_of_p = p_dot + i * n, *gate_dot = line;
    for (int64_t j = 0; j < n; ++j) {
      const T pair = sw * c.sw[j], pair_dot = d_sw * c.sw[j] + sw * sw_dot[j];
      a_dot[j] = a_dot[j] * pair * scale + up[j] * pair_dot;
      const T cos_dot = cosine_of(du, c.unit + 3 * j) + cosine_of(u, unit_dot + 3 * j);
      gate_dot[j] = pair_dot * cos[j] + pair * cos_dot;
      s_out[j] = a[j] * pair_dot * scale;
      out[j] = bar[j] * pair * cos[j];
    }
    const T mean = dot<T>(n, weight, a_dot), all = dot<T>(n, weight, out);
    for (int64_t j = 0; j < n; ++j) {
      const T centered = a_dot[j] - mean;
      out[j] = out[j] * centered - a_dot[j] * all + bar[j] * gate_dot[j];
      change_of_p[j] = weight[j] * gate_dot[j] + centered * weight[j] * (sw * c.sw[j]) * cos[j];
    }
  }

  /** `grads`: adjoints of w_in, b_in, w_out, b_out, gamma and beta, which are added to. */
  void vjp_of_vjp(const T* again, const T* y_bar, const T* x_dot, T* x_bar, T* grads) {
    T *w_in_bar = grads, *b_in_bar = w_in_bar + e * h3, *w_out_bar = b_in_bar + h3;
    T *b_out_bar = w_out_bar + h * e, *gamma_bar = b_out_bar + e, *beta_bar = gamma_bar + e;
    const T share = T(1) / static_cast<T>(e), scale = static_cast<T>(net.scale);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = i * e;
      for (int64_t q = 0; q < e; ++q) {
        gamma_bar[q] += again[at + q] * norm[at + q] + y_bar[at + q] * norm_dot[at + q];
        beta_bar[q] += again[at + q];
        line[q] = again[at + q] * net.gamma[q];
      }
      const T inverse = norm_r[i];
      project<T>(e, share, true, inverse, norm + at, line, x_bar + at);
      add_times<T>(e, -inverse * norm_along_dot[i], z_bar + at, x_bar + at);
      add_times<T>(e, -inverse * norm_along[i], norm_dot + at, x_bar + at);
      add_times<T>(e, -inverse * norm_change[i], norm + at, x_bar + at);
      for (int64_t q = 0; q < e; ++q) b_out_bar[q] += x_bar[at + q];
    }
    // x_bar has the adjoint of the sums that are normalized so far.
    product(n, n, e, x_bar, e, v_out, e, true, square, n, false);
    product(n, n, e, z_bar, e, v_out_dot, e, true, square, n, true);
    turned_product(n, e, n, p, n, x_bar, e, narrow, e, false);
    turned_product(n, e, n, p_dot, n, z_bar, e, narrow, e, true);
    for (int64_t i = 0; i < n; ++i) {
      const T sw = c.sw[i], *weight = w + i * n, *cos = cosine + i * n;
      T* s = square + i * n;
      for (int64_t j = 0; j < n; ++j) {
        s[j] = w_bar_dot[i * n + j] + s[j] * (sw * c.sw[j]) * cos[j];
      }
      const T mean = dot<T>(n, weight, s);
      for (int64_t j = 0; j < n; ++j) {
        s[j] = weight[j] * (s[j] - mean) * (sw * c.sw[j]) * scale + s_bar_dot[i * n + j];
      }
    }
    qkv_bar(narrow, false, square, qkv);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        square[i * n + j] = a_bar[i * n + j] * (c.sw[i] * c.sw[j]) * scale;
      }
    }
    qkv_bar(narrow, true, square, qkv_dot);
    turned_product(h, e, n, qkv + 2 * h, h3, narrow, e, w_out_bar, e, true);
    turned_product(h, e, n, qkv_dot + 2 * h, h3, v_out_bar, e, w_out_bar, e, true);
    for (int64_t k = 0; k < 3 * n; ++k) {
      memcpy(line, wide + k * h, static_cast<size_t>(h) * sizeof(T));
      T* out = wide + k * h;
      project<T>(h, T(1), false, r[k], qkv + k * h, line, out);
      add_times<T>(h, -r[k] * along_dot[k], in_bar + k * h, out);
      add_times<T>(h, -r[k] * along[k], qkv_dot + k * h, out);
      add_times<T>(h, -r[k] * change[k], qkv + k * h, out);
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t q = 0; q < h3; ++q) b_in_bar[q] += wide[i * h3 + q];
    }
    turned_product(e, h3, n, c.x, e, wide, h3, w_in_bar, h3, true);
    turned_product(e, h3, n, x_dot, e, in_bar, h3, w_in_bar, h3, true);
    multiply<T>(n, e, h3, wide, h3, net.w_in_turned, x_bar, e, 1);
  }
};

template <class T, class Net, class Center>
int64_t attention_state(const Net* net, int64_t n, int64_t rows) {
  return Attention<T, Net, Center>::state_size(*net, n, rows);
}

template <class T, class Net, class Center>
int64_t attention_work(const Net* net, int64_t rows) {
  return Attention<T, Net, Center>::work_size(*net, rows);
}

template <class T, class Net, class Center>
void attention_value(const Net* net, const Center* c, T* y) {
  Attention<T, Net, Center>(*net, *c).value(y);
}

template <class T, class Net, class Center>
void attention_vjp(const Net* net, const Center* c, const T* y_bar, T* x_bar, T* sw_bar,
                   T* unit_bar) {
  Attention<T, Net, Center>(*net, *c).vjp(y_bar, x_bar, sw_bar, unit_bar);
}

template <class T, class Net, class Center>
void attention_jvp(const Net* net, const Center* c, const T* x_dot, const T* sw_dot,
                   const T* unit_dot, T* y_dot) {
  Attention<T, Net, Center>(*net, *c).jvp(x_dot, sw_dot, unit_dot, y_dot);
}

template <class T, class Net, class Center>
void attention_vjp_of_vjp(const Net* net, const Center* c, const T* again, const T* y_bar,
                          const T* x_dot, T* x_bar, T* grads) {
  Attention<T, Net, Center>(*net, *c).vjp_of_vjp(again, y_bar, x_dot, x_bar, grads);
}

}  // namespace
