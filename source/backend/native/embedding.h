// SPDX-License-Identifier: LGPL-3.0-or-later
/** The function G(s) of one number that is summed over neighbors: a table or a network. */
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "pieces.h"

namespace deepmd::native {

/** Values of G at the edges of a block, or where they are found. */
template <class T>
struct EmbeddingState {
  std::vector<int32_t> row;
  std::vector<T> place, beyond, s, g, dg;
  Tape<T> tape;
  /** Pieces of the edges, -1 outside; where there are such, everything above is there, too. */
  std::vector<int32_t> piece;
  std::vector<T> piece_place;
  bool has_pieces = false, all_inside = false;

  /** Whether the edges of a range are contracted with polynomials. */
  bool in_pieces(int64_t first, int64_t last) const {
    return has_pieces && (all_inside || std::none_of(piece.begin() + first, piece.begin() + last,
                                                     [](int32_t p) { return p < 0; }));
  }
};

template <class T>
class Embedding {
 public:
  explicit Embedding(Network<T> network);
  /** A table (rows, 6 width) and its description; see deepmd/dpmodel/nn/tabulation.py. */
  Embedding(const Node& data, const Node& info, bool symmetric);

  int64_t width() const { return width_; }
  bool is_table() const { return !network_; }

  /**
   * Contract with polynomials on pieces of a range of s from now on, where they reproduce a
   * network or a table up to rounding. They are made when edges are prepared for the first time.
   */
  void use_pieces(double lower, double upper);

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
  /** What is made when it is needed, for all copies. */
  struct Lazy {
    std::once_flag once;
    double lower = 0.0, upper = 0.0;
    std::unique_ptr<const Pieces<T>> pieces;
  };

  const Pieces<T>* pieces() const;
  Sampled sampled(double lower, double upper) const;
  void prepare_exactly(int64_t n, const T* s, int64_t stride, EmbeddingState<T>& state) const;

  std::shared_ptr<const Network<T>> network_;
  std::shared_ptr<Lazy> lazy_;
  typename Kernels<T>::Table table_{};
  std::shared_ptr<const std::vector<T>> data_;
  int64_t width_ = 0, ld_ = 0;
};

extern template class Embedding<double>;
extern template class Embedding<float>;

}  // namespace deepmd::native
