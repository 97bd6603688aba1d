// SPDX-License-Identifier: LGPL-3.0-or-later
/** A frame after its checks: which atoms are predicted, with what parameters and neighbors. */
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "inputs.h"
#include "model.h"
#include "pairs.h"

namespace deepmd::core {

struct System {
  const Frame* frame = nullptr;
  int64_t nloc = 0;
  /** Real local atoms, then ghosts whose neighbors matter or, with an exchange, who are neighbors. */
  std::vector<int64_t> centers;
  int64_t n_local = 0;           ///< of the centers
  /** (nall): place among the centers, of a ghost that of the atom it is an image of; -1: none */
  std::vector<int64_t> owner;
  bool owners_known = true;
  bool has_halo = false;          ///< ghosts are centers; of those without a place the type matters
  bool exchanges = false;         ///< ranks exchange messages: ghosts are no centers of edges
  std::vector<double> cotangent;  ///< (n, size) of the first output; empty: none
  double reach = 0.0;             ///< up to where neighbors matter [Å]
  std::vector<GivenInput> inputs;     ///< in the order of Info::inputs
  std::unique_ptr<PairSource> pairs;  ///< of the centers

  int64_t n() const { return static_cast<int64_t>(centers.size()); }
  /** Whether an atom is a center, and not the image of one. */
  bool is_center(int64_t atom) const { return owner[atom] >= 0 && centers[owner[atom]] == atom; }
};

/** Centers first <= k < last of a system. */
struct Range {
  int64_t first, last;
};

/** Throw that the mapping of a list lacks a neighbor. */
[[noreturn]] void fail_without_owner(int64_t neighbor);

/** Whether ghosts are evaluated where their neighbors matter, see NeighborList::halo. */
bool uses_halo(const Frame& frame, const Info& info);

/** Whether ranks exchange messages, see NeighborList::exchange. */
bool uses_exchange(const Frame& frame, const Info& info);

/**
 * Check a frame and look up who is in it; throws deepmd::deepmd_exception for bad input.
 *
 * @param cotangent see Wanted; copied
 */
System make_system(const Frame& frame, const Info& info, const double* cotangent = nullptr);

}  // namespace deepmd::core
