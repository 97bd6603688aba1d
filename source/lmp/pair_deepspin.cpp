// SPDX-License-Identifier: LGPL-3.0-or-later
#include "pair_deepspin.h"

#include <algorithm>
#include <cmath>

#include "atom.h"
#include "force.h"

using namespace LAMMPS_NS;

namespace {

constexpr double hbar = 6.5821191e-4;  // [eV ps]

}  // namespace

void PairDeepspin::check_atoms() {
  if (!atom->sp_flag) {
    throw deepmd_lmp::Failure("the atoms have no spins; use atom_style spin, or pair_style deepmd");
  }
}

double PairDeepspin::longest_spin() const {
  double longest = 0.0;
  for (int i = 0; atom->sp_flag && i < atom->nlocal; ++i) {
    longest = std::max(longest, std::abs(atom->sp[i][3]));
  }
  return longest;
}

/** LAMMPS wants precession frequencies of unit vectors [1/ps]. */
void PairDeepspin::add(deepmd_lmp::Results& results, double factor) {
  if (!force->newton) fold(results.force_mag, 3);
  for (int i = 0; i < count_added(); ++i) {
    const double unit = factor * atom->sp[i][3] / hbar;
    for (int c = 0; c < 3; ++c) atom->fm[i][c] += unit * results.force_mag[3 * i + c];
  }
  PairDeepmd::add(results, factor);
}
