// SPDX-License-Identifier: LGPL-3.0-or-later
/** Ensembles of potentials and their deviation; part of deepmd.hpp. */
#pragma once

#include <cmath>

#include "support.hpp"

namespace deepmd {
namespace hpp {

/** What all ensembles of potentials have in common. */
class DeepBaseModelDevi {
 public:
  virtual ~DeepBaseModelDevi() = default;

  double cutoff() const { return DP_DeepBaseModelDeviGetCutoff(handle()); }
  int numb_types() const { return DP_DeepBaseModelDeviGetNumbTypes(handle()); }
  int numb_types_spin() const { return DP_DeepBaseModelDeviGetNumbTypesSpin(handle()); }
  int dim_fparam() const { return DP_DeepBaseModelDeviGetDimFParam(handle()); }
  int dim_aparam() const { return DP_DeepBaseModelDeviGetDimAParam(handle()); }
  bool is_aparam_nall() const { return DP_DeepBaseModelDeviIsAParamNAll(handle()); }
  bool has_default_fparam() const { return DP_DeepBaseModelDeviHasDefaultFParam(handle()); }
  long long sel_overflow() const { return DP_DeepBaseModelDeviGetSelOverflow(handle()); }
  long long most_neighbors() const { return DP_DeepBaseModelDeviGetMostNeighbors(handle()); }

  /** Mean over models. */
  template <typename VALUETYPE>
  void compute_avg(VALUETYPE& dener, const std::vector<VALUETYPE>& all_energy) {
    double sum = 0.0;
    for (const VALUETYPE energy : all_energy) {
      sum += energy;
    }
    dener = static_cast<VALUETYPE>(sum / static_cast<double>(all_energy.size()));
  }

  template <typename VALUETYPE>
  void compute_avg(std::vector<VALUETYPE>& avg, const std::vector<std::vector<VALUETYPE>>& xx) {
    avg.resize(xx.front().size());
    std::vector<VALUETYPE> of_models(xx.size());
    for (size_t k = 0; k < avg.size(); ++k) {
      for (size_t model = 0; model < xx.size(); ++model) {
        of_models[model] = xx[model].at(k);
      }
      compute_avg(avg[k], of_models);
    }
  }

  /** sqrt(mean over models of the squared norm, over each `stride` numbers, of x - avg). */
  template <typename VALUETYPE>
  void compute_std(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                   const std::vector<std::vector<VALUETYPE>>& xx, const int& stride) {
    deviation.resize(avg.size() / stride);
    for (size_t i = 0; i < deviation.size(); ++i) {
      double sum = 0.0;
      for (const std::vector<VALUETYPE>& x : xx) {
        for (size_t k = i * stride; k < (i + 1) * stride; ++k) {
          const double difference = static_cast<double>(x.at(k)) - avg[k];
          sum += difference * difference;
        }
      }
      deviation[i] = static_cast<VALUETYPE>(std::sqrt(sum / static_cast<double>(xx.size())));
    }
  }

  template <typename VALUETYPE>
  void compute_std_e(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                     const std::vector<std::vector<VALUETYPE>>& xx) {
    compute_std(deviation, avg, xx, 1);
  }

  template <typename VALUETYPE>
  void compute_std_f(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                     const std::vector<std::vector<VALUETYPE>>& xx) {
    compute_std(deviation, avg, xx, 3);
  }

  /** Divide by |avg| + eps, with the norm of avg over each `stride` numbers. */
  template <typename VALUETYPE>
  void compute_relative_std(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                            const VALUETYPE eps, const int& stride) {
    for (size_t i = 0; i < deviation.size(); ++i) {
      double square = 0.0;
      for (size_t k = i * stride; k < (i + 1) * stride; ++k) {
        square += static_cast<double>(avg.at(k)) * avg[k];
      }
      deviation[i] /= static_cast<VALUETYPE>(std::sqrt(square)) + eps;
    }
  }

  template <typename VALUETYPE>
  void compute_relative_std_f(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                              const VALUETYPE eps) {
    compute_relative_std(deviation, avg, eps, 3);
  }

