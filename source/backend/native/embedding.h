// SPDX-License-Identifier: LGPL-3.0-or-later
/** The function G(s) of one number that is summed over neighbors: a table or a network. */
#pragma once

#include <memory>
#include <vector>

#include "network.h"

namespace deepmd::native {

/** Values of G at the edges of a block, or where they are found. */
template <class T>
struct EmbeddingState {
  std::vector<int32_t> row;
  std::vector<T> place, beyond, s, g, dg;
  Tape<T> tape;
};

template <class T>
class Embedding {
 public:
  explicit Embedding(Network<T> network);
  /** A table (rows, 6 width) and its description; see deepmd/dpmodel/nn/tabulation.py. */
  Embedding(const Node& data, const Node& info, bool symmetric);

  int64_t width() const { return width_; }
  bool is_table() const { return !network_; }

  /** Prepare n edges; s is every stride-th number. */
  void prepare(int64_t n, const T* s, int64_t stride, EmbeddingState<T>& state) const;
  /** sums (4, lds) += G outer r of the edges from first to last; r (n, 4) of all edges. */
  void contract(int64_t first, int64_t last, const T* r, T* sums, int64_t lds,
                const EmbeddingState<T>& state) const;
  /** r_bar (n, 4) of these edges, and s_bar (n); without it that goes to the first component. */
  void contract_backward(int64_t first, int64_t last, const T* r, const T* sums_bar, int64_t lds,
                         T* r_bar, T* s_bar, const EmbeddingState<T>& state) const;
  /** sums (width) += G. */
  void add_up(int64_t first, int64_t last, T* sums, const EmbeddingState<T>& state) const;
  /** s_bar, every stride-th number. */
  void add_up_backward(int64_t first, int64_t last, const T* sums_bar, T* s_bar, int64_t stride,
                       const EmbeddingState<T>& state) const;
  /** Values at one place. */
  std::vector<double> at(double s) const;

 private:
  std::shared_ptr<const Network<T>> network_;
  typename Kernels<T>::Table table_{};
  std::shared_ptr<const std::vector<T>> data_;
  int64_t width_ = 0, ld_ = 0;
};

extern template class Embedding<double>;
extern template class Embedding<float>;

}  // namespace deepmd::native
