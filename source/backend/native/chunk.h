// SPDX-License-Identifier: LGPL-3.0-or-later
/** A request of the library, as descriptors and models read it. */
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "network.h"

namespace deepmd::native {

/** A table (rows, columns) of edge numbers, -1 where empty; or a list, with one column. */
struct Slots {
  const int64_t* data = nullptr;
  int64_t rows = 0, columns = 0;
};

/** Edges sorted by center, and the atoms they join. */
struct Chunk {
  int64_t n_edges = 0, n_atoms = 0;
  const double* vec = nullptr;  ///< (n_edges, 3) [Å]
  const int64_t* i = nullptr;
  const int64_t* j = nullptr;
  const int64_t* atype = nullptr;  ///< types as the reader numbers them
  const int64_t* frame = nullptr;
  std::vector<Slots> slots;
  std::map<std::string, const double*> inputs;
};

/** Centers of one type that are evaluated together. */
struct Block {
  const Chunk& chunk;
  int64_t type;
  const int64_t* centers;
  int64_t n;
};

/** How a part of a model wants its neighbors: the packings of backend.h. */
class Packings {
 public:
  Packings(int64_t ntypes, std::vector<std::vector<int64_t>> exclude)
      : ntypes_(ntypes), exclude_(std::move(exclude)) {}

  /** Ask for tables; the number of the first slot. Equal wishes share them. */
  size_t add(const char* layout, double rcut, const std::vector<int64_t>& sel,
             const std::vector<std::vector<int64_t>>& exclude = {});
  const nlohmann::json& json() const { return json_; }
  int64_t ntypes() const { return ntypes_; }

 private:
  int64_t ntypes_;
  std::vector<std::vector<int64_t>> exclude_;
  nlohmann::json json_ = nlohmann::json::array();
  std::vector<size_t> first_;
  size_t slots_ = 0;
};

}  // namespace deepmd::native
