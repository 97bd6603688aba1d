// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <string>
#include <vector>

#include "deepmd/DeepBaseModel.h"

namespace deepmd {

/**
 * A potential of atoms that carry spins.
 *
 * Arguments are those of DeepPot, with spin (nframes, natoms, 3) after coord, in the unit of
 * training, and force_mag (nframes, natoms, 3), minus the derivative of the energy by the spins,
 * after force. Spins of types that carry none do not matter. With a list, spin holds those of the
 * ghosts, too, ghosts get the force_mag that belongs to them, and the list must hold neighbors up
 * to reach(the longest spin). Virials are those of a cell that is deformed while spins stay as they
 * are. Neighbors beyond `sel` are left out without being counted by sel_overflow.
 */
class DeepSpin : public DeepBaseModel {
 public:
  DeepSpin();
  ~DeepSpin() override;

  DeepSpin(const std::string& model, const int& gpu_rank = 0, const std::string& file_content = "");
  DeepSpin(const std::string& model, const int& gpu_rank, const std::string& file_content,
           const std::string& engine);
  void init(const std::string& model, const int& gpu_rank = 0,
            const std::string& file_content = "");
  void init(const std::string& model, const int& gpu_rank, const std::string& file_content,
            const std::string& engine);

  std::vector<bool> get_use_spin() const;  ///< (ntypes) whether atoms of the type carry spins
  /** How far neighbors matter [Å] where spins have up to this length; beyond cutoff(). */
  double reach(double longest_spin) const;
  int dim_chg_spin() const;
  void set_charge_spin(const std::vector<double>& charge_spin);
  bool uses_native_spin_scheme() const;
  bool uses_canonical_graph_inference() const;

  template <typename VALUETYPE>
  void compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& force_mag,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
               const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& force_mag,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
               std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& force_mag,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
               const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list, const int& ago,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& force_mag,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
               std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list, const int& ago,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
};

/** Several potentials with spins for the same system, to see where they deviate. */
class DeepSpinModelDevi : public DeepBaseModelDevi {
 public:
  DeepSpinModelDevi();
  ~DeepSpinModelDevi() override;

  DeepSpinModelDevi(const std::vector<std::string>& models, const int& gpu_rank = 0,
                    const std::vector<std::string>& file_contents = std::vector<std::string>());
  DeepSpinModelDevi(const std::vector<std::string>& models, const int& gpu_rank,
                    const std::vector<std::string>& file_contents, const std::string& engine);
  void init(const std::vector<std::string>& models, const int& gpu_rank = 0,
            const std::vector<std::string>& file_contents = std::vector<std::string>());
  void init(const std::vector<std::string>& models, const int& gpu_rank,
            const std::vector<std::string>& file_contents, const std::string& engine);

  std::vector<bool> get_use_spin() const;
  int dim_chg_spin() const;
  void set_charge_spin(const std::vector<double>& charge_spin);

  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_force_mag,
               std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_force_mag,
               std::vector<std::vector<VALUETYPE>>& all_virial,
               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_force_mag,
               std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_force_mag,
               std::vector<std::vector<VALUETYPE>>& all_virial,
               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list, const int& ago,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
};

}  // namespace deepmd