 protected:
  DP_DeepBaseModelDevi* handle() const {
    if (!base_) {
      throw deepmd_exception("DeePMD-kit Error: no models are open; call init first");
    }
    return base_.get();
  }
  template <typename New>
  void open(New create, const std::vector<std::string>& models, int gpu_rank,
            const std::vector<std::string>& contents, const std::string& engine) {
    std::vector<const char*> names, texts;
    std::vector<int> sizes;
    for (const std::string& model : models) {
      names.push_back(model.c_str());
    }
    for (const std::string& content : contents) {
      texts.push_back(content.data());
      sizes.push_back(static_cast<int>(content.size()));
    }
    n_models_ = static_cast<int>(models.size());
    base_.reset(reinterpret_cast<DP_DeepBaseModelDevi*>(
                    create(names.data(), n_models_, gpu_rank, texts.data(),
                           static_cast<int>(contents.size()), sizes.data(), engine.c_str())),
                DP_DeleteDeepBaseModelDevi);
    check();
  }
  void check() const { detail::check(DP_DeepBaseModelDeviCheckOK(handle())); }

  int n_models_ = 0;

 private:
  std::shared_ptr<DP_DeepBaseModelDevi> base_;
};

/** Several models for the same system; all results once per model. */
class DeepPotModelDevi : public DeepBaseModelDevi {
 public:
  DeepPotModelDevi() = default;
  DeepPotModelDevi(const std::vector<std::string>& models, const int& gpu_rank = 0,
                   const std::vector<std::string>& file_contents = std::vector<std::string>(),
                   const std::string& engine = "auto") {
    init(models, gpu_rank, file_contents, engine);
  }
  void init(const std::vector<std::string>& models, const int& gpu_rank = 0,
            const std::vector<std::string>& file_contents = std::vector<std::string>(),
            const std::string& engine = "auto") {
    open(DP_NewDeepPotModelDeviWithParam2, models, gpu_rank, file_contents, engine);
  }

  int dim_chg_spin() const { return DP_DeepPotModelDeviGetDimChgSpin(dp()); }
  void set_charge_spin(const std::vector<double>& charge_spin) {
    DP_DeepPotModelDeviSetChargeSpin(dp(), charge_spin.data(),
                                     static_cast<int>(charge_spin.size()));
    check();
  }

  template <typename VALUETYPE>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      charge_spin, -1);
    detail::Results<VALUETYPE> out(in, n_models_, false);
    run(in, out);
    out.split(all_ener, all_force, nullptr, all_virial, nullptr, nullptr);
  }

  template <typename VALUETYPE>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_virial,
               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      charge_spin, -1);
    detail::Results<VALUETYPE> out(in, n_models_, true);
    run(in, out);
    out.split(all_ener, all_force, nullptr, all_virial, &all_atom_energy, &all_atom_virial);
  }

  template <typename VALUETYPE>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list, const int& ago,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      charge_spin, -1, nghost, lmp_list.nl, ago);
    detail::Results<VALUETYPE> out(in, n_models_, false);
    run(in, out);
    out.split(all_ener, all_force, nullptr, all_virial, nullptr, nullptr);
  }

  template <typename VALUETYPE>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_virial,
               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, nullptr, atype, box, fparam, aparam,
                                      charge_spin, -1, nghost, lmp_list.nl, ago);
    detail::Results<VALUETYPE> out(in, n_models_, true);
    run(in, out);
    out.split(all_ener, all_force, nullptr, all_virial, &all_atom_energy, &all_atom_virial);
  }

 private:
  DP_DeepPotModelDevi* dp() const { return reinterpret_cast<DP_DeepPotModelDevi*>(handle()); }
  detail::Dims dims() const { return {dim_fparam(), dim_aparam(), dim_chg_spin()}; }

  template <typename T>
  void run(const detail::Given<T>& in, detail::Results<T>& out) {
    typedef detail::Functions<T> functions;
    if (in.list) {
      functions::pot_devi_list(dp(), in.nframes, in.natoms, in.coord, in.atype, in.cell, in.nghost,
                               in.list, in.ago, in.fparam_data(), in.aparam_data(),
                               in.charge_spin_data(), out.energy.data(), out.force.data(),
                               out.virial.data(), out.atom_energy_data(), out.atom_virial_data());
    } else {
      functions::pot_devi(dp(), in.nframes, in.natoms, in.coord, in.atype, in.cell,
                          in.fparam_data(), in.aparam_data(), in.charge_spin_data(),
                          out.energy.data(), out.force.data(), out.virial.data(),
                          out.atom_energy_data(), out.atom_virial_data());
    }
    check();
  }
};

