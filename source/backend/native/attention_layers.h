// SPDX-License-Identifier: LGPL-3.0-or-later
/** Gated self-attention over the neighbors of one atom; see deepmd/dpmodel/nn/attention.py. */
#pragma once

#include <vector>

#include "network.h"

namespace deepmd::native {

/** Neighbors of an atom, as attention reads them, and what it changes of their derivatives. */
template <class T>
struct AttentionSlots {
  int64_t n = 0;                 ///< neighbors
  int64_t others = 0;            ///< slots of the definition that hold none
  const T* weight = nullptr;     ///< (n): switch
  const T* direction = nullptr;  ///< (n, 3): unit vectors
  T* weight_bar = nullptr;       ///< (n)
  T* direction_bar = nullptr;    ///< (n, 3)
};

/** One layer: attention, residual, layer normalization. */
template <class T>
class AttentionLayer {
 public:
  AttentionLayer(const Node& node, bool smooth);

  /** What forward leaves for backward. */
  struct Trace {
    std::vector<T> g, x, length, s, p, weights, attended, normal, deviation;
  };
  /** Work arrays of all layers. */
  struct Work {
    std::vector<T> packed, a, b, c, d;
  };

  int64_t width() const { return in_.n_in(); }
  /** Features (n, ld) of the neighbors, in place. */
  void forward(const AttentionSlots<T>& slots, T* g, int64_t ld, Trace& trace, Work& work) const;
  /** Their derivatives (n, ld), in place; those of the slots are added to. */
  void backward(const AttentionSlots<T>& slots, T* g_bar, int64_t ld, const Trace& trace,
                Work& work) const;
  /** Features of an empty slot. */
  void empty(std::vector<double>& g) const;

 private:
  void weigh(const AttentionSlots<T>& slots, Trace& trace) const;
  void weigh_backward(const AttentionSlots<T>& slots, const Trace& trace, const T* weights_bar,
                      T* s_bar) const;
  void normalize(int64_t n, Trace& trace) const;
  T cosine(const AttentionSlots<T>& slots, int64_t j, int64_t k) const;

  Dense<T> in_, out_;
  std::vector<double> gamma_, beta_, out_bias_;
  double scale_, eps_;
  bool smooth_, dotr_, normalize_;
  int64_t hidden_;
};

extern template class AttentionLayer<double>;
extern template class AttentionLayer<float>;

}  // namespace deepmd::native
