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
  EmbeddingState<T> embedding;
};

/** Environment rows: cutoffs, statistics, tables of neighbors. */
class EnvironmentSettings {
 public:
  /** `width` numbers per row: 4, or 1 for the radial component. */
  EnvironmentSettings(const Node& node, Packings& packings, bool mixed, int64_t width);

  int64_t ntypes() const { return ntypes_; }
  int64_t nnei() const { return nnei_; }
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
  std::vector<T> sums, bar;
};

/** What both have in common; typed neighbors. */
template <class T>
class TwoBody : public Descriptor<T> {
 public:
  TwoBody(const Node& node, Packings& packings, int64_t width);

  Reach reach() const override { return environment_.reach(); }
  int64_t block() const override { return tables_ ? 128 : 24; }
  std::unique_ptr<DescriptorState> state() const override {
    return std::make_unique<TwoBodyState<T>>();
  }

 protected:
  const Embedding<T>& embedding(int64_t center, int64_t neighbor) const {
    return embeddings_[one_side_ ? neighbor : center + neighbor * environment_.ntypes()];
  }
  /** Prepare the neighbors of all types of a block; types that are excluded have none. */
  void prepare(const Block& block, TwoBodyState<T>& state) const;

  EnvironmentSettings environment_;
  std::vector<Embedding<T>> embeddings_;
  bool one_side_ = false, tables_ = false;
  int64_t ng_ = 0, ld_ = 0;
};

template <class T>
class SeA : public TwoBody<T> {
 public:
  SeA(const Node& node, Packings& packings);

  int64_t width() const override { return this->ng_ * axis_; }
  int64_t rotation_width() const override { return this->ng_; }
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;
  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override;

 private:
  int64_t axis_ = 0;
  std::vector<T> empty_;  ///< (center, neighbor, 4, ld): term of an empty slot
};

template <class T>
class SeR : public TwoBody<T> {
 public:
  SeR(const Node& node, Packings& packings);

  int64_t width() const override { return this->ng_; }
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;
  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override;

 private:
  std::vector<T> empty_, zero_;  ///< (center, neighbor, ld): G of an empty and an excluded slot
};

}  // namespace deepmd::native
