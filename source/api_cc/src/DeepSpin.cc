// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/DeepSpin.h"

#include "potential.h"

namespace deepmd {

namespace {

/** Frames with spins, as `compute` gets them. */
template <typename VALUETYPE>
Inputs<VALUETYPE> given(const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                        const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                        const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                        const std::vector<double>& charge_spin, int nghost = 0,
                        const InputNlist* list = nullptr) {
  return {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, list, &spin};
}

}  // namespace

DeepSpin::DeepSpin() = default;
DeepSpin::~DeepSpin() = default;

DeepSpin::DeepSpin(const std::string& model, const int& gpu_rank, const std::string& file_content) {
  init(model, gpu_rank, file_content, "auto");
}

DeepSpin::DeepSpin(const std::string& model, const int& gpu_rank, const std::string& file_content,
                   const std::string& engine) {
  init(model, gpu_rank, file_content, engine);
}

void DeepSpin::init(const std::string& model, const int& gpu_rank,
                    const std::string& file_content) {
  init(model, gpu_rank, file_content, "auto");
}

void DeepSpin::init(const std::string& model, const int& gpu_rank, const std::string& file_content,
                    const std::string& engine) {
  session_ = open_session(model, gpu_rank, file_content, engine, Kind::spin);
}

std::vector<bool> DeepSpin::get_use_spin() const {
  return opened(session_, "DeepSpin").model->info().use_spin;
}

double DeepSpin::reach(double longest_spin) const {
  return opened(session_, "DeepSpin").model->info().reach_of_spins(longest_spin);
}

int DeepSpin::dim_chg_spin() const {
  return opened(session_, "DeepSpin").model->info().size_of("charge_spin");
}

void DeepSpin::set_charge_spin(const std::vector<double>& charge_spin) {
  deepmd::set_charge_spin(opened(session_, "DeepSpin"), charge_spin);
}

bool DeepSpin::uses_native_spin_scheme() const { return false; }
bool DeepSpin::uses_canonical_graph_inference() const { return false; }

template <typename VALUETYPE>
void DeepSpin::compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                       std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
                       const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                       const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                       const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                       const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, nullptr, nullptr, &force_mag},
                       given(coord, spin, atype, box, fparam, aparam, charge_spin));
}

template <typename VALUETYPE>
void DeepSpin::compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                       std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
                       const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                       const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                       const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                       const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, nullptr, nullptr, &force_mag},
                       given(coord, spin, atype, box, fparam, aparam, charge_spin));
}

template <typename VALUETYPE>
void DeepSpin::compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                       std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
                       std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
                       const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                       const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                       const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                       const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial, &force_mag},
                       given(coord, spin, atype, box, fparam, aparam, charge_spin));
}

template <typename VALUETYPE>
void DeepSpin::compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                       std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
                       std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
                       const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                       const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                       const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                       const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial, &force_mag},
                       given(coord, spin, atype, box, fparam, aparam, charge_spin));
}

template <typename VALUETYPE>
void DeepSpin::compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                       std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
                       const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                       const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                       const int nghost, const InputNlist& lmp_list, const int&,
                       const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                       const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(
      session_, ener, {force, virial, nullptr, nullptr, &force_mag},
      given(coord, spin, atype, box, fparam, aparam, charge_spin, nghost, &lmp_list));
}

template <typename VALUETYPE>
void DeepSpin::compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                       std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
                       const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                       const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                       const int nghost, const InputNlist& lmp_list, const int&,
                       const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                       const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(
      session_, ener, {force, virial, nullptr, nullptr, &force_mag},
      given(coord, spin, atype, box, fparam, aparam, charge_spin, nghost, &lmp_list));
}

template <typename VALUETYPE>
void DeepSpin::compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                       std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
                       std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
                       const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                       const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                       const int nghost, const InputNlist& lmp_list, const int&,
                       const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                       const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(
      session_, ener, {force, virial, &atom_energy, &atom_virial, &force_mag},
      given(coord, spin, atype, box, fparam, aparam, charge_spin, nghost, &lmp_list));
}

