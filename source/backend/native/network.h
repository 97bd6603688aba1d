// SPDX-License-Identifier: LGPL-3.0-or-later
/** Dense networks on the kernels: values, derivatives by the input, jets of one number. */
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "dictionary.h"
#include "kernels/precision.h"

namespace deepmd::native {

/** Length of a row of a work array of a width. */
template <class T>
int64_t row_length(int64_t width) {
  const int64_t step = 2 * Kernels<T>::get().lanes;
  return (width + step - 1) / step * step;
}

/** Whether the networks of a component are in single precision. */
bool is_single(const Node& node);

/** Make a buffer at least so large; the contents are undefined. */
template <class T>
T* sized(std::vector<T>& buffer, int64_t n) {
  if (static_cast<int64_t>(buffer.size()) < n) buffer.resize(static_cast<size_t>(n));
  return buffer.data();
}

/**
 * Inputs of which some are equal: for each that is left the number of one, and
 * of another that is the same, or -1. Weights of equal inputs are added up.
 */
using Folded = std::vector<std::pair<int64_t, int64_t>>;

/** A dense layer; see deepmd/dpmodel/nn/layers.py. */
template <class T>
class Dense {
 public:
  /** `folded`: of the first inputs; those beyond are taken as they are. */
  explicit Dense(const Node& node, const Folded& folded = {});

  int64_t n_in() const { return n_in_; }
  int64_t n_out() const { return layer_.width; }
  int64_t ld() const { return ld_; }
  /** The description for the kernels. */
  typename Kernels<T>::Layer layer() const;
  const T* weights() const { return packed_.data(); }
  const T* transposed() const { return transposed_.data(); }

  /** Take the part of the inputs from number `first` on into the bias: those of one kind. */
  void fix_inputs(const Node& node, int64_t first, const std::vector<double>& inputs);

 private:
  int64_t n_in_ = 0, ld_ = 0;
  bool resnet_ = false;
  typename Kernels<T>::Layer layer_{};
  std::vector<T> packed_, transposed_, bias_, step_;

  void set_weights(const std::vector<double>& w, int64_t n_in);
};

/** Work arrays of a network; what forward leaves is read by backward. */
template <class T>
struct Tape {
  std::vector<std::vector<T>> y, slope;
  std::vector<T> bar[2], tangent[2], ones;
};

template <class T>
class Network {
 public:
  /** From a dictionary of an embedding or fitting network. */
  explicit Network(const Node& node, const Folded& folded = {});
  /** Whether the first layer of a network adds its input to its output. */
  static bool adds_input(const Node& node);

  int64_t n_in() const { return layers_.front().n_in(); }
  int64_t n_out() const { return layers_.back().n_out(); }
  int64_t ld() const { return layers_.back().ld(); }
  const std::vector<Dense<T>>& layers() const { return layers_; }

  /** Values (m, ld) of rows x (m, ldx); valid until the tape is used again. */
  const T* forward(int64_t m, const T* x, int64_t ldx, Tape<T>& tape, bool slopes) const;
  /** x_bar (m, ldx) from y_bar (m, ld), after forward with slopes; y_bar is overwritten. */
  void backward(int64_t m, T* y_bar, Tape<T>& tape, T* x_bar, int64_t ldx) const;
  /** Values g and derivatives dg (m, ld) by the one input s (m). */
  void jets(int64_t m, const T* s, Tape<T>& tape, T* g, T* dg) const;

  /** Fix all inputs but the first; see Dense::fix_inputs. */
  void fix_inputs(const Node& node, const std::vector<double>& inputs);

 private:
  std::vector<Dense<T>> layers_;
};

extern template class Dense<double>;
extern template class Dense<float>;
extern template class Network<double>;
extern template class Network<float>;

}  // namespace deepmd::native
