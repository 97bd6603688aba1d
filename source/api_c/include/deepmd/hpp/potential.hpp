// SPDX-License-Identifier: LGPL-3.0-or-later
/** Potentials; part of deepmd.hpp. */
#pragma once

#include "support.hpp"

namespace deepmd {
namespace hpp {

/** What all potentials have in common. */
class DeepBaseModel {
 public:
  virtual ~DeepBaseModel() = default;

  double cutoff() const { return DP_DeepBaseModelGetCutoff(handle()); }
  int numb_types() const { return DP_DeepBaseModelGetNumbTypes(handle()); }
  int numb_types_spin() const { return DP_DeepBaseModelGetNumbTypesSpin(handle()); }
  int dim_fparam() const { return DP_DeepBaseModelGetDimFParam(handle()); }
  int dim_aparam() const { return DP_DeepBaseModelGetDimAParam(handle()); }
  bool is_aparam_nall() const { return DP_DeepBaseModelIsAParamNAll(handle()); }
  bool has_default_fparam() const { return DP_DeepBaseModelHasDefaultFParam(handle()); }
  void get_type_map(std::string& type_map) {
    type_map = detail::take(DP_DeepBaseModelGetTypeMap(handle()));
  }
  void print_summary(const std::string& pre) const { DP_PrintSummary(pre.c_str()); }
  bool has_message_passing() const { return DP_DeepBaseModelHasMessagePassing(handle()); }
  double halo(double longest_spin = 0.0) const {
    return DP_DeepBaseModelGetHalo(handle(), longest_spin);
  }
  bool has_exchange() const { return DP_DeepBaseModelHasExchange(handle()); }
  long long sel_overflow() const { return DP_DeepBaseModelGetSelOverflow(handle()); }
  std::string engine() const { return detail::take(DP_DeepBaseModelGetEngine(handle())); }
  long long most_neighbors() const { return DP_DeepBaseModelGetMostNeighbors(handle()); }

 protected:
  DP_DeepBaseModel* handle() const {
    if (!base_) {
      throw deepmd_exception("DeePMD-kit Error: no model is open; call init first");
    }
    return base_.get();
  }
  template <typename Handle>
  void open(Handle* opened) {
    base_.reset(reinterpret_cast<DP_DeepBaseModel*>(opened), DP_DeleteDeepBaseModel);
    check();
  }
  void check() const { detail::check(DP_DeepBaseModelCheckOK(handle())); }

 private:
  std::shared_ptr<DP_DeepBaseModel> base_;
};

/** A potential; see deepmd/DeepPot.h for the arguments of `compute`. */
class DeepPot : public DeepBaseModel {
 public:
  DeepPot() = default;
  DeepPot(const std::string& model, const int& gpu_rank = 0, const std::string& file_content = "",
          const std::string& engine = "auto") {
    init(model, gpu_rank, file_content, engine);
  }
  void init(const std::string& model, const int& gpu_rank = 0, const std::string& file_content = "",
            const std::string& engine = "auto") {
    open(DP_NewDeepPotWithParam3(model.c_str(), gpu_rank, file_content.data(),
                                 static_cast<int>(file_content.size()), engine.c_str()));
  }

  int dim_chg_spin() const { return DP_DeepPotGetDimChgSpin(dp()); }
  void set_charge_spin(const std::vector<double>& charge_spin) {
    DP_DeepPotSetChargeSpin(dp(), charge_spin.data(), static_cast<int>(charge_spin.size()));
    check();
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      charge_spin, -1);
    detail::Results<VALUETYPE> out(in, 1, false);
    run(in, out);
    out.move(ener, force, nullptr, virial, nullptr, nullptr);
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
               std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      charge_spin, -1);
    detail::Results<VALUETYPE> out(in, 1, true);
    run(in, out);
    out.move(ener, force, nullptr, virial, &atom_energy, &atom_virial);
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      charge_spin, -1, nghost, lmp_list.nl, ago);
    detail::Results<VALUETYPE> out(in, 1, false);
    run(in, out);
    out.move(ener, force, nullptr, virial, nullptr, nullptr);
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
               std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      charge_spin, -1, nghost, lmp_list.nl, ago);
    detail::Results<VALUETYPE> out(in, 1, true);
    run(in, out);
    out.move(ener, force, nullptr, virial, &atom_energy, &atom_virial);
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute_mixed_type(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force,
                          std::vector<VALUETYPE>& virial, const int& nframes,
                          const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                          const std::vector<VALUETYPE>& box,
                          const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
                          const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      std::vector<VALUETYPE>(), nframes);
    detail::Results<VALUETYPE> out(in, 1, false);
    run(in, out);
    out.move(ener, force, nullptr, virial, nullptr, nullptr);
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute_mixed_type(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force,
                          std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
                          std::vector<VALUETYPE>& atom_virial, const int& nframes,
                          const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                          const std::vector<VALUETYPE>& box,
                          const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
                          const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      std::vector<VALUETYPE>(), nframes);
    detail::Results<VALUETYPE> out(in, 1, true);
    run(in, out);
    out.move(ener, force, nullptr, virial, &atom_energy, &atom_virial);
  }

 private:
  DP_DeepPot* dp() const { return reinterpret_cast<DP_DeepPot*>(handle()); }
  detail::Dims dims() const { return {dim_fparam(), dim_aparam(), dim_chg_spin()}; }

  template <typename T>
  void run(const detail::Given<T>& in, detail::Results<T>& out) {
    typedef detail::Functions<T> functions;
    if (in.list) {
      functions::pot_list(dp(), in.nframes, in.natoms, in.coord, in.atype, in.cell, in.nghost,
                          in.list, in.ago, in.fparam_data(), in.aparam_data(),
                          in.charge_spin_data(), out.energy.data(), out.force.data(),
                          out.virial.data(), out.atom_energy_data(), out.atom_virial_data());
    } else if (in.mixed) {
      functions::pot_mixed(dp(), in.nframes, in.natoms, in.coord, in.atype, in.cell,
                           in.fparam_data(), in.aparam_data(), out.energy.data(), out.force.data(),
                           out.virial.data(), out.atom_energy_data(), out.atom_virial_data());
    } else {
      functions::pot(dp(), in.nframes, in.natoms, in.coord, in.atype, in.cell, in.fparam_data(),
                     in.aparam_data(), in.charge_spin_data(), out.energy.data(), out.force.data(),
                     out.virial.data(), out.atom_energy_data(), out.atom_virial_data());
    }
    check();
  }
};

