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
  std::vector<int64_t> centers;  ///< real local atoms
  /** (nall): place among the centers, of a ghost that of the atom it is an image of; -1: none */
  std::vector<int64_t> owner;
  bool owners_known = true;
  double reach = 0.0;                 ///< up to where neighbors matter [Å]
  std::vector<GivenInput> inputs;     ///< in the order of Info::inputs
  std::unique_ptr<PairSource> pairs;  ///< of the centers

  int64_t n() const { return static_cast<int64_t>(centers.size()); }
};

/** Centers first <= k < last of a system. */
struct Range {
  int64_t first, last;
};

/** Throw that the mapping of a list lacks a neighbor. */
[[noreturn]] void fail_without_owner(int64_t neighbor);

/** Check a frame and look up who is in it; throws deepmd::deepmd_exception for bad input. */
System make_system(const Frame& frame, const Info& info);

}  // namespace deepmd::core