template <typename VALUETYPE>
void DeepSpin::compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                       std::vector<VALUETYPE>& force_mag, std::vector<VALUETYPE>& virial,
                       std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial,
                       const std::vector<VALUETYPE>& coord, const std::vector<VALUETYPE>& spin,
                       const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                       const int nghost, const InputNlist& lmp_list, const int&,
                       const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                       const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(
      session_, ener, {force, virial, &atom_energy, &atom_virial, &force_mag},
      given(coord, spin, atype, box, fparam, aparam, charge_spin, nghost, &lmp_list));
}

DeepSpinModelDevi::DeepSpinModelDevi() = default;
DeepSpinModelDevi::~DeepSpinModelDevi() = default;

DeepSpinModelDevi::DeepSpinModelDevi(const std::vector<std::string>& models, const int& gpu_rank,
                                     const std::vector<std::string>& file_contents) {
  init(models, gpu_rank, file_contents, "auto");
}

DeepSpinModelDevi::DeepSpinModelDevi(const std::vector<std::string>& models, const int& gpu_rank,
                                     const std::vector<std::string>& file_contents,
                                     const std::string& engine) {
  init(models, gpu_rank, file_contents, engine);
}

void DeepSpinModelDevi::init(const std::vector<std::string>& models, const int& gpu_rank,
                             const std::vector<std::string>& file_contents) {
  init(models, gpu_rank, file_contents, "auto");
}

void DeepSpinModelDevi::init(const std::vector<std::string>& models, const int& gpu_rank,
                             const std::vector<std::string>& file_contents,
                             const std::string& engine) {
  sessions_ = open_sessions(models, gpu_rank, file_contents, engine, Kind::spin);
}

std::vector<bool> DeepSpinModelDevi::get_use_spin() const {
  return first_of(sessions_).model->info().use_spin;
}

int DeepSpinModelDevi::dim_chg_spin() const {
  return first_of(sessions_).model->info().size_of("charge_spin");
}

void DeepSpinModelDevi::set_charge_spin(const std::vector<double>& charge_spin) {
  deepmd::set_charge_spin(sessions_, charge_spin);
}

template <typename VALUETYPE>
void DeepSpinModelDevi::compute(
    std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
    std::vector<std::vector<VALUETYPE>>& all_force_mag,
    std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
    const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
    const std::vector<VALUETYPE>& box, const std::vector<VALUETYPE>& fparam,
    const std::vector<VALUETYPE>& aparam, const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(sessions_, all_ener,
                        {all_force, all_virial, nullptr, nullptr, &all_force_mag},
                        given(coord, spin, atype, box, fparam, aparam, charge_spin));
}

template <typename VALUETYPE>
void DeepSpinModelDevi::compute(
    std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
    std::vector<std::vector<VALUETYPE>>& all_force_mag,
    std::vector<std::vector<VALUETYPE>>& all_virial,
    std::vector<std::vector<VALUETYPE>>& all_atom_energy,
    std::vector<std::vector<VALUETYPE>>& all_atom_virial, const std::vector<VALUETYPE>& coord,
    const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
    const std::vector<VALUETYPE>& box, const std::vector<VALUETYPE>& fparam,
    const std::vector<VALUETYPE>& aparam, const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(sessions_, all_ener,
                        {all_force, all_virial, &all_atom_energy, &all_atom_virial, &all_force_mag},
                        given(coord, spin, atype, box, fparam, aparam, charge_spin));
}

template <typename VALUETYPE>
void DeepSpinModelDevi::compute(
    std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
    std::vector<std::vector<VALUETYPE>>& all_force_mag,
    std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
    const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
    const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list, const int&,
    const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
    const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(
      sessions_, all_ener, {all_force, all_virial, nullptr, nullptr, &all_force_mag},
      given(coord, spin, atype, box, fparam, aparam, charge_spin, nghost, &lmp_list));
}

template <typename VALUETYPE>
void DeepSpinModelDevi::compute(
    std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
    std::vector<std::vector<VALUETYPE>>& all_force_mag,
    std::vector<std::vector<VALUETYPE>>& all_virial,
    std::vector<std::vector<VALUETYPE>>& all_atom_energy,
    std::vector<std::vector<VALUETYPE>>& all_atom_virial, const std::vector<VALUETYPE>& coord,
    const std::vector<VALUETYPE>& spin, const std::vector<int>& atype,
    const std::vector<VALUETYPE>& box, const int nghost, const InputNlist& lmp_list, const int&,
    const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
    const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(
      sessions_, all_ener,
      {all_force, all_virial, &all_atom_energy, &all_atom_virial, &all_force_mag},
      given(coord, spin, atype, box, fparam, aparam, charge_spin, nghost, &lmp_list));
}

