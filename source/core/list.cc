// SPDX-License-Identifier: LGPL-3.0-or-later
#include "list.h"

#include <algorithm>
#include <string>
#include <utility>

#include "error.h"

namespace deepmd::core {

GivenPairs::GivenPairs(const Frame& frame, std::vector<int64_t> centers, int ntypes, double rcut)
    : frame_(frame), centers_(std::move(centers)), ntypes_(ntypes), rcut_(rcut) {
  const NeighborList& list = *frame.list;
  const int64_t nloc = frame.nall - frame.nghost;
  row_.assign(static_cast<size_t>(nloc), -1);
  if (list.inum < 0 || (list.inum > 0 && (!list.ilist || !list.numneigh || !list.firstneigh))) {
    fail("neighbor list", "it has no ilist, numneigh or firstneigh");
  }
  for (int k = 0; k < list.inum; ++k) {
    const int64_t i = list.ilist[k];
    if (i < 0 || i >= nloc) {
      fail("neighbor list",
           "center " + std::to_string(i) + " is not among the " + std::to_string(nloc) +
               " local atoms",
           "give nghost, the number of ghosts at the end of the coordinates");
    }
    if (row_[i] >= 0) fail("neighbor list", "center " + std::to_string(i) + " comes twice");
    row_[i] = k;
  }
  check_full();
}

/** Whether the atoms are centers of the list within the cutoff of each other. */
bool GivenPairs::are_pair(int64_t i, int64_t j) const {
  if (j < 0 || j >= static_cast<int64_t>(row_.size()) || row_[j] < 0 || j == i) return false;
  double r2 = 0.0;
  for (int a = 0; a < 3; ++a) {
    const double d = frame_.coord[3 * j + a] - frame_.coord[3 * i + a];
    r2 += d * d;
  }
  return r2 <= rcut_ * rcut_;
}

/** Whether j is in the row of i. */
bool GivenPairs::lists(int64_t i, int64_t j) const {
  const int* row = frame_.list->firstneigh[row_[i]];
  const int count = frame_.list->numneigh[row_[i]];
  return std::any_of(row, row + count, [&](int entry) { return (entry & frame_.list->mask) == j; });
}

/** Half a list would give wrong numbers silently: look at one pair of some of its rows. */
void GivenPairs::check_full() const {
  constexpr int64_t samples = 16;
  const int64_t n = static_cast<int64_t>(centers_.size());
  for (int64_t c = 0; c < n; c += std::max<int64_t>(1, n / samples)) {
    const int64_t i = centers_[c];
    if (row_[i] < 0) continue;
    const int* row = frame_.list->firstneigh[row_[i]];
    const int* end = row + frame_.list->numneigh[row_[i]];
    const int* entry =
        std::find_if(row, end, [&](int e) { return are_pair(i, e & frame_.list->mask); });
    if (entry == end) continue;
    const int64_t j = *entry & frame_.list->mask;
    if (lists(j, i)) continue;
    fail("neighbor list",
         "atom " + std::to_string(i) + " lists atom " + std::to_string(j) +
             ", but not the other way round",
         "give a full list, which has each pair at both atoms");
  }
}

void GivenPairs::find(int64_t first, int64_t last, Pairs& pairs) const {
  const NeighborList& list = *frame_.list;
  const double limit = rcut_ * rcut_;
  const double* coord = frame_.coord;
  last = std::min(last, static_cast<int64_t>(centers_.size()));
  int64_t candidates = 0, n = 0;
  for (int64_t c = first; c < last; ++c) {
    const int row = row_[centers_[c]];
    if (row >= 0) candidates += list.numneigh[row];
  }
  pairs.resize(candidates);
  for (int64_t c = first; c < last; ++c) {
    const int64_t i = centers_[c];
    if (row_[i] < 0) continue;
    const int* neighbors = list.firstneigh[row_[i]];
    const int count = list.numneigh[row_[i]];
    for (int k = 0; k < count; ++k) {
      const int64_t j = neighbors[k] & list.mask;
      if (j < 0 || j >= frame_.nall) {
        fail("neighbor list",
             "atom " + std::to_string(i) + " has the neighbor " + std::to_string(j) +
                 ", but there are " + std::to_string(frame_.nall) + " atoms",
             "set the mask if entries carry other bits");
      }
      double* vec = pairs.vec.data() + 3 * n;
      double r2 = 0.0;
      for (int a = 0; a < 3; ++a) {
        vec[a] = coord[3 * j + a] - coord[3 * i + a];
        r2 += vec[a] * vec[a];
      }
      const int type = frame_.atype[j];
      pairs.i[n] = i;
      pairs.j[n] = j;
      pairs.r2[n] = r2;
      n += r2 <= limit && r2 > 0.0 && type >= 0 && type < ntypes_;
    }
  }
  pairs.resize(n);
  pairs.shift.assign(3 * static_cast<size_t>(n), 0);
}

}  // namespace deepmd::core
