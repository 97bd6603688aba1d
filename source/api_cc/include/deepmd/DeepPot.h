// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <string>
#include <vector>

#include "deepmd/DeepBaseModel.h"

namespace deepmd {

/** Standard deviations of a frame, of local atoms and zero for ghosts. */
struct Deviations {
  std::vector<double> atom_energy;  ///< (nall) [eV]
  std::vector<double> force;        ///< (nall) [eV/Å], of each component of the force
  std::vector<double> features;     ///< see DeepPot::energy_deviation
};

/**
 * A potential: energies [eV], forces [eV/Å] and virials [eV].
 *
 * Arguments of all `compute` functions, for VALUETYPE double and float; arrays are flat:
 *
 * @param ener energy, of one frame as a number, of several as an array (nframes)
 * @param force (nframes, natoms, 3)
 * @param virial (nframes, 9), minus the derivative of the energy by the strain
 * @param atom_energy (nframes, natoms)
 * @param atom_virial (nframes, natoms, 9)
 * @param coord (nframes, natoms, 3) [Å]
 * @param atype (natoms), the same for all frames; atoms of other types than 0 ... numb_types() - 1
 *     are ignored and get zeros
 * @param box (nframes, 9) [Å], rows are the cell vectors; empty: an open system
 * @param nghost number of ghosts among the atoms: the last ones
 * @param lmp_list neighbors; `box` is then not used, and ghosts get the forces that belong to them
 * @param ago calls since the list changed; lists are read at every call, so that it does not matter
 * @param fparam (nframes, dim_fparam) or (dim_fparam); empty: the model's default
 * @param aparam (nframes, nloc, dim_aparam), (nloc, dim_aparam) or (dim_aparam)
 * @param charge_spin (nframes, dim_chg_spin) or (dim_chg_spin); empty: set_charge_spin, or the
 *     model's default
 *
 * All throw deepmd_exception. Several threads may compute with one DeepPot.
 */
class DeepPot : public DeepBaseModel {
 public:
  DeepPot();
  ~DeepPot() override;

  /** See init. */
  DeepPot(const std::string& model, const int& gpu_rank = 0, const std::string& file_content = "");
  DeepPot(const std::string& model, const int& gpu_rank, const std::string& file_content,
          const std::string& engine);

  /**
   * Open a model.
   *
   * @param model path; its suffix tells the format
   * @param gpu_rank which GPU, modulo their number
   * @param file_content content of the file; empty: the path is read
   * @param engine "native": the engine of this project, which needs no framework; "framework":
   *     that of the file; "auto": native where it knows every part of the model and the machine
   *     has no graphics processor, otherwise the framework
   */
  void init(const std::string& model, const int& gpu_rank = 0,
            const std::string& file_content = "");
  void init(const std::string& model, const int& gpu_rank, const std::string& file_content,
            const std::string& engine);

  int dim_chg_spin() const;  ///< numbers per frame for charge and spin that the model takes

  /** Charge and spin for all calls that follow: (dim_chg_spin). */
  void set_charge_spin(const std::vector<double>& charge_spin);

  /** Why the file has no standard deviations that are evaluated here; empty: it has. */
  std::string uncertainty_missing() const;

  /** Numbers in Deviations::features; 0: there are no deviations. */
  int numb_features() const;

  /** Standard deviation of an energy [eV], from its features, which may be summed over ranks. */
  double energy_deviation(const std::vector<double>& features) const;

  /**
   * As compute with a neighbor list, with standard deviations; throws where there are none.
   *
   * @param atom_energy, atom_virial null: not wanted
   */
  void compute_deviations(ENERGYTYPE& ener, std::vector<double>& force, std::vector<double>& virial,
                          std::vector<double>* atom_energy, std::vector<double>* atom_virial,
                          Deviations& deviations, const std::vector<double>& coord,
                          const std::vector<int>& atype, const std::vector<double>& box,
                          const int nghost, const InputNlist& lmp_list,
                          const std::vector<double>& fparam = std::vector<double>(),
                          const std::vector<double>& aparam = std::vector<double>(),
                          const std::vector<double>& charge_spin = std::vector<double>());

  /// Graphs that live on a GPU are not taken.
  bool supports_device_edge_inference() const;
  bool uses_fp32_edge_vectors() const;
  bool uses_canonical_graph_inference() const;

  template <typename VALUETYPE>
  void compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());

  template <typename VALUETYPE>
  void compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list, const int& ago,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());

  template <typename VALUETYPE>
  void compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
               std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());

  template <typename VALUETYPE>
  void compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
               std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list, const int& ago,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());

  /** Frames whose types differ: atype (nframes, natoms), padded with -1. */
  template <typename VALUETYPE>
  void compute_mixed_type(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                          std::vector<VALUETYPE>& virial, const int& nframes,
                          const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                          const std::vector<VALUETYPE>& box,
                          const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
                          const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
                          const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute_mixed_type(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                          std::vector<VALUETYPE>& virial, const int& nframes,
                          const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                          const std::vector<VALUETYPE>& box,
                          const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
                          const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
                          const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute_mixed_type(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                          std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
                          std::vector<VALUETYPE>& atom_virial, const int& nframes,
                          const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                          const std::vector<VALUETYPE>& box,
                          const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
                          const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
                          const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute_mixed_type(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                          std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
                          std::vector<VALUETYPE>& atom_virial, const int& nframes,
                          const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                          const std::vector<VALUETYPE>& box,
                          const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
                          const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
                          const std::vector<double>& charge_spin = std::vector<double>());
};

/**
 * Several potentials for the same system, to see where they deviate.
 *
 * Arguments are those of DeepPot, of one frame; results come once per model.
 */
class DeepPotModelDevi : public DeepBaseModelDevi {
 public:
  DeepPotModelDevi();
  ~DeepPotModelDevi() override;

  DeepPotModelDevi(const std::vector<std::string>& models, const int& gpu_rank = 0,
                   const std::vector<std::string>& file_contents = std::vector<std::string>());
  DeepPotModelDevi(const std::vector<std::string>& models, const int& gpu_rank,
                   const std::vector<std::string>& file_contents, const std::string& engine);

  /** Open the models; file_contents is empty or has one content per model. */
  void init(const std::vector<std::string>& models, const int& gpu_rank = 0,
            const std::vector<std::string>& file_contents = std::vector<std::string>());
  void init(const std::vector<std::string>& models, const int& gpu_rank,
            const std::vector<std::string>& file_contents, const std::string& engine);

  int dim_chg_spin() const;
  void set_charge_spin(const std::vector<double>& charge_spin);

  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_virial,
               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list, const int& ago,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
  template <typename VALUETYPE>
  void compute(std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_virial,
               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<double>& charge_spin = std::vector<double>());
};

}  // namespace deepmd