/** Several models for the same system; all results once per model. */
class DeepSpinModelDevi : public DeepBaseModelDevi {
 public:
  DeepSpinModelDevi() = default;
  DeepSpinModelDevi(const std::vector<std::string>& models, const int& gpu_rank = 0,
                    const std::vector<std::string>& file_contents = std::vector<std::string>(),
                    const std::string& engine = "auto") {
    init(models, gpu_rank, file_contents, engine);
  }
  void init(const std::vector<std::string>& models, const int& gpu_rank = 0,
            const std::vector<std::string>& file_contents = std::vector<std::string>(),
            const std::string& engine = "auto") {
    open(DP_NewDeepSpinModelDeviWithParam2, models, gpu_rank, file_contents, engine);
  }

  int dim_chg_spin() const { return DP_DeepSpinModelDeviGetDimChgSpin(dp()); }
  void set_charge_spin(const std::vector<double>& charge_spin) {
    DP_DeepSpinModelDeviSetChargeSpin(dp(), charge_spin.data(),
                                      static_cast<int>(charge_spin.size()));
    check();
  }

  template <typename VALUETYPE>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_force_mag,
               std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, &spin, atype, box, fparam, aparam, charge_spin,
                                      -1);
    detail::Results<VALUETYPE> out(in, n_models_, false);
    run(in, out);
    out.split(all_ener, all_force, &all_force_mag, all_virial, nullptr, nullptr);
  }

  template <typename VALUETYPE>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_force_mag,
               std::vector<std::vector<VALUETYPE>>& all_virial,
               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, &spin, atype, box, fparam, aparam, charge_spin,
                                      -1);
    detail::Results<VALUETYPE> out(in, n_models_, true);
    run(in, out);
    out.split(all_ener, all_force, &all_force_mag, all_virial, &all_atom_energy, &all_atom_virial);
  }

  template <typename VALUETYPE>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_force_mag,
               std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
               const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
               const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list,
               const int& ago, const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, &spin, atype, box, fparam, aparam, charge_spin,
                                      -1, nghost, lmp_list.nl, ago);
    detail::Results<VALUETYPE> out(in, n_models_, false);
    run(in, out);
    out.split(all_ener, all_force, &all_force_mag, all_virial, nullptr, nullptr);
  }

  template <typename VALUETYPE>
  void compute(std::vector<double>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
               std::vector<std::vector<VALUETYPE>>& all_force_mag,
               std::vector<std::vector<VALUETYPE>>& all_virial,
               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
               const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
               const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
               const InputNlist& lmp_list, const int& ago,
               const std::vector<VALUETYPE>& fparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& aparam = std::vector<VALUETYPE>(),
               const std::vector<VALUETYPE>& charge_spin = std::vector<VALUETYPE>()) {
    const detail::Given<VALUETYPE> in(dims(), coord, &spin, atype, box, fparam, aparam, charge_spin,
                                      -1, nghost, lmp_list.nl, ago);
    detail::Results<VALUETYPE> out(in, n_models_, true);
    run(in, out);
    out.split(all_ener, all_force, &all_force_mag, all_virial, &all_atom_energy, &all_atom_virial);
  }

 private:
  DP_DeepSpinModelDevi* dp() const { return reinterpret_cast<DP_DeepSpinModelDevi*>(handle()); }
  detail::Dims dims() const { return {dim_fparam(), dim_aparam(), dim_chg_spin()}; }

  template <typename T>
  void run(const detail::Given<T>& in, detail::Results<T>& out) {
    typedef detail::Functions<T> functions;
    if (in.list) {
      functions::spin_devi_list(dp(), in.nframes, in.natoms, in.coord, in.spin, in.atype, in.cell,
                                in.nghost, in.list, in.ago, in.fparam_data(), in.aparam_data(),
                                in.charge_spin_data(), out.energy.data(), out.force.data(),
                                out.force_mag.data(), out.virial.data(), out.atom_energy_data(),
                                out.atom_virial_data());
    } else {
      functions::spin_devi(dp(), in.nframes, in.natoms, in.coord, in.spin, in.atype, in.cell,
                           in.fparam_data(), in.aparam_data(), in.charge_spin_data(),
                           out.energy.data(), out.force.data(), out.force_mag.data(),
                           out.virial.data(), out.atom_energy_data(), out.atom_virial_data());
    }
    check();
  }
};

}  // namespace hpp
}  // namespace deepmd
