// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * se_e3: D = sum over types a <= b of 1/(N_a N_b) times the sum over neighbors j of type a and k of
 * type b of t G_ab(t), t the product of the angular parts of their rows of the environment matrix.
 */
#pragma once

#include "two_body.h"

namespace deepmd::native {

template <class T>
class SeE3 : public Descriptor<T> {
 public:
  SeE3(const Node& node, Packings& packings, const View& view);

  Reach reach() const override { return environment_.reach(); }
  int64_t width() const override { return ng_; }
  int64_t block() const override { return 32; }
  std::unique_ptr<DescriptorState> state() const override { return std::make_unique<State>(); }
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;
  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override;

 private:
  /** Pairs of neighbors of one center, of two types; an empty slot is a neighbor, too. */
  struct Angles {
    std::vector<T> product, weight, rows, rows_bar, s_bar;
    EmbeddingState<T> embedding;
    std::vector<T> sums;
  };
  struct State : DescriptorState {
    std::vector<Neighbors<T>> neighbors;
    Angles angles;
  };

  /** Neighbors of a type of a center, and one that stands for its empty slots. */
  struct Side {
    const T* rows;   ///< (n, 4)
    int64_t n;       ///< neighbors
    const T* empty;  ///< (3)
    T missing;       ///< empty slots
    int64_t count() const { return n + (missing != T(0) ? 1 : 0); }
    const T* row(int64_t k) const { return k < n ? rows + DEEPMD_ROW * k + 1 : empty; }
    T weight(int64_t k) const { return k < n ? T(1) : missing; }
  };

  Side side(const Block& block, int64_t center, int64_t type, const State& state) const;
  /** Prepare all pairs of two sides; their number. */
  int64_t prepare(const Side& a, const Side& b, const Embedding<T>& embedding,
                  Angles& angles) const;
  T scale(int64_t a, int64_t b) const {
    const double slots = environment_.sel(a) * environment_.sel(b);
    return static_cast<T>(slots > 0.0 ? 1.0 / slots : 0.0);
  }
  const Embedding<T>& embedding(int64_t a, int64_t b) const {
    return embeddings_[a + b * environment_.ntypes()];
  }

  EnvironmentSettings environment_;
  std::vector<Embedding<T>> embeddings_;
  std::vector<T> empty_;  ///< (center, 3): angular part of an empty slot
  int64_t ng_ = 0, ld_ = 0;
};

extern template class SeE3<double>;
extern template class SeE3<float>;

}  // namespace deepmd::native
