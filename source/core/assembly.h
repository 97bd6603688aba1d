// SPDX-License-Identifier: LGPL-3.0-or-later
/** From gradients by edge vectors to forces and virials. */
#pragma once

#include <cstdint>

namespace deepmd::core {

/** Where derivatives of one output are added. */
struct Derivatives {
  int64_t n_atoms = 0;            ///< ghosts included
  double* force = nullptr;        ///< (size, n_atoms, 3)
  double* virial = nullptr;       ///< (size, 9): row a, column b is -sum g_a d_b
  double* atom_virial = nullptr;  ///< (size, n_atoms, 9), or null; belongs to the neighbor
};

/**
 * Add what a range of edges contributes: F_i += g, F_j -= g for the gradient g of an edge (i, j).
 *
 * Edges are added in their order, so that sums are the same to the last digit however many threads
 * made the gradients.
 *
 * @param gradient (n_edges, size, 3)
 * @param vec (n_edges, 3)
 * @param i, j (n_edges): atoms, i ascending in runs
 */
void add_derivatives(const double* gradient, const double* vec, const int64_t* i, const int64_t* j,
                     int64_t n_edges, int64_t size, const Derivatives& out);

}  // namespace deepmd::core
