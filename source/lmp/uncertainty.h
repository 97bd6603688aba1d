// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Standard deviations of a run: of atoms for fix pair, of the system for compute pair.
 */
#pragma once

#include <string>
#include <vector>

#include "frame.h"
#include "model.h"

namespace deepmd_lmp {

class Uncertainty {
 public:
  /** Numbers for compute pair: deviation of the energy, largest and mean deviation of forces. */
  static constexpr int totals_size = 3;

  /** Throws Failure where the file of the model has none. */
  Uncertainty(LAMMPS_NS::LAMMPS* lmp, Model& model);

  /** Take those of this rank's atoms, times a factor of energies. */
  void take(const Frame& frame, const Results& results, const Units& units, double factor);

  /** Sum up over ranks into totals (totals_size) of the first one; the others get zeros. */
  void sum_up(const Frame& frame, const Results& results, const Units& units, double factor,
              double* totals);

  /** "energy_std" or "force_std" of this rank's atoms, or null. */
  double* of_atoms(const std::string& name);

 private:
  LAMMPS_NS::LAMMPS* lmp_;
  Model& model_;
  std::vector<double> energy_, force_;
};

}  // namespace deepmd_lmp
