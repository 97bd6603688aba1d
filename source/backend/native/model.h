// SPDX-License-Identifier: LGPL-3.0-or-later
/** Atomic models of all kinds, and what the library must know of them. */
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "descriptor.h"
#include "fitting.h"

namespace deepmd::native {

/** Work arrays of a model for one call. */
struct Work {
  virtual ~Work() = default;
};

/** A model whose atoms have a value each, which depends on its edges. */
class AtomicModel {
 public:
  AtomicModel(const Node& node, Packings& packings);
  virtual ~AtomicModel() = default;

  const std::vector<std::string>& type_map() const { return type_map_; }
  int64_t ntypes() const { return static_cast<int64_t>(type_map_.size()); }
  /** Whether atoms of a type have no output. */
  bool hidden(int64_t type) const { return hidden_[type]; }

  virtual Reach reach() const = 0;
  virtual OutputFacts output() const = 0;
  virtual std::vector<InputFacts> inputs() const = 0;
  virtual std::vector<int64_t> selected_types() const { return {}; }
  virtual bool single_precision() const = 0;
  /** Whether the cotangent of a chunk is looked at: where it makes more than a factor per atom. */
  virtual bool takes_cotangents() const { return false; }
  /** Whether the exchange of a chunk is called. */
  virtual bool exchanges() const { return false; }
  virtual std::unique_ptr<Work> work() const = 0;

  /**
   * Values (n_atoms, size) and, unless it is null, their gradient (n_edges, size, 3); with a
   * cotangent, the gradient (n_edges, 3) of its product with the values.
   */
  virtual void evaluate(const Chunk& chunk, double* values, double* gradient, Work& work) const = 0;

 private:
  std::vector<std::string> type_map_;
  std::vector<char> hidden_;
};

/** Read a model of any type; throws Failure naming what is not known. */
std::unique_ptr<AtomicModel> read_model(const Node& node, Packings& packings);

}  // namespace deepmd::native
