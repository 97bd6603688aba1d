// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Descriptors of sums over neighbors of G(s) outer R, R rows of the environment matrix.
 *
 * se_e2_a: D = T T_<^T with T the sums over N slots, divided by N. se_e2_r: the sums of G alone,
 * times 1/5. G depends on the types of center and neighbor. An empty slot holds the row
 * -mean/deviation; those of the definition that have no neighbor here are one constant.
 */
#pragma once

#include "descriptor.h"
#include "embedding.h"

namespace deepmd::native {

/** Edges of the centers of a block to the neighbors of one type. */
template <class T>
struct Neighbors {
  std::vector<int64_t> edge, start;  ///< start: n + 1
  std::vector<int64_t> slots;        ///< per center, those that are taken, excluded ones included
  std::vector<T> r, r_bar;           ///< (edges, 4)
  std::vector<double> slopes;
  /** Where the switch counts: its values and slopes, rows times it, and what backward needs. */
  std::vector<T> weight, weight_slope, weight_bar, weighted, weighted_bar, s_bar;
  EmbeddingState<T> embedding;
};

/** Environment rows: cutoffs, statistics, tables of neighbors. */
/** Whether empty slots have a mean: as set_davg_zero says, unless the array says otherwise. */
bool has_mean(const Node& node);

class EnvironmentSettings {
 public:
  /** `width` numbers per row: 4, or 1 for the radial component. */
  EnvironmentSettings(const Node& node, Packings& packings, const View& view, bool mixed,
                      int64_t width);

  int64_t ntypes() const { return ntypes_; }
  int64_t nnei() const { return nnei_; }
  bool mixed() const { return reach_.mixed_types; }
  const Reach& reach() const { return reach_; }
  /** Settings of the kernel for centers of a type. */
  const deepmd_environment& of(int64_t center) const { return settings_[center]; }
  /** Row of an empty slot, normalized. */
  const double* empty(int64_t center) const { return empty_.data() + DEEPMD_ROW * center; }
  bool has_mean(int64_t center) const;
  bool excluded(int64_t center, int64_t neighbor) const {
    return excluded_[center * ntypes_ + neighbor];
  }
  double sel(int64_t neighbor) const { return static_cast<double>(reach_.sel[neighbor]); }

  /** Find the edges of a block to neighbors of a type, and their rows. */
  template <class T>
  void find(const Block& block, int64_t neighbor, Neighbors<T>& found) const;
  /** Values and slopes of the switch. */
  template <class T>
  void weigh(const Block& block, Neighbors<T>& found) const;
  /** Add the part of the gradient that comes from weight_bar. */
  template <class T>
  void add_weights(const Block& block, const Neighbors<T>& found, double* gradient,
                   int64_t stride) const;
  /** Add the part of the gradient that comes from r_bar. */
  template <class T>
  void add_gradient(const Block& block, const Neighbors<T>& neighbors, double* gradient,
                    int64_t stride) const;

 private:
  Reach reach_;
  int64_t ntypes_ = 0, nnei_ = 0;
  size_t slot_ = 0;
  std::vector<deepmd_environment> settings_;
  std::vector<double> empty_;
  std::vector<char> excluded_;
};

template <class T>
struct TwoBodyState : DescriptorState {
  std::vector<Neighbors<T>> neighbors;
  std::vector<T> sums, bar, part, weighted_part;
};

/** Networks or tables for every pair of types, and sums over neighbors. */
template <class T>
class TwoBody : public Descriptor<T> {
 public:
  Reach reach() const override { return environment_.reach(); }
  int64_t block() const override { return tables_ || pieces_ ? 128 : 24; }
  std::unique_ptr<DescriptorState> state() const override {
    return std::make_unique<TwoBodyState<T>>();
  }

