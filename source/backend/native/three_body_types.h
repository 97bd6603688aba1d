// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * se_e3_tebd: D = 1/N^2 times the sum over pairs j, k of neighbors of t G(t, types of j and k), t
 * the product of the angular parts of their rows of the environment matrix.
 *
 * For two types of neighbors G is a function of one number: the types are folded into the first
 * layer ("concat"), or into a gate, G (1 + gate w), with w = 1 or the product of both switches
 * ("strip"). So two sums suffice, of t G and of t w G.
 */
#pragma once

#include "two_body.h"
#include "types.h"

namespace deepmd::native {

template <class T>
class SeE3Types : public Descriptor<T> {
 public:
  SeE3Types(const Node& node, Packings& packings, const View& view);

  Reach reach() const override { return environment_.reach(); }
  int64_t width() const override { return ng_ + tail(); }
  int64_t block() const override { return 32; }
  std::unique_ptr<DescriptorState> state() const override { return std::make_unique<State>(); }
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;
  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override;

 private:
  struct State : DescriptorState {
    std::vector<Neighbors<T>> neighbors;
    std::vector<T> product, rows, rows_bar, s_bar, sums;
    EmbeddingState<T> embedding;
  };

  int64_t tail() const { return tails_.empty() ? 0 : static_cast<int64_t>(tails_[0].size()); }
  void read_concat(const Node& network, const Rows& types);
  void read_strip(const Node& node, const Rows& types);
  const Embedding<T>& embedding(int64_t a, int64_t b) const {
    return embeddings_[embeddings_.size() == 1 ? 0 : a * environment_.ntypes() + b];
  }
  const T* gate(int64_t a, int64_t b) const {
    return gates_.empty() ? nullptr : gates_[a * environment_.ntypes() + b].data();
  }
  /** Find the neighbors of a block. */
  void find(const Block& block, State& state) const;
  /** Prepare all pairs of neighbors of types a and b of a center; their number. */
  int64_t prepare(int64_t center, int64_t a, int64_t b, State& state) const;
  /** Add to the derivatives by rows and switches of the neighbors. */
  void scatter(int64_t center, int64_t a, int64_t b, State& state) const;

  EnvironmentSettings environment_;
  bool smooth_ = false;                   ///< whether gates vanish at the cutoff
  std::vector<Embedding<T>> embeddings_;  ///< (first, second), or one for all
  std::vector<std::vector<T>> gates_;     ///< (first, second): (ld); empty: there are none
  Rows tails_;                            ///< per type: appended to the descriptor
  T scale_ = 0;
  int64_t ng_ = 0, ld_ = 0;
};

extern template class SeE3Types<double>;
extern template class SeE3Types<float>;

}  // namespace deepmd::native
