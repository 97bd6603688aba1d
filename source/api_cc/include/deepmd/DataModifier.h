// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deepmd/common.h"

namespace deepmd {

struct Session;

/**
 * Forces and virial that atoms get from the electrostatics of Wannier centroids (DPLR).
 *
 * Zhang et al., J. Chem. Phys. 156, 124107 (2022). A centroid lies at r_k + mu_k, with mu_k the
 * dipole that a model predicts for its atom k. With the electrostatic force f on every site, atom i
 * gets f_i, that of its centroid, and sum_k (d mu_k / d r_i) . f(centroid of k).
 */
class DipoleChargeModifier {
 public:
  DipoleChargeModifier();
  ~DipoleChargeModifier();

  DipoleChargeModifier(const std::string& model, const int& gpu_rank = 0,
                       const std::string& name_scope = "");
  /**
   * Open a model of dipoles. Engines are those of DeepPot::init, name_scope that of
   * DeepTensor::init. Throws deepmd_exception.
   */
  void init(const std::string& model, const int& gpu_rank = 0, const std::string& name_scope = "");
  void init(const std::string& model, const int& gpu_rank, const std::string& name_scope,
            const std::string& engine);

  void print_summary(const std::string& pre) const;
  double cutoff() const;  ///< [Angstrom]
  int numb_types() const;
  const std::vector<int>& sel_types() const;  ///< types that have centroids

  /**
   * Width of the charges [1/Angstrom] of the long-range model that the file holds; 0: it is a file
   * of the dipole model alone. Charges [e] of atoms, by type (NaN: not known), and of the centroids
   * of sel_types(); empty alike.
   */
  double ewald_beta() const;
  const std::vector<double>& atom_charges() const;
  const std::vector<double>& centroid_charges() const;

  /**
   * @param dfcorr_ (natoms, 3) force on atoms, for VALUETYPE double and float; ghosts have their
   *     share, which belongs to their owners; sites of types that the model does not know have none
   * @param dvcorr_ (9) virial of the part with the derivatives of dipoles
   * @param dcoord_ (natoms, 3) [Angstrom]
   * @param datype_ (natoms) types of the model; others are ignored, those of centroids too
   * @param dbox not used, the list has the neighbors
   * @param pairs local atoms and their Wannier centroids
   * @param delef_ (natoms - nghost, 3) electrostatic force on every site
   * @param nghost number of ghosts among the atoms: the last ones
   */
  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& dfcorr_, std::vector<VALUETYPE>& dvcorr_,
               const std::vector<VALUETYPE>& dcoord_, const std::vector<int>& datype_,
               const std::vector<VALUETYPE>& dbox, const std::vector<std::pair<int, int>>& pairs,
               const std::vector<VALUETYPE>& delef_, const int nghost, const InputNlist& lmp_list);

 private:
  std::shared_ptr<Session> session_;
};

}  // namespace deepmd
