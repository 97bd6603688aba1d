// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Wannier centroids among the atoms of LAMMPS, each bonded to the atom whose electrons it is for.
 */
#pragma once

#include <utility>
#include <vector>

#include "pointers.h"

namespace deepmd_lmp {

class Centroids {
 public:
  /**
   * @param associated types of LAMMPS: atom and its centroid
   * @param bond_types of the bonds between them
   */
  Centroids(LAMMPS_NS::LAMMPS* lmp, const std::vector<std::pair<int, int>>& associated,
            const std::vector<int>& bond_types);

  /**
   * Put every centroid where its atom is, so that they go to the same rank. To be called before
   * atoms change ranks; pairs may be on different ones yet.
   */
  void join();

  /**
   * Find the pairs among this rank's atoms. Throws Failure if an atom of the types lacks a partner,
   * has two, or has it on another rank.
   */
  void find();

  const std::vector<std::pair<int, int>>& pairs() const { return pairs_; }  ///< local indices

 private:
  struct Record;
  /** IDs of atoms and their centroids, from the bonds that this rank knows. */
  std::vector<std::pair<LAMMPS_NS::tagint, LAMMPS_NS::tagint>> bonds() const;
  void join_all(const std::vector<std::pair<LAMMPS_NS::tagint, LAMMPS_NS::tagint>>& known);
  int local(LAMMPS_NS::tagint tag) const;

  LAMMPS_NS::LAMMPS* lmp_;
  std::vector<int> centroid_type_;  ///< by type: that of its centroid, 0: none
  std::vector<bool> is_centroid_;   ///< by type
  std::vector<bool> is_bond_;       ///< by bond type
  std::vector<std::pair<int, int>> pairs_;
};

}  // namespace deepmd_lmp
