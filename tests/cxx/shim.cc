// SPDX-License-Identifier: LGPL-3.0-or-later
// Plain C functions around the C++ parts that tests compare with the Python ones.
#include <cstring>
#include <vector>

#include "core/packing.h"

using namespace deepmd::core;

namespace {
Packer packer;
const std::vector<Slot>* slots = nullptr;
std::vector<Packing> packings;
Overflow overflow;
}  // namespace

extern "C" {

void add_packing(int layout, int64_t ntypes, double rcut, const int64_t* sel, int64_t n_sel,
                 int by_centre, const int32_t* exclude, int64_t n_exclude, int64_t nearest,
                 double edge_rcut, int64_t edge_sel) {
  Packing p;
  p.layout = static_cast<Layout>(layout);
  p.ntypes = ntypes;
  p.rcut = rcut;
  p.sel.assign(sel, sel + n_sel);
  p.by_centre = by_centre != 0;
  for (int64_t k = 0; k < n_exclude; ++k) {
    p.exclude.emplace_back(exclude[2 * k], exclude[2 * k + 1]);
  }
  p.nearest = nearest;
  p.edge_rcut = edge_rcut;
  p.edge_sel = edge_sel;
  packings.push_back(p);
}

/** Number of slots; packings are forgotten. */
int64_t pack(int64_t n_edges, const int64_t* i, const int64_t* j, const double* vec,
             const double* r2, int64_t n_atoms, const int64_t* atype, const int64_t* first_type) {
  overflow = {};
  slots = &packer.pack(packings, {n_edges, i, j, vec, r2, n_atoms, atype, first_type}, &overflow);
  packings.clear();
  return static_cast<int64_t>(slots->size());
}

const int64_t* slot(int64_t k, int64_t* rows, int64_t* columns) {
  *rows = (*slots)[k].rows;
  *columns = (*slots)[k].columns;
  return (*slots)[k].data.data();
}

int64_t overflow_centers() { return overflow.centers; }
int64_t overflow_needed(int64_t* needed) {
  std::memcpy(needed, overflow.needed.data(), overflow.needed.size() * sizeof(int64_t));
  return static_cast<int64_t>(overflow.needed.size());
}

}  // extern "C"
