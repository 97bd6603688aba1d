// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * A network of tanh layers of one number with its slope: [values; slopes] is one matrix in every
 * layer, values first.
 */
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/precision.h"

namespace deepmd::training {

template <class T>
struct Layer {
  int64_t n_in, n_out, ld;  // ld: numbers from one row of the output to the next
  std::vector<T> forward, backward, bias;
  typename Kernels<T>::Layer activation;
};

template <class T>
class Jets {
 public:
  /** Arrays of one thread. */
  struct Work {
    std::vector<T> z, slope, bars, below, inner, turned, packed;
  };

  /** Rows that are worked on together. */
  struct Rows {
    int64_t n;
    const T* input;  // (2, n): numbers, and ones
    T* state;        // state() numbers per row, from forward to backward
  };

  /** Layers y = tanh(x w + b), plus x `copies` times; w (width, next width). */
  Jets(int64_t n, const int64_t* widths, const int32_t* copies, const T* const* w,
       const T* const* b)
      : f_(Kernels<T>::get()) {
    for (int64_t l = 0; l < n; ++l) {
      Layer<T> layer{widths[l], widths[l + 1], padded(widths[l + 1]), {}, {}, {}, {}};
      layer.forward.resize(f_.packed_size(layer.n_in, layer.n_out));
      f_.pack(layer.n_in, layer.n_out, w[l], layer.n_out, 0, layer.forward.data());
      layer.backward.resize(f_.packed_size(layer.n_out, layer.n_in));
      f_.pack(layer.n_out, layer.n_in, w[l], layer.n_out, 1, layer.backward.data());
      layer.bias.assign(layer.ld, T(0));
      std::copy(b[l], b[l] + layer.n_out, layer.bias.begin());
      layer.activation = {DEEPMD_TANH, copies[l], 0.0, layer.n_out, nullptr, nullptr};
      state_ += 2 * layer.ld;
      widest_ = std::max({widest_, layer.ld, padded(layer.n_in)});
      products_ += layer.n_in * layer.n_out;
      weights_ += (layer.n_in + 1) * layer.n_out;
      layers_.push_back(std::move(layer));
    }
  }

  int64_t padded(int64_t n) const {
    const int64_t step = 2 * f_.lanes;
    return (n + step - 1) / step * step;
  }
  int64_t state() const { return state_; }
  int64_t width() const { return layers_.back().n_out; }
  int64_t ld() const { return layers_.back().ld; }
  int64_t widest() const { return widest_; }
  /** Products of numbers per row of the input. */
  int64_t products() const { return products_; }
  /** Numbers of all weights and biases. */
  int64_t weights() const { return weights_; }

  /** Biases of the first layer from now on. */
  void set_first_bias(const T* b) { std::copy(b, b + layers_[0].n_out, layers_[0].bias.begin()); }

  /** Arrays for so many rows, and for `packed` numbers of a packed matrix. */
  Work work(int64_t rows, int64_t packed = 0) const {
    const size_t two = 2 * rows * widest_;
    Work w;
    for (std::vector<T>* x : {&w.z, &w.bars, &w.below, &w.inner, &w.turned}) x->resize(two);
    w.slope.resize(rows * widest_);
    w.packed.resize(std::max(packed, f_.packed_size(2 * rows, widest_)));
    return w;
  }

  /** [values; slopes] (2 n, ld) of the last layer. */
  const T* outputs(const Rows& rows) const { return output(rows, layers_.size()); }

  void forward(Work& work, const Rows& rows) const {
    for (size_t l = 0; l < layers_.size(); ++l) {
      const Layer<T>& layer = layers_[l];
      typename Kernels<T>::Layer activation = layer.activation;
      activation.bias = layer.bias.data();
      const T* x = output(rows, l);
      const int64_t ldx = ld_of(l), ld = layer.ld, half = rows.n * ld;
      T *z = work.z.data(), *y = const_cast<T*>(output(rows, l + 1));
      f_.multiply(2 * rows.n, layer.n_out, layer.n_in, x, ldx, layer.forward.data(), z, ld, 0);
      f_.activate(&activation, rows.n, z, x, ldx, y, work.slope.data(), ld);
      f_.activate_tangent(&activation, rows.n, work.slope.data(), z + half, x + rows.n * ldx, ldx,
                          y + half, ld);
    }
  }

