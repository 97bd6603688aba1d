// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deepmd/common.h"

namespace deepmd {

struct Session;

/**
 * A model of tensors: dipole moments, polarizabilities, densities of states, properties.
 *
 * Arguments of all `compute` functions, for VALUETYPE double and float; arrays are flat:
 *
 * @param value (n_selected, output_dim): values of the selected atoms, in the order of atoms;
 *     selected are the local atoms whose type is among sel_types()
 * @param global_tensor (output_dim): of the frame, the sum (of intensive properties the mean)
 * @param force (output_dim, natoms, 3): minus the derivative of every component
 * @param virial (output_dim, 9)
 * @param atom_tensor (n_selected, output_dim)
 * @param atom_virial (output_dim, natoms, 9)
 * @param coord (natoms, 3) [Å]
 * @param atype (natoms)
 * @param box (9) [Å], rows are the cell vectors; empty: an open system
 * @param nghost number of ghosts among the atoms: the last ones
 * @param inlist neighbors; `box` is then not used
 *
 * All throw deepmd_exception.
 */
class DeepTensor {
 public:
  DeepTensor();
  ~DeepTensor();

  DeepTensor(const std::string& model, const int& gpu_rank = 0, const std::string& name_scope = "");
  DeepTensor(const std::string& model, const int& gpu_rank, const std::string& name_scope,
             const std::string& engine);

  /**
   * Open a model. Engines are those of DeepPot::init.
   *
   * @param name_scope "dipole_charge": the model of dipoles that a long-range model has for its
   *     electrostatics, where the file is of such a model
   */
  void init(const std::string& model, const int& gpu_rank = 0, const std::string& name_scope = "");
  void init(const std::string& model, const int& gpu_rank, const std::string& name_scope,
            const std::string& engine);

  void print_summary(const std::string& pre) const;

  double cutoff() const;  ///< [Å]
  int numb_types() const;
  /** Distance of ghosts from the atoms of a rank, as DeepBaseModel::halo; 0: without messages. */
  double halo() const;
  int output_dim() const;                     ///< numbers per atom
  const std::vector<int>& sel_types() const;  ///< types that have values
  void get_type_map(std::string& type_map);   ///< names, separated by blanks

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& value, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box);
  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& value, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& inlist);

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box);
  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& inlist);

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_tensor,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box);
  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_tensor,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& inlist);

 private:
  std::shared_ptr<Session> session_;
};

}  // namespace deepmd
