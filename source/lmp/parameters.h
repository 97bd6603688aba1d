// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Where frame and atomic parameters come from: numbers, a compute or a fix.
 */
#pragma once

#include <optional>
#include <vector>

#include "electron_temperature.h"
#include "model.h"
#include "settings.h"

namespace LAMMPS_NS {
class Compute;
class Fix;
}  // namespace LAMMPS_NS

namespace deepmd_lmp {

class Parameters {
 public:
  /** Compare the settings with what the model takes. Throws Failure. */
  Parameters(LAMMPS_NS::LAMMPS* lmp, const Settings& settings, const Model& model);

  /** Find the computes and fixes before a run. Throws Failure. */
  void init();

  /** Values of this step for this rank's atoms; they live until the next call. Throws Failure. */
  Inputs values();

 private:
  void read_fparam();
  void read_aparam();

  LAMMPS_NS::LAMMPS* lmp_;
  Settings settings_;
  size_t dim_fparam_;
  size_t dim_aparam_;
  bool aparam_of_ghosts_;
  LAMMPS_NS::Compute* fparam_compute_ = nullptr;
  LAMMPS_NS::Fix* fparam_fix_ = nullptr;
  LAMMPS_NS::Compute* aparam_compute_ = nullptr;
  std::optional<ElectronTemperature> ttm_;  ///< of aparam if the model has any, else of fparam
  std::vector<double> fparam_;              ///< (dim_fparam), empty: none or the default
  std::vector<double> aparam_;              ///< (nall, dim_aparam)
};

}  // namespace deepmd_lmp
