// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * compute deepmd/fparam/dedn: derivative of the energy by the frame parameter, by differences.
 */
#pragma once

#include <string>

#include "compute.h"

namespace LAMMPS_NS {

class ComputeDeepmdFparamDedn : public Compute {
 public:
  ComputeDeepmdFparamDedn(class LAMMPS* lmp, int narg, char** arg);

  void init() override;
  double compute_scalar() override;

 private:
  double value() const;

  char kind = 'v';  ///< of the source: v variable, c compute, f fix
  std::string name;
  int index = 0;  ///< 1-based; 0: a scalar
  double delta = 1e-6;
  class PairDeepmd* pair = nullptr;
  class Compute* source_compute = nullptr;
  class Fix* source_fix = nullptr;
  int source_variable = -1;
};

}  // namespace LAMMPS_NS
