// SPDX-License-Identifier: LGPL-3.0-or-later
/** Exchange of rows of a chunk between ranks, by that of the atoms of a frame. */
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "system.h"

namespace deepmd::core {

/**
 * Rows of a chunk of all centers: local atoms, ghosts, and others that no rank has.
 *
 * The exchange of the frame knows its atoms only, in their order. Keeps its memory.
 */
class RowExchange {
 public:
  /**
   * Functions for the rows of a system, to be used until the next call.
   *
   * @param each rows of a center, which follow each other: 2 where there are partners
   */
  const deepmd_exchange* begin(const System& system, int64_t each);

 private:
  static int to_ghosts(void* context, const deepmd_array* values, char* error, size_t error_size);
  static int to_owners(void* context, const deepmd_array* values, char* error, size_t error_size);
  void gather(const double* rows, int64_t first, int64_t last);
  void spread(double* rows, int64_t first, int64_t last) const;
  deepmd_array atoms(int64_t width);

  const System* system_ = nullptr;
  int64_t each_ = 1, width_ = 0;  ///< rows of a center, and numbers of all of them
  deepmd_exchange outer_{}, inner_{};
  std::vector<double> values_;
};

}  // namespace deepmd::core
