// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * fix dplr: Wannier centroids follow their atoms, and give them their electrostatic forces.
 *
 * Zhang et al., J. Chem. Phys. 156, 124107 (2022). Before forces are computed, a centroid is put at
 * its atom plus the dipole that a model predicts. Afterwards the forces of kspace_style pppm/dplr,
 * and of an electric field, go to the atoms, and through the dipoles to their neighbors.
 */
#pragma once

#include <deepmd/c_api.h>

#include <array>
#include <memory>
#include <vector>

#include "centroids.h"
#include "dplr_settings.h"
#include "fix.h"
#include "frame.h"

namespace LAMMPS_NS {

class FixDplr : public Fix {
 public:
  FixDplr(class LAMMPS* lmp, int narg, char** arg);

  int setmask() override;
  void init() override;
  void init_list(int, class NeighList* neighbors) override { list = neighbors; }
  void setup_pre_exchange() override { pre_exchange(); }
  void setup_post_neighbor() override { post_neighbor(); }
  void setup_pre_force(int vflag) override { pre_force(vflag); }
  void setup(int vflag) override { post_force(vflag); }
  void min_setup(int vflag) override { post_force(vflag); }
  void pre_exchange() override;
  void post_neighbor() override;
  void pre_force(int vflag) override;
  void post_force(int vflag) override;
  void min_pre_exchange() override { pre_exchange(); }
  void min_post_neighbor() override { post_neighbor(); }
  void min_pre_force(int vflag) override { pre_force(vflag); }
  void min_post_force(int vflag) override { post_force(vflag); }
  int pack_reverse_comm(int n, int first, double* buffer) override;
  void unpack_reverse_comm(int n, int* atoms, double* buffer) override;
  double compute_scalar() override;
  double compute_vector(int component) override;
  double memory_usage() override;

  /** Whether atoms of a type are centroids: then the pair style need not name it. */
  bool is_centroid(int type) const { return centroids->is_centroid(type); }

 private:
  struct Close {
    void operator()(DP_DeepTensor* model) const { DP_DeleteDeepTensor(model); }
    void operator()(DP_DipoleChargeModifier* model) const { DP_DeleteDipoleChargeModifier(model); }
  };
  void open();
  void find_types();
  void check_atoms() const;
  void check_charges() const;
  void check_width() const;
  void check_kspace();
  void check_variables() const;
  void move_centroids();
  void read_field();
  void add_field();
  void add_forces(std::vector<double>& virial_of);
  void add_virial(const std::vector<double>& chain);
  const std::array<double, 4>& summed();

  deepmd_lmp::DplrSettings settings;
  std::unique_ptr<deepmd_lmp::Units> units;
  std::unique_ptr<deepmd_lmp::Centroids> centroids;
  std::unique_ptr<DP_DeepTensor, Close> dipoles;
  std::unique_ptr<DP_DipoleChargeModifier, Close> modifier;
  deepmd_lmp::Frame frame;
  class NeighList* list = nullptr;
  class PPPMDplr* kspace = nullptr;
  std::vector<int> types;      ///< (ntypes + 1): the dipole model's type of LAMMPS's, -1: ignored
  std::vector<bool> selected;  ///< by type of the dipole model: whether it has a dipole

  // Of this rank's atoms, in Å, eV and e.
  std::vector<double> dipole;                 ///< (pairs, 3)
  std::vector<double> electric;               ///< (nlocal, 3) force on every site
  std::vector<double> corrected;              ///< (nall, 3) force on every atom
  std::array<double, 3> field{};              ///< [V/Å]
  std::array<double, 4> in_field{}, total{};  ///< energy, force of the field: this rank's, all
  std::array<double, 9> field_virial{};
  bool is_total = false;
};

}  // namespace LAMMPS_NS
