// SPDX-License-Identifier: LGPL-3.0-or-later
/** Finding pairs of atoms: O(N), exact for any cell, cells smaller than the cutoff included. */
#pragma once

#include <cstdint>
#include <vector>

namespace deepmd::core {

/** Pairs, sorted by their centre i. */
struct Pairs {
  std::vector<int64_t> i;     ///< centre
  std::vector<int64_t> j;     ///< neighbour
  std::vector<int32_t> shift; ///< (n, 3): lattice translation of the neighbour
  std::vector<double> vec;    ///< (n, 3): coord[j] - coord[i] + shift . cell [Å]
};

/**
 * All pairs with 0 < r <= rcut of one frame.
 *
 * @param coord (natoms, 3) [Å], anywhere in space
 * @param cell (9) [Å], rows are the vectors; null for an open system
 * @throws deepmd::deepmd_exception for coordinates that are not finite or a cell without volume
 */
Pairs find_pairs(const double* coord, int64_t natoms, const double* cell, double rcut);

}  // namespace deepmd::core
