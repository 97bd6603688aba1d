// SPDX-License-Identifier: LGPL-3.0-or-later
/** Tensors and the dipole charge modifier; part of deepmd.hpp. */
#pragma once

#include <utility>

#include "support.hpp"

namespace deepmd {
namespace hpp {

/** A model of tensors; see deepmd/DeepTensor.h for the arguments of `compute`. */
class DeepTensor {
 public:
  DeepTensor() = default;
  DeepTensor(const std::string& model, const int& gpu_rank = 0, const std::string& name_scope = "",
             const std::string& engine = "auto") {
    init(model, gpu_rank, name_scope, engine);
  }
  void init(const std::string& model, const int& gpu_rank = 0, const std::string& name_scope = "",
            const std::string& engine = "auto") {
    dt_.reset(
        DP_NewDeepTensorWithParam2(model.c_str(), gpu_rank, name_scope.c_str(), engine.c_str()),
        DP_DeleteDeepTensor);
    check();
  }

  double cutoff() const { return DP_DeepTensorGetCutoff(dt()); }
  int numb_types() const { return DP_DeepTensorGetNumbTypes(dt()); }
  int output_dim() const { return DP_DeepTensorGetOutputDim(dt()); }
  std::vector<int> sel_types() const {
    const int* const types = DP_DeepTensorGetSelTypes(dt());
    return std::vector<int>(types, types + DP_DeepTensorGetNumbSelTypes(dt()));
  }
  void get_type_map(std::string& type_map) {
    type_map = detail::take(DP_DeepTensorGetTypeMap(dt()));
  }
  void print_summary(const std::string& pre) const { DP_PrintSummary(pre.c_str()); }

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& value, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box) {
    const detail::Given<VALUETYPE> in = given(coord, atype, box, 0, nullptr);
    detail::Allocated<VALUETYPE> out;
    detail::Functions<VALUETYPE>::values(dt(), in.natoms, in.coord, in.atype, in.cell, &out.data,
                                         &out.size);
    check();
    value = out.vector();
  }

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& value, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list) {
    const detail::Given<VALUETYPE> in = given(coord, atype, box, nghost, lmp_list.nl);
    detail::Allocated<VALUETYPE> out;
    detail::Functions<VALUETYPE>::values_list(dt(), in.natoms, in.coord, in.atype, in.cell, nghost,
                                              lmp_list.nl, &out.data, &out.size);
    check();
    value = out.vector();
  }

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box) {
    std::vector<VALUETYPE> atom_tensor, atom_virial;
    compute(global_tensor, force, virial, atom_tensor, atom_virial, coord, atype, box);
  }

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list) {
    std::vector<VALUETYPE> atom_tensor, atom_virial;
    compute(global_tensor, force, virial, atom_tensor, atom_virial, coord, atype, box, nghost,
            lmp_list);
  }

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_tensor,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box) {
    const detail::Given<VALUETYPE> in = given(coord, atype, box, 0, nullptr);
    resize(in.natoms, global_tensor, force, virial, atom_virial);
    detail::Allocated<VALUETYPE> atom;
    detail::Functions<VALUETYPE>::tensor(dt(), in.natoms, in.coord, in.atype, in.cell,
                                         global_tensor.data(), force.data(), virial.data(),
                                         &atom.data, atom_virial.data(), &atom.size);
    check();
    atom_tensor = atom.vector();
  }

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_tensor,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list) {
    const detail::Given<VALUETYPE> in = given(coord, atype, box, nghost, lmp_list.nl);
    resize(in.natoms, global_tensor, force, virial, atom_virial);
    detail::Allocated<VALUETYPE> atom;
    detail::Functions<VALUETYPE>::tensor_list(
        dt(), in.natoms, in.coord, in.atype, in.cell, nghost, lmp_list.nl, global_tensor.data(),
        force.data(), virial.data(), &atom.data, atom_virial.data(), &atom.size);
    check();
    atom_tensor = atom.vector();
  }

 private:
  DP_DeepTensor* dt() const {
    if (!dt_) {
      throw deepmd_exception("DeePMD-kit Error: no model is open; call init first");
    }
    return dt_.get();
  }
  void check() const { detail::check(DP_DeepTensorCheckOK(dt())); }

  template <typename T>
  detail::Given<T> given(const std::vector<T>& coord, const std::vector<int>& atype,
                         const std::vector<T>& box, int nghost, const DP_Nlist* list) const {
    detail::check_size("coord", coord.size(), 3 * atype.size());
    const std::vector<T> none;
    return detail::Given<T>({0, 0, 0}, coord, nullptr, atype, box, none, none, none, -1, nghost,
                            list);
  }

  template <typename T>
  void resize(size_t natoms, std::vector<T>& global_tensor, std::vector<T>& force,
              std::vector<T>& virial, std::vector<T>& atom_virial) const {
    const size_t dim = output_dim();
    global_tensor.resize(dim);
    force.resize(dim * natoms * 3);
    virial.resize(dim * 9);
    atom_virial.resize(dim * natoms * 9);
  }

  std::shared_ptr<DP_DeepTensor> dt_;
};