/** A potential of atoms that carry spins; see deepmd/DeepSpin.h. */
class DeepSpin : public DeepBaseModel {
 public:
  DeepSpin() = default;
  DeepSpin(const std::string& model, const int& gpu_rank = 0, const std::string& file_content = "",
           const std::string& engine = "auto") {
    init(model, gpu_rank, file_content, engine);
  }
  void init(const std::string& model, const int& gpu_rank = 0, const std::string& file_content = "",
            const std::string& engine = "auto") {
    open(DP_NewDeepSpinWithParam3(model.c_str(), gpu_rank, file_content.data(),
                                  static_cast<int>(file_content.size()), engine.c_str()));
  }

  int dim_chg_spin() const { return DP_DeepSpinGetDimChgSpin(dp()); }
  void set_charge_spin(const std::vector<double>& charge_spin) {
    DP_DeepSpinSetChargeSpin(dp(), charge_spin.data(), static_cast<int>(charge_spin.size()));
    check();
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& force_mag,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, &spin, atype, box, fparam, aparam, charge_spin,
                                      -1);
    detail::Results<VALUETYPE> out(in, 1, false);
    run(in, out);
    out.move(ener, force, &force_mag, virial, nullptr, nullptr);
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& force_mag,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, &spin, atype, box, fparam, aparam, charge_spin,
                                      -1);
    detail::Results<VALUETYPE> out(in, 1, true);
    run(in, out);
    out.move(ener, force, &force_mag, virial, &atom_energy, &atom_virial);
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& force_mag,
               std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, &spin, atype, box, fparam, aparam, charge_spin,
                                      -1, nghost, lmp_list.nl, ago);
    detail::Results<VALUETYPE> out(in, 1, false);
    run(in, out);
    out.move(ener, force, &force_mag, virial, nullptr, nullptr);
  }

  template <typename VALUETYPE, typename ENERGYVTYPE>
  void compute(ENERGYVTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& force_mag,
               std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
               std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, &spin, atype, box, fparam, aparam, charge_spin,
                                      -1, nghost, lmp_list.nl, ago);
    detail::Results<VALUETYPE> out(in, 1, true);
    run(in, out);
    out.move(ener, force, &force_mag, virial, &atom_energy, &atom_virial);
  }

 private:
  DP_DeepSpin* dp() const { return reinterpret_cast<DP_DeepSpin*>(handle()); }
  detail::Dims dims() const { return {dim_fparam(), dim_aparam(), dim_chg_spin()}; }

  template <typename T>
  void run(const detail::Given<T>& in, detail::Results<T>& out) {
    typedef detail::Functions<T> functions;
    if (in.list) {
      functions::spin_list(dp(), in.nframes, in.natoms, in.coord, in.spin, in.atype, in.cell,
                           in.nghost, in.list, in.ago, in.fparam_data(), in.aparam_data(),
                           in.charge_spin_data(), out.energy.data(), out.force.data(),
                           out.force_mag.data(), out.virial.data(), out.atom_energy_data(),
                           out.atom_virial_data());
    } else {
      functions::spin(dp(), in.nframes, in.natoms, in.coord, in.spin, in.atype, in.cell,
                      in.fparam_data(), in.aparam_data(), in.charge_spin_data(), out.energy.data(),
                      out.force.data(), out.force_mag.data(), out.virial.data(),
                      out.atom_energy_data(), out.atom_virial_data());
    }
    check();
  }
};

}  // namespace hpp
}  // namespace deepmd