#define DEEPMD_SPIN(T)                                                                             \
  template void DeepSpin::compute<T>(                                                              \
      ENERGYTYPE&, std::vector<T>&, std::vector<T>&, std::vector<T>&, const std::vector<T>&,       \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&,                       \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                   \
  template void DeepSpin::compute<T>(std::vector<ENERGYTYPE>&, std::vector<T>&, std::vector<T>&,   \
                                     std::vector<T>&, const std::vector<T>&,                       \
                                     const std::vector<T>&, const std::vector<int>&,               \
                                     const std::vector<T>&, const std::vector<T>&,                 \
                                     const std::vector<T>&, const std::vector<double>&);           \
  template void DeepSpin::compute<T>(                                                              \
      ENERGYTYPE&, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,             \
      std::vector<T>&, const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,      \
      const std::vector<T>&, const std::vector<T>&, const std::vector<T>&,                         \
      const std::vector<double>&);                                                                 \
  template void DeepSpin::compute<T>(                                                              \
      std::vector<ENERGYTYPE>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                 \
      std::vector<T>&, std::vector<T>&, const std::vector<T>&, const std::vector<T>&,              \
      const std::vector<int>&, const std::vector<T>&, const std::vector<T>&,                       \
      const std::vector<T>&, const std::vector<double>&);                                          \
  template void DeepSpin::compute<T>(                                                              \
      ENERGYTYPE&, std::vector<T>&, std::vector<T>&, std::vector<T>&, const std::vector<T>&,       \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&, const int,            \
      const InputNlist&, const int&, const std::vector<T>&, const std::vector<T>&,                 \
      const std::vector<double>&);                                                                 \
  template void DeepSpin::compute<T>(                                                              \
      std::vector<ENERGYTYPE>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                 \
      const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,                       \
      const std::vector<T>&, const int, const InputNlist&, const int&, const std::vector<T>&,      \
      const std::vector<T>&, const std::vector<double>&);                                          \
  template void DeepSpin::compute<T>(                                                              \
      ENERGYTYPE&, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,             \
      std::vector<T>&, const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,      \
      const std::vector<T>&, const int, const InputNlist&, const int&, const std::vector<T>&,      \
      const std::vector<T>&, const std::vector<double>&);                                          \
  template void DeepSpin::compute<T>(                                                              \
      std::vector<ENERGYTYPE>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                 \
      std::vector<T>&, std::vector<T>&, const std::vector<T>&, const std::vector<T>&,              \
      const std::vector<int>&, const std::vector<T>&, const int, const InputNlist&, const int&,    \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                   \
  template void DeepSpinModelDevi::compute<T>(                                                     \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,        \
      std::vector<std::vector<T>>&, const std::vector<T>&, const std::vector<T>&,                  \
      const std::vector<int>&, const std::vector<T>&, const std::vector<T>&,                       \
      const std::vector<T>&, const std::vector<double>&);                                          \
  template void DeepSpinModelDevi::compute<T>(                                                     \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,        \
      std::vector<std::vector<T>>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,    \
      const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,                       \
      const std::vector<T>&, const std::vector<T>&, const std::vector<T>&,                         \
      const std::vector<double>&);                                                                 \
  template void DeepSpinModelDevi::compute<T>(                                                     \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,        \
      std::vector<std::vector<T>>&, const std::vector<T>&, const std::vector<T>&,                  \
      const std::vector<int>&, const std::vector<T>&, const int, const InputNlist&, const int&,    \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                   \
  template void DeepSpinModelDevi::compute<T>(                                                     \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,        \
      std::vector<std::vector<T>>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,    \
      const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,                       \
      const std::vector<T>&, const int, const InputNlist&, const int&, const std::vector<T>&,      \
      const std::vector<T>&, const std::vector<double>&);
DEEPMD_SPIN(double)
DEEPMD_SPIN(float)

}  // namespace deepmd
