// SPDX-License-Identifier: LGPL-3.0-or-later
/** A request of the library, as descriptors and models read it. */
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../backend.h"
#include "network.h"

namespace deepmd::native {

/** A table (rows, columns) of edge numbers, -1 where empty; or a list, with one column. */
struct Slots {
  const int64_t* data = nullptr;
  int64_t rows = 0, columns = 0;
};

/** Edges sorted by center, and the atoms they join. */
struct Chunk {
  int64_t n_edges = 0, n_atoms = 0, n_frames = 1;
  const double* vec = nullptr;  ///< (n_edges, 3) [Å]
  const int64_t* i = nullptr;
  const int64_t* j = nullptr;
  const int64_t* atype = nullptr;  ///< types as the reader numbers them
  const int64_t* frame = nullptr;
  std::vector<Slots> slots;
  std::map<std::string, const double*> inputs;
  /** (n_atoms, size), see deepmd_result; null: a gradient of every component. */
  const double* cotangent = nullptr;
  int threads = 1;  ///< that may be used for it
  /** See deepmd_edges_request; null: there is one rank, or it has all that matters. */
  const deepmd_exchange* exchange = nullptr;
  int64_t n_owned = 0;
};

/** Centers of one type that are evaluated together. */
struct Block {
  const Chunk& chunk;
  int64_t type;
  const int64_t* centers;
  int64_t n;
};

using Pairs = std::vector<std::pair<int64_t, int64_t>>;

/** Tables of neighbors that a part of a model asks for: the packings of backend.h. */
struct Packing {
  std::string layout;
  double rcut = 0.0;  ///< [Å]
  std::vector<int64_t> sel;
  Pairs exclude;
  int64_t nearest = 0;

  bool operator==(const Packing& other) const {
    return layout == other.layout && rcut == other.rcut && sel == other.sel &&
           exclude == other.exclude && nearest == other.nearest;
  }
};

/** All packings of a model. */
class Packings {
 public:
  /** For a number of types; the pairs are those that the model excludes. */
  Packings(int64_t ntypes, Pairs exclude) : ntypes_(ntypes), exclude_(std::move(exclude)) {}

  /** Ask for tables; the number of the first slot. Equal wishes share them. */
  size_t add(Packing packing);
  /** Take over those of a component, whose types are `types` of the whole's; the first slot. */
  size_t merge(const Packings& component, const std::vector<int64_t>& types);

  int64_t ntypes() const { return ntypes_; }
  size_t slots() const { return slots_; }
  const std::vector<Packing>& all() const { return all_; }

 private:
  size_t append(const Packing& packing);

  int64_t ntypes_;
  Pairs exclude_;
  std::vector<Packing> all_;
  std::vector<size_t> first_;
  size_t slots_ = 0;
};

}  // namespace deepmd::native
