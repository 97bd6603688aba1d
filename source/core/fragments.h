// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Sums over fragments: the energy of a QM region by one model, and for every fragment that of the
 * region and the fragment by another. The same as deepmd/dpmodel/model/pairwise.py, with a frame
 * for every group of atoms.
 */
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "model.h"

namespace deepmd::core {

class Fragments : public Model {
 public:
  /** Of the whole, and the models of the QM region and of its pairs with fragments. */
  Fragments(Info info, std::shared_ptr<Model> qm, std::shared_ptr<Model> qmmm)
      : info_(std::move(info)), qm_(std::move(qm)), qmmm_(std::move(qmmm)) {}

  const Info& info() const override { return info_; }
  std::vector<Prediction> evaluate(const Frame& frame, const Wanted& wanted) override;
  int64_t overflow() const override { return qm_->overflow() + qmmm_->overflow(); }
  int64_t most_neighbors() const override {
    return std::max(qm_->most_neighbors(), qmmm_->most_neighbors());
  }

 private:
  std::vector<int64_t> regions(const Frame& frame) const;
  void add_bias(const Frame& frame, const std::vector<int64_t>& regions, Prediction& sum) const;

  Info info_;
  std::shared_ptr<Model> qm_, qmmm_;
};

}  // namespace deepmd::core
