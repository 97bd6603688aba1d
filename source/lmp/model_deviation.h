// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * How much several models disagree, written to a file every few steps.
 */
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "frame.h"
#include "settings.h"

namespace deepmd_lmp {

class ModelDeviation {
 public:
  /** Open the file on rank 0; write the header if it is empty. Throws Failure on all ranks. */
  ModelDeviation(LAMMPS_NS::LAMMPS* lmp, const Settings& settings, bool append, bool spins);

  /** Whether this step has a row. */
  bool due() const;

  /**
   * Write the row of this step; all ranks call it.
   *
   * force[k] (nlocal, 3) [eV/Å] of model k on this rank's atoms, complete; virial[k] (9) [eV],
   * this rank's part; atype (nlocal): atoms of type -1 do not count. With spins, force_mag is as
   * force [eV per unit of spin]. Throws Failure on all ranks if the file cannot be written.
   */
  void write(const std::vector<std::vector<double>>& force,
             const std::vector<std::vector<double>>& force_mag,
             const std::vector<std::vector<double>>& virial, const int* atype);

 private:
  void write_header();
  std::string cannot(const char* verb) const;
  void check_written() const;

  /** Largest, smallest and average deviation. */
  struct Row {
    double largest, smallest, average;
  };
  Row of_virial(const std::vector<std::vector<double>>& virial, double natoms) const;
  std::vector<double> of_atoms(const std::vector<std::vector<double>>& force, double unit) const;
  Row of_force(const std::vector<double>& deviation, const int* atype, double natoms) const;
  std::vector<double> sorted_by_tag(const std::vector<double>& deviation) const;

  LAMMPS_NS::LAMMPS* lmp_;
  Settings settings_;
  bool spins_;
  Units units_;
  std::ofstream file_;  ///< open on rank 0
};

}  // namespace deepmd_lmp