 protected:
  explicit TwoBody(EnvironmentSettings environment) : environment_(std::move(environment)) {}
  /** Read networks, or tables, that differ by types. */
  void read_typed(const Node& node);
  /** Contract with polynomials that equal the embeddings; their values are no longer prepared. */
  void use_pieces();

  const Embedding<T>& embedding(int64_t center, int64_t neighbor) const {
    return embeddings_[index_[center * environment_.ntypes() + neighbor]];
  }
  /** Prepare the neighbors of all types of a block; types that are excluded have none. */
  void prepare(const Block& block, TwoBodyState<T>& state) const;

  EnvironmentSettings environment_;
  std::vector<Embedding<T>> embeddings_;
  std::vector<size_t> index_;  ///< (center, neighbor): which of them
  bool tables_ = false, pieces_ = false;
  int64_t ng_ = 0, ld_ = 0;
};

/** D = T T_<^T; the G of a neighbor may be multiplied by 1 + gate, or 1 + gate times the switch. */
template <class T>
class Symmetrized : public TwoBody<T> {
 public:
  int64_t width() const override {
    return this->ng_ * axis_ - (folded_ ? axis_ * (axis_ - 1) / 2 : 0);
  }
  int64_t rotation_width() const override { return this->ng_; }
  /** The upper part of the product is symmetric: one half of it is left out. */
  Folded fold() override;
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;
  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override;

 protected:
  Symmetrized(const Node& node, EnvironmentSettings environment)
      : TwoBody<T>(std::move(environment)), axis_(node.integer("axis_neuron")) {}

  /** Add the slots that are empty to the sums (4, ld) of a center. */
  virtual void add_empty(const Block& block, int64_t center, const TwoBodyState<T>& state,
                         T* sums) const = 0;
  /** Term of an empty slot, G outer the row, of centers of a type: (4, ld). */
  std::vector<T> empty_term(int64_t center, const std::vector<double>& g) const;
  void check_axis(const Node& node) const;

  int64_t axis_;
  bool folded_ = false;
  bool smooth_ = false;                ///< whether gates vanish at the cutoff
  bool weighs_ = false;                ///< whether the switch counts beside the rows
  std::vector<std::vector<T>> gates_;  ///< (center, neighbor): (ld); empty: there are none

  const T* gate(int64_t center, int64_t neighbor) const {
    if (gates_.empty()) return nullptr;
    return gates_[center * this->environment_.ntypes() + neighbor].data();
  }
  /** Add the neighbors of a center to its sums (4, ld). */
  virtual void contract_all(const Block& block, int64_t center, TwoBodyState<T>& state,
                            T* sums) const;
  /** Derivatives by rows and switches of its neighbors. */
  virtual void contract_all_backward(const Block& block, int64_t center, TwoBodyState<T>& state,
                                     const T* bar) const;

 private:
  void weigh(const Block& block, Neighbors<T>& found) const;
  void contract(const Block& block, int64_t center, int64_t neighbor, TwoBodyState<T>& state,
                T* sums) const;
  void contract_backward(const Block& block, int64_t center, int64_t neighbor,
                         TwoBodyState<T>& state, const T* bar) const;
};

template <class T>
class SeA : public Symmetrized<T> {
 public:
  SeA(const Node& node, Packings& packings, const View& view);

 protected:
  void add_empty(const Block& block, int64_t center, const TwoBodyState<T>& state,
                 T* sums) const override;

 private:
  std::vector<std::vector<T>> empty_;  ///< (center, neighbor); no numbers where it is zero
};

template <class T>
class SeR : public TwoBody<T> {
 public:
  SeR(const Node& node, Packings& packings, const View& view);

  int64_t width() const override { return this->ng_; }
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;
  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override;

 private:
  std::vector<T> empty_, zero_;  ///< (center, neighbor, ld): G of an empty and an excluded slot
};

extern template class TwoBody<double>;
extern template class TwoBody<float>;
extern template class Symmetrized<double>;
extern template class Symmetrized<float>;

}  // namespace deepmd::native
