// SPDX-License-Identifier: LGPL-3.0-or-later
#include "attention_layers.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace deepmd::native {

namespace {

/** Logits are moved by this, so that a weight of exp(-20) is left of a neighbor at the cutoff. */
constexpr double kShift = 20.0;

/** c (m, n) = a (m, k) b, where b (k, n), or its transpose (n, k), is packed first. */
template <class T>
void product(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
             bool transposed, T* c, int64_t ldc, std::vector<T>& packed) {
  const auto& kernels = Kernels<T>::get();
  T* to = sized(packed, kernels.packed_size(k, n));
  kernels.pack(k, n, b, ldb, transposed ? 1 : 0, to);
  kernels.multiply(m, n, k, a, lda, to, c, ldc, 0);
}

/** The transpose of a (m, n). */
template <class T>
T* transpose(int64_t m, int64_t n, const T* a, int64_t lda, std::vector<T>& to) {
  T* t = sized(to, m * n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) t[j * m + i] = a[i * lda + j];
  }
  return t;
}

double scale_of(const Node& node, double hidden) {
  const double temperature = node.number("temperature", 0.0);
  if (temperature != 0.0) return temperature;
  return 1.0 / std::sqrt(hidden * node.number("scaling_factor", 1.0));
}

}  // namespace

template <class T>
AttentionLayer<T>::AttentionLayer(const Node& node, bool smooth)
    : in_(node["attention_layer"]["in_proj"]),
      out_(node["attention_layer"]["out_proj"]),
      gamma_(node["attn_layer_norm"].variable("w")),
      beta_(node["attn_layer_norm"].variable("b")),
      out_bias_(node["attention_layer"]["out_proj"].variable("b")),
      scale_(scale_of(node["attention_layer"], static_cast<double>(out_.n_in()))),
      eps_(node["attn_layer_norm"].number("eps", 1e-5)),
      smooth_(smooth),
      dotr_(node["attention_layer"].flag("dotr", true)),
      normalize_(node["attention_layer"].flag("normalize", true)),
      hidden_(out_.n_in()) {
  const auto n = static_cast<size_t>(width());
  if (in_.n_out() != 3 * hidden_ || out_.n_out() != width() || gamma_.size() != n ||
      beta_.size() != n) {
    node.fail("has arrays that do not fit");
  }
  if (node["attention_layer"].flag("smooth", smooth) != smooth) {
    node.fail("is not as smooth as the type embedding");
  }
  out_bias_.resize(n, 0.0);
}

template <class T>
T AttentionLayer<T>::cosine(const AttentionSlots<T>& slots, int64_t j, int64_t k) const {
  if (!dotr_) return T(1);
  const T *x = slots.direction + 3 * j, *y = slots.direction + 3 * k;
  return x[0] * y[0] + x[1] * y[1] + x[2] * y[2];
}

/** Divide the rows of q, k and v by their lengths. */
template <class T>
void AttentionLayer<T>::normalize(int64_t n, Trace& trace) const {
  T* length = sized(trace.length, 3 * n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t part = 0; part < 3; ++part) {
      T* row = trace.x.data() + i * in_.ld() + part * hidden_;
      T squares = 0;
      for (int64_t q = 0; q < hidden_; ++q) squares += row[q] * row[q];
      length[3 * i + part] = normalize_ ? std::sqrt(std::max(squares, T(1e-24))) : T(1);
      for (int64_t q = 0; q < hidden_; ++q) row[q] /= length[3 * i + part];
    }
  }
}

