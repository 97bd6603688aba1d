// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * DPA-1: neighbors of all types in one list, types through an embedding.
 *
 * The types of a center and a neighbor are few: what their embeddings add to the first layer of G
 * ("concat"), or the gate that they make ("strip"), is computed once for every pair. What remains
 * is a function of one number for every pair of types. Attention layers mix the G of the neighbors
 * of an atom, one atom at a time; what their derivatives need is computed again rather than kept.
 */
#pragma once

#include "attention_layers.h"
#include "two_body.h"
#include "types.h"

namespace deepmd::native {

template <class T>
struct Dpa1State : TwoBodyState<T> {
  std::vector<T> g, g_bar, r, r_bar, none, weight, weight_bar, direction, direction_bar;
  std::vector<T> length;  ///< of the angular parts of the rows
  std::vector<typename AttentionLayer<T>::Trace> traces;
  typename AttentionLayer<T>::Work work;
};

template <class T>
class Dpa1 : public Symmetrized<T> {
 public:
  Dpa1(const Node& node, Packings& packings, const View& view);

  int64_t width() const override { return Symmetrized<T>::width() + tail(); }
  int64_t block() const override { return layers_.empty() ? Symmetrized<T>::block() : 16; }
  std::unique_ptr<DescriptorState> state() const override {
    return std::make_unique<Dpa1State<T>>();
  }
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;

 protected:
  void contract_all(const Block& block, int64_t center, TwoBodyState<T>& state,
                    T* sums) const override;
  void contract_all_backward(const Block& block, int64_t center, TwoBodyState<T>& state,
                             const T* bar) const override;
  void add_empty(const Block& block, int64_t center, const TwoBodyState<T>& state,
                 T* sums) const override;

 private:
  int64_t tail() const { return tails_.empty() ? 0 : static_cast<int64_t>(tails_[0].size()); }
  /** What a network of types gets for a neighbor and a center. */
  std::vector<double> both(const Rows& types, int64_t center, int64_t neighbor) const;
  void read_concat(const Node& node, const Rows& types);
  void read_strip(const Node& node, const Rows& types, bool tabulated);
  /** The gates of all centers and neighbors, empty slots included. */
  Rows read_gates(const Node& node, const Rows& types) const;
  void make_empty(const Rows& values);

  /** Features of the neighbors of a center after all layers; their number. */
  AttentionSlots<T> attend(const Block& block, int64_t center, Dpa1State<T>& state) const;
  /** Collect features, rows and geometry of the neighbors of a center. */
  void collect(const Block& block, int64_t center, Dpa1State<T>& state) const;
  void scatter(const Block& block, int64_t center, Dpa1State<T>& state) const;

  bool one_side_ = false, first_type_ = false;
  size_t first_type_slot_ = 0;
  std::vector<AttentionLayer<T>> layers_;
  Rows tails_;                         ///< per type: appended to the descriptor
  std::vector<std::vector<T>> empty_;  ///< (center, neighbor or none): term of an empty slot
};

}  // namespace deepmd::native