/** Forces of real atoms from Wannier centroids; see deepmd/DataModifier.h. */
class DipoleChargeModifier {
 public:
  DipoleChargeModifier() = default;
  DipoleChargeModifier(const std::string& model, const int& gpu_rank = 0,
                       const std::string& name_scope = "") {
    init(model, gpu_rank, name_scope);
  }
  void init(const std::string& model, const int& gpu_rank = 0, const std::string& name_scope = "") {
    init(model, gpu_rank, name_scope, "auto");
  }
  void init(const std::string& model, const int& gpu_rank, const std::string& name_scope,
            const std::string& engine) {
    dcm_.reset(DP_NewDipoleChargeModifierWithParam2(model.c_str(), gpu_rank, name_scope.c_str(),
                                                    engine.c_str()),
               DP_DeleteDipoleChargeModifier);
    check();
  }

  double cutoff() const { return DP_DipoleChargeModifierGetCutoff(dcm()); }
  int numb_types() const { return DP_DipoleChargeModifierGetNumbTypes(dcm()); }
  std::vector<int> sel_types() const {
    const int* const types = DP_DipoleChargeModifierGetSelTypes(dcm());
    return std::vector<int>(types, types + DP_DipoleChargeModifierGetNumbSelTypes(dcm()));
  }
  void print_summary(const std::string& pre) const { DP_PrintSummary(pre.c_str()); }

  template <typename VALUETYPE>
  void compute(std::vector<VALUETYPE>& dfcorr_, std::vector<VALUETYPE>& dvcorr_,
               const std::vector<VALUETYPE>& dcoord_, const std::vector<int>& datype_,
               const std::vector<VALUETYPE>& dbox, const std::vector<std::pair<int, int>>& pairs,
               const std::vector<VALUETYPE>& delef_, const int nghost, const InputNlist& lmp_list) {
    detail::check_size("coord", dcoord_.size(), 3 * datype_.size());
    detail::check_size("delef", delef_.size(), 3 * (datype_.size() - nghost));
    std::vector<int> flat;
    for (const std::pair<int, int>& pair : pairs) {
      flat.push_back(pair.first);
      flat.push_back(pair.second);
    }
    dfcorr_.resize(dcoord_.size());
    dvcorr_.resize(9);
    detail::Functions<VALUETYPE>::modifier(dcm(), static_cast<int>(datype_.size()), dcoord_.data(),
                                           datype_.data(), detail::data_or_null(dbox), flat.data(),
                                           static_cast<int>(pairs.size()), delef_.data(), nghost,
                                           lmp_list.nl, dfcorr_.data(), dvcorr_.data());
    check();
  }

 private:
  DP_DipoleChargeModifier* dcm() const {
    if (!dcm_) {
      throw deepmd_exception("DeePMD-kit Error: no model is open; call init first");
    }
    return dcm_.get();
  }
  void check() const { detail::check(DP_DipoleChargeModifierCheckOK(dcm())); }

  std::shared_ptr<DP_DipoleChargeModifier> dcm_;
};

}  // namespace hpp
}  // namespace deepmd