/** Weights of all pairs: the softmax p of the logits s, times the gate. */
template <class T>
void AttentionLayer<T>::weigh(const AttentionSlots<T>& slots, Trace& trace) const {
  const int64_t n = slots.n;
  const T scale = static_cast<T>(scale_), shift = static_cast<T>(kShift);
  T* p = sized(trace.p, n * n);
  T* weights = sized(trace.weights, n * n);
  for (int64_t j = 0; j < n; ++j) {
    const T* s = trace.s.data() + j * n;
    T top = smooth_ ? -shift : -std::numeric_limits<T>::infinity();
    for (int64_t k = 0; k < n; ++k) {
      T logit = s[k] * scale;
      if (smooth_) logit = (logit + shift) * slots.weight[j] * slots.weight[k] - shift;
      p[j * n + k] = logit;
      top = std::max(top, logit);
    }
    T total = smooth_ ? static_cast<T>(slots.others) * std::exp(-shift - top) : T(0);
    for (int64_t k = 0; k < n; ++k) {
      p[j * n + k] = std::exp(p[j * n + k] - top);
      total += p[j * n + k];
    }
    for (int64_t k = 0; k < n; ++k) {
      p[j * n + k] /= total;
      const T pair = smooth_ ? slots.weight[j] * slots.weight[k] : T(1);
      weights[j * n + k] = p[j * n + k] * pair * cosine(slots, j, k);
    }
  }
}

template <class T>
void AttentionLayer<T>::forward(const AttentionSlots<T>& slots, T* g, int64_t ld, Trace& trace,
                                Work& work) const {
  const int64_t n = slots.n, e = width();
  if (n == 0) return;
  const auto& kernels = Kernels<T>::get();
  const auto in = in_.layer(), out = out_.layer();
  T* x = sized(trace.x, n * in_.ld());
  kernels.multiply(n, in_.ld(), e, g, ld, in_.weights(), x, in_.ld(), 0);
  kernels.activate(&in, n, x, x, in_.ld(), x, nullptr, in_.ld());
  normalize(n, trace);
  product(n, n, hidden_, x, in_.ld(), x + hidden_, in_.ld(), true, sized(trace.s, n * n), n,
          work.packed);
  weigh(slots, trace);
  T* attended = sized(trace.attended, n * hidden_);
  product(n, hidden_, n, trace.weights.data(), n, x + 2 * hidden_, in_.ld(), false, attended,
          hidden_, work.packed);
  T* y = sized(work.a, n * out_.ld());
  kernels.multiply(n, out_.ld(), hidden_, attended, hidden_, out_.weights(), y, out_.ld(), 0);
  kernels.activate(&out, n, y, y, out_.ld(), y, nullptr, out_.ld());
  T* normal = sized(trace.normal, n * e);
  T* deviation = sized(trace.deviation, n);
  for (int64_t i = 0; i < n; ++i) {
    T mean = 0, variance = 0;
    for (int64_t m = 0; m < e; ++m) mean += g[i * ld + m] + y[i * out_.ld() + m];
    mean /= static_cast<T>(e);
    for (int64_t m = 0; m < e; ++m) {
      normal[i * e + m] = g[i * ld + m] + y[i * out_.ld() + m] - mean;
      variance += normal[i * e + m] * normal[i * e + m];
    }
    deviation[i] = std::sqrt(variance / static_cast<T>(e) + static_cast<T>(eps_));
    for (int64_t m = 0; m < e; ++m) {
      normal[i * e + m] /= deviation[i];
      g[i * ld + m] = normal[i * e + m] * static_cast<T>(gamma_[m]) + static_cast<T>(beta_[m]);
    }
  }
}

template <class T>
void AttentionLayer<T>::weigh_backward(const AttentionSlots<T>& slots, const Trace& trace,
                                       const T* weights_bar, T* s_bar) const {
  const int64_t n = slots.n;
  const T scale = static_cast<T>(scale_), shift = static_cast<T>(kShift);
  for (int64_t j = 0; j < n; ++j) {
    T along = 0;
    for (int64_t k = 0; k < n; ++k) along += weights_bar[j * n + k] * trace.weights[j * n + k];
    for (int64_t k = 0; k < n; ++k) {
      const int64_t at = j * n + k;
      const T pair = smooth_ ? slots.weight[j] * slots.weight[k] : T(1);
      const T angle = cosine(slots, j, k), p = trace.p[at];
      const T logit_bar = p * (weights_bar[at] * pair * angle - along);
      s_bar[at] = logit_bar * scale * pair;
      const T gate_bar = weights_bar[at] * p;
      if (smooth_) {
        const T pair_bar = gate_bar * angle + logit_bar * (trace.s[at] * scale + shift);
        slots.weight_bar[j] += pair_bar * slots.weight[k];
        slots.weight_bar[k] += pair_bar * slots.weight[j];
      }
      for (int q = 0; dotr_ && q < 3; ++q) {
        slots.direction_bar[3 * j + q] += gate_bar * pair * slots.direction[3 * k + q];
        slots.direction_bar[3 * k + q] += gate_bar * pair * slots.direction[3 * j + q];
      }
    }
  }
}

