// SPDX-License-Identifier: LGPL-3.0-or-later
// The pair search for callers in other languages.
#include <cstdint>
#include <exception>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "pairs.h"

/**
 * Find all pairs with 0 < r <= rcut of one frame, as deepmd::core::find_pairs.
 *
 * The arrays belong to the library and are valid until this thread calls again.
 *
 * @param cell (9) [Å], or null for an open system
 * @param[out] n number of pairs
 * @param[out] i, j (n), sorted by i
 * @param[out] shift (n, 3)
 * @return null, or a message of what is wrong
 */
extern "C" const char* DP_FindPairs(const double* coord, int64_t natoms, const double* cell,
                                    double rcut, int64_t* n, const int64_t** i, const int64_t** j,
                                    const int32_t** shift) {
  static thread_local deepmd::core::Pairs pairs;
  static thread_local std::string message;
  try {
    std::vector<int64_t> atoms(static_cast<size_t>(natoms));
    std::iota(atoms.begin(), atoms.end(), int64_t{0});
    deepmd::core::CellList(coord, std::move(atoms), cell, rcut).find(0, natoms, pairs);
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
  *n = pairs.size();
  *i = pairs.i.data();
  *j = pairs.j.data();
  *shift = pairs.shift.data();
  return nullptr;
}
