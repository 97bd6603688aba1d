// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * kspace_style pppm/dplr: electrostatics of Gaussian charges, for fix dplr.
 *
 * The forces are kept for fix dplr, which adds them, and does not put them on Wannier centroids.
 */
#pragma once

#include <memory>
#include <vector>

#include "kspace.h"
#include "particle_mesh.h"

namespace LAMMPS_NS {

class PPPMDplr : public KSpace {
 public:
  explicit PPPMDplr(class LAMMPS* lmp);

  void settings(int narg, char** arg) override;
  void init() override;
  void setup() override;
  void compute(int eflag, int vflag) override;
  double memory_usage() override;

  /**
   * Electrostatic forces on this rank's atoms, (nlocal, 3) [force unit of the run]; null unless
   * they were computed at this step.
   */
  const double* forces() const;

  double splitting() const { return g_ewald; }  ///< β [1/length unit]

 private:
  void check() const;
  void make_mesh();
  deepmd_lmp::Cell cell() const;
  void read_atoms();

  std::unique_ptr<deepmd_lmp::ParticleMesh> solver;
  double length = 1.0, energy_unit = 1.0;  ///< factors from Å and eV to the units of the run
  std::vector<double> coord, charge, force_of, potential;
  bigint computed = -1;  ///< step of the forces
};

}  // namespace LAMMPS_NS
