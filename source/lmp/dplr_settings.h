// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The arguments of fix dplr: keywords with values.
 */
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace deepmd_lmp {

struct DplrSettings {
  std::string model;
  std::vector<std::pair<int, int>> associated;  ///< types of LAMMPS: atom and its centroid
  std::vector<int> bond_types;                  ///< of bonds between atoms and centroids
  bool has_field = false;
  std::array<std::string, 3> field;  ///< numbers [V/Å], or v_name: equal-style variables
  int pair_index = 0;  ///< which pair_style deepmd of several under hybrid; 0: the one
};

/** Read the words after "fix ID group dplr". Throws Failure. */
DplrSettings parse_dplr_settings(int narg, char** arg);

}  // namespace deepmd_lmp