template <class T>
void AttentionLayer<T>::backward(const AttentionSlots<T>& slots, T* g_bar, int64_t ld,
                                 const Trace& trace, Work& work) const {
  const int64_t n = slots.n, e = width(), ldx = in_.ld();
  if (n == 0) return;
  const auto& kernels = Kernels<T>::get();
  for (int64_t i = 0; i < n; ++i) {
    const T* normal = trace.normal.data() + i * e;
    T mean = 0, along = 0;
    for (int64_t m = 0; m < e; ++m) {
      g_bar[i * ld + m] *= static_cast<T>(gamma_[m]);
      mean += g_bar[i * ld + m];
      along += g_bar[i * ld + m] * normal[m];
    }
    for (int64_t m = 0; m < e; ++m) {
      T& bar = g_bar[i * ld + m];
      bar = (bar - (mean + along * normal[m]) / static_cast<T>(e)) / trace.deviation[i];
    }
  }
  T* attended_bar = sized(work.a, n * hidden_);
  kernels.multiply(n, hidden_, e, g_bar, ld, out_.transposed(), attended_bar, hidden_, 0);
  const T* x = trace.x.data();
  T* weights_bar = sized(work.b, n * n);
  product(n, n, hidden_, attended_bar, hidden_, x + 2 * hidden_, ldx, true, weights_bar, n,
          work.packed);
  T* x_bar = sized(work.c, n * ldx);
  const T* turned = transpose(n, n, trace.weights.data(), n, work.d);
  product(n, hidden_, n, turned, n, attended_bar, hidden_, false, x_bar + 2 * hidden_, ldx,
          work.packed);
  T* s_bar = sized(work.a, n * n);
  weigh_backward(slots, trace, weights_bar, s_bar);
  product(n, hidden_, n, s_bar, n, x + hidden_, ldx, false, x_bar, ldx, work.packed);
  turned = transpose(n, n, s_bar, n, work.d);
  product(n, hidden_, n, turned, n, x, ldx, false, x_bar + hidden_, ldx, work.packed);
  for (int64_t i = 0; i < 3 * n; ++i) {
    T* bar = x_bar + i / 3 * ldx + i % 3 * hidden_;
    const T* row = x + i / 3 * ldx + i % 3 * hidden_;
    T along = 0;
    for (int64_t q = 0; normalize_ && q < hidden_; ++q) along += bar[q] * row[q];
    for (int64_t q = 0; q < hidden_; ++q) bar[q] = (bar[q] - along * row[q]) / trace.length[i];
  }
  kernels.multiply(n, e, 3 * hidden_, x_bar, ldx, in_.transposed(), g_bar, ld, 1);
}

template <class T>
void AttentionLayer<T>::empty(std::vector<double>& g) const {
  const auto e = static_cast<double>(g.size());
  double mean = 0.0, variance = 0.0;
  for (size_t m = 0; m < g.size(); ++m) {
    g[m] += out_bias_[m];
    mean += g[m] / e;
  }
  for (const double x : g) variance += (x - mean) * (x - mean) / e;
  for (size_t m = 0; m < g.size(); ++m) {
    g[m] = (g[m] - mean) / std::sqrt(variance + eps_) * gamma_[m] + beta_[m];
  }
}

template class AttentionLayer<double>;
template class AttentionLayer<float>;

}  // namespace deepmd::native