  /** Add the adjoints of all weights, from those of the last layer in work.bars. */
  void backward(Work& work, const Rows& rows, T* sums) const {
    int64_t at = weights_;
    for (size_t l = layers_.size(); l-- > 0;) {
      const Layer<T>& layer = layers_[l];
      const T *x = output(rows, l), *y = output(rows, l + 1);
      const int64_t ldx = ld_of(l), ld = layer.ld, two = 2 * rows.n;
      at -= (layer.n_in + 1) * layer.n_out;
      f_.tanh_pair_backward(&layer.activation, rows.n, y, x, ldx, work.bars.data(),
                            work.inner.data(), ld);
      const T* inner = work.inner.data();
      for (int64_t p = 0; p < two; ++p) {
        for (int64_t q = 0; q < layer.n_in; ++q) work.turned[q * two + p] = x[p * ldx + q];
      }
      f_.pack(two, layer.n_out, inner, ld, 0, work.packed.data());
      f_.multiply(layer.n_in, layer.n_out, two, work.turned.data(), two, work.packed.data(),
                  sums + at, layer.n_out, 1);
      T* b_bar = sums + at + layer.n_in * layer.n_out;
      for (int64_t p = 0; p < rows.n; ++p) {
        for (int64_t q = 0; q < layer.n_out; ++q) b_bar[q] += inner[p * ld + q];
      }
      if (l == 0) break;
      f_.multiply(two, layer.n_in, layer.n_out, inner, ld, layer.backward.data(), work.below.data(),
                  ldx, 0);
      f_.add_copies(&layer.activation, two, work.bars.data(), ld, work.below.data(), ldx);
      std::swap(work.bars, work.below);
    }
  }

  /** Write adjoints of the weights and biases, from sums of several sets in their order. */
  void write(const std::vector<std::vector<T>>& sums, T* const* w_bar, T* const* b_bar) const {
    int64_t at = 0;
    for (size_t l = 0; l < layers_.size(); ++l) {
      const int64_t n = layers_[l].n_in * layers_[l].n_out;
      add_up(sums, at, n, w_bar[l]);
      add_up(sums, at + n, layers_[l].n_out, b_bar[l]);
      at += n + layers_[l].n_out;
    }
  }

  static void add_up(const std::vector<std::vector<T>>& sums, int64_t at, int64_t n, T* out) {
    std::fill_n(out, n, T(0));
    for (const std::vector<T>& part : sums) {
      for (int64_t q = 0; q < n; ++q) out[q] += part[at + q];
    }
  }

 private:
  /** Output of a layer, [values; slopes]; layer 0 is the input. */
  const T* output(const Rows& rows, size_t l) const {
    if (l == 0) return rows.input;
    T* at = rows.state;
    for (size_t k = 0; k + 1 < l; ++k) at += 2 * rows.n * layers_[k].ld;
    return at;
  }
  int64_t ld_of(size_t l) const { return l == 0 ? 1 : layers_[l - 1].ld; }

  const typename Kernels<T>::Functions& f_;
  std::vector<Layer<T>> layers_;
  int64_t state_ = 0, widest_ = 1, products_ = 0, weights_ = 0;
};

/** Sums (4, ld) to (width, 4). */
template <class T>
void turn(int64_t width, int64_t ld, const T* sums, T* t) {
  for (int64_t m = 0; m < width; ++m) {
    for (int64_t a = 0; a < DEEPMD_ROW; ++a) *t++ = sums[a * ld + m];
  }
}

/** (width, 4) to (4, ld). */
template <class T>
void turn_back(int64_t width, int64_t ld, const T* t, T* sums) {
  for (int64_t m = 0; m < width; ++m) {
    for (int64_t a = 0; a < DEEPMD_ROW; ++a) sums[a * ld + m] = *t++;
  }
}

/** Rows r (n, 4) times the first component of r_dot. */
template <class T>
void levers(int64_t n, const T* r, const T* r_dot, T* out) {
  for (int64_t e = 0; e < n; ++e) {
    const T first = r_dot[e * DEEPMD_ROW];
    for (int64_t a = 0; a < DEEPMD_ROW; ++a) {
      out[e * DEEPMD_ROW + a] = r[e * DEEPMD_ROW + a] * first;
    }
  }
}

}  // namespace deepmd::training
