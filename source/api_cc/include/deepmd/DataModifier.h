// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deepmd/common.h"

namespace deepmd {

/**
 * Forces and virials that real atoms get from the electrostatics of Wannier centroids.
 *
 * Not available yet: opening a model throws deepmd_exception, which says so. The class is here so
 * that programs that can use long-range models compile, link and run with all other models.
 */
class DipoleChargeModifier {
 public:
  DipoleChargeModifier();
  ~DipoleChargeModifier();

  DipoleChargeModifier(const std::string& model, const int& gpu_rank = 0,
                       const std::string& name_scope = "");
  void init(const std::string& model, const int& gpu_rank = 0, const std::string& name_scope = "");

  void print_summary(const std::string& pre) const;
  double cutoff() const;
  int numb_types() const;
  const std::vector<int>& sel_types() const;

  /**
   * @param dfcorr_ (natoms, 3) force on real atoms
   * @param dvcorr_ (9) virial
   * @param pairs atoms and their Wannier centroids
   * @param delef_ (natoms - nghost, 3) electrostatic force on every site
   */
  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& dfcorr_, std::vector<VALUETYPE>& dvcorr_,
               const std::vector<VALUETYPE>& dcoord_, const std::vector<int>& datype_,
               const std::vector<VALUETYPE>& dbox, const std::vector<std::pair<int, int>>& pairs,
               const std::vector<VALUETYPE>& delef_, const int nghost, const InputNlist& lmp_list);
};

}  // namespace deepmd
