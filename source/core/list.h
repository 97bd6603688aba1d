// SPDX-License-Identifier: LGPL-3.0-or-later
/** Pairs out of a neighbor list made elsewhere, by a molecular dynamics program. */
#pragma once

#include <cstdint>
#include <vector>

#include "model.h"
#include "pairs.h"

namespace deepmd::core {

/** A foreign list, cut to the cutoff; atoms that take no part are left out. */
class GivenPairs : public PairSource {
 public:
  /**
   * @param frame with a list; must outlive this object
   * @param centers local atoms that are predicted; those that the list leaves out have no pairs
   * @param ntypes atoms of a type outside of 0 <= type < ntypes are ignored
   * @throws deepmd::deepmd_exception for a list that names atoms that do not exist, or for half a
   *   list, as far as a sample of its rows shows it
   */
  GivenPairs(const Frame& frame, std::vector<int64_t> centers, int ntypes, double rcut);

  /** Ghosts, which may be centers behind the local atoms, have no pairs. */
  void find(int64_t first, int64_t last, Pairs& pairs) const override;

 private:
  void check_full() const;
  bool are_pair(int64_t i, int64_t j) const;
  bool lists(int64_t i, int64_t j) const;

  const Frame& frame_;
  std::vector<int64_t> centers_;
  std::vector<int> row_;  ///< per local atom its place in the list, or -1
  int ntypes_;
  double rcut_;
};

}  // namespace deepmd::core
