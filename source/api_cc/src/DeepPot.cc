// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/DeepPot.h"

#include "potential.h"

namespace deepmd {

DeepPot::DeepPot() = default;
DeepPot::~DeepPot() = default;

DeepPot::DeepPot(const std::string& model, const int& gpu_rank, const std::string& file_content) {
  init(model, gpu_rank, file_content, "auto");
}

DeepPot::DeepPot(const std::string& model, const int& gpu_rank, const std::string& file_content,
                 const std::string& engine) {
  init(model, gpu_rank, file_content, engine);
}

void DeepPot::init(const std::string& model, const int& gpu_rank, const std::string& file_content) {
  init(model, gpu_rank, file_content, "auto");
}

void DeepPot::init(const std::string& model, const int& gpu_rank, const std::string& file_content,
                   const std::string& engine) {
  session_ = open_session(model, gpu_rank, file_content, engine);
}

int DeepPot::dim_chg_spin() const {
  return opened(session_, "DeepPot").model->info().size_of("charge_spin");
}

void DeepPot::set_charge_spin(const std::vector<double>& charge_spin) {
  deepmd::set_charge_spin(opened(session_, "DeepPot"), charge_spin);
}

bool DeepPot::supports_device_edge_inference() const { return false; }
bool DeepPot::uses_fp32_edge_vectors() const { return false; }
bool DeepPot::uses_canonical_graph_inference() const { return false; }

template <typename VALUETYPE>
void DeepPot::compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                      std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
                      const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                      const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                      const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, nullptr, nullptr},
                       {coord, atype, box, fparam, aparam, charge_spin});
}

template <typename VALUETYPE>
void DeepPot::compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                      std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
                      const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                      const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                      const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, nullptr, nullptr},
                       {coord, atype, box, fparam, aparam, charge_spin});
}

template <typename VALUETYPE>
void DeepPot::compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                      std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
                      const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                      const int nghost, const InputNlist& lmp_list, const int&,
                      const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                      const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, nullptr, nullptr},
                       {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

template <typename VALUETYPE>
void DeepPot::compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                      std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
                      const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                      const int nghost, const InputNlist& lmp_list, const int&,
                      const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                      const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, nullptr, nullptr},
                       {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

template <typename VALUETYPE>
void DeepPot::compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                      std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
                      std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
                      const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                      const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                      const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial},
                       {coord, atype, box, fparam, aparam, charge_spin});
}

template <typename VALUETYPE>
void DeepPot::compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                      std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
                      std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
                      const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                      const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                      const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial},
                       {coord, atype, box, fparam, aparam, charge_spin});
}

template <typename VALUETYPE>
void DeepPot::compute(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                      std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
                      std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
                      const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                      const int nghost, const InputNlist& lmp_list, const int&,
                      const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                      const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial},
                       {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

template <typename VALUETYPE>
void DeepPot::compute(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                      std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_energy,
                      std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
                      const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                      const int nghost, const InputNlist& lmp_list, const int&,
                      const std::vector<VALUETYPE>& fparam, const std::vector<VALUETYPE>& aparam,
                      const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial},
                       {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

template <typename VALUETYPE>
void DeepPot::compute_mixed_type(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                                 std::vector<VALUETYPE>& virial, const int& nframes,
                                 const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                                 const std::vector<VALUETYPE>& box,
                                 const std::vector<VALUETYPE>& fparam,
                                 const std::vector<VALUETYPE>& aparam,
                                 const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, nullptr, nullptr},
                       {coord, atype, box, fparam, aparam, charge_spin, nframes});
}

template <typename VALUETYPE>
void DeepPot::compute_mixed_type(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                                 std::vector<VALUETYPE>& virial, const int& nframes,
                                 const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                                 const std::vector<VALUETYPE>& box,
                                 const std::vector<VALUETYPE>& fparam,
                                 const std::vector<VALUETYPE>& aparam,
                                 const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, nullptr, nullptr},
                       {coord, atype, box, fparam, aparam, charge_spin, nframes});
}

template <typename VALUETYPE>
void DeepPot::compute_mixed_type(
    ENERGYTYPE& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
    std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial, const int& nframes,
    const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
    const std::vector<VALUETYPE>& box, const std::vector<VALUETYPE>& fparam,
    const std::vector<VALUETYPE>& aparam, const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial},
                       {coord, atype, box, fparam, aparam, charge_spin, nframes});
}

template <typename VALUETYPE>
void DeepPot::compute_mixed_type(
    std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force, std::vector<VALUETYPE>& virial,
    std::vector<VALUETYPE>& atom_energy, std::vector<VALUETYPE>& atom_virial, const int& nframes,
    const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
    const std::vector<VALUETYPE>& box, const std::vector<VALUETYPE>& fparam,
    const std::vector<VALUETYPE>& aparam, const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial},
                       {coord, atype, box, fparam, aparam, charge_spin, nframes});
}

DeepPotModelDevi::DeepPotModelDevi() = default;
DeepPotModelDevi::~DeepPotModelDevi() = default;

DeepPotModelDevi::DeepPotModelDevi(const std::vector<std::string>& models, const int& gpu_rank,
                                   const std::vector<std::string>& file_contents) {
  init(models, gpu_rank, file_contents, "auto");
}

DeepPotModelDevi::DeepPotModelDevi(const std::vector<std::string>& models, const int& gpu_rank,
                                   const std::vector<std::string>& file_contents,
                                   const std::string& engine) {
  init(models, gpu_rank, file_contents, engine);
}

void DeepPotModelDevi::init(const std::vector<std::string>& models, const int& gpu_rank,
                            const std::vector<std::string>& file_contents) {
  init(models, gpu_rank, file_contents, "auto");
}

void DeepPotModelDevi::init(const std::vector<std::string>& models, const int& gpu_rank,
                            const std::vector<std::string>& file_contents,
                            const std::string& engine) {
  sessions_ = open_sessions(models, gpu_rank, file_contents, engine);
}

int DeepPotModelDevi::dim_chg_spin() const {
  return first_of(sessions_).model->info().size_of("charge_spin");
}

void DeepPotModelDevi::set_charge_spin(const std::vector<double>& charge_spin) {
  deepmd::set_charge_spin(sessions_, charge_spin);
}

template <typename VALUETYPE>
void DeepPotModelDevi::compute(std::vector<ENERGYTYPE>& all_ener,
                               std::vector<std::vector<VALUETYPE>>& all_force,
                               std::vector<std::vector<VALUETYPE>>& all_virial,
                               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                               const std::vector<VALUETYPE>& box,
                               const std::vector<VALUETYPE>& fparam,
                               const std::vector<VALUETYPE>& aparam,
                               const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(sessions_, all_ener, {all_force, all_virial, nullptr, nullptr},
                        {coord, atype, box, fparam, aparam, charge_spin});
}

template <typename VALUETYPE>
void DeepPotModelDevi::compute(std::vector<ENERGYTYPE>& all_ener,
                               std::vector<std::vector<VALUETYPE>>& all_force,
                               std::vector<std::vector<VALUETYPE>>& all_virial,
                               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
                               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
                               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                               const std::vector<VALUETYPE>& box,
                               const std::vector<VALUETYPE>& fparam,
                               const std::vector<VALUETYPE>& aparam,
                               const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(sessions_, all_ener,
                        {all_force, all_virial, &all_atom_energy, &all_atom_virial},
                        {coord, atype, box, fparam, aparam, charge_spin});
}

template <typename VALUETYPE>
void DeepPotModelDevi::compute(
    std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
    std::vector<std::vector<VALUETYPE>>& all_virial, const std::vector<VALUETYPE>& coord,
    const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
    const InputNlist& lmp_list, const int&, const std::vector<VALUETYPE>& fparam,
    const std::vector<VALUETYPE>& aparam, const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(sessions_, all_ener, {all_force, all_virial, nullptr, nullptr},
                        {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

template <typename VALUETYPE>
void DeepPotModelDevi::compute(
    std::vector<ENERGYTYPE>& all_ener, std::vector<std::vector<VALUETYPE>>& all_force,
    std::vector<std::vector<VALUETYPE>>& all_virial,
    std::vector<std::vector<VALUETYPE>>& all_atom_energy,
    std::vector<std::vector<VALUETYPE>>& all_atom_virial, const std::vector<VALUETYPE>& coord,
    const std::vector<int>& atype, const std::vector<VALUETYPE>& box, const int nghost,
    const InputNlist& lmp_list, const int&, const std::vector<VALUETYPE>& fparam,
    const std::vector<VALUETYPE>& aparam, const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(sessions_, all_ener,
                        {all_force, all_virial, &all_atom_energy, &all_atom_virial},
                        {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

#define DEEPMD_POTENTIAL(T, E)                                                                     \
  template void DeepPot::compute<T>(E, std::vector<T>&, std::vector<T>&, const std::vector<T>&,    \
                                    const std::vector<int>&, const std::vector<T>&,                \
                                    const std::vector<T>&, const std::vector<T>&,                  \
                                    const std::vector<double>&);                                   \
  template void DeepPot::compute<T>(E, std::vector<T>&, std::vector<T>&, const std::vector<T>&,    \
                                    const std::vector<int>&, const std::vector<T>&, const int,     \
                                    const InputNlist&, const int&, const std::vector<T>&,          \
                                    const std::vector<T>&, const std::vector<double>&);            \
  template void DeepPot::compute<T>(                                                               \
      E, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                       \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&,                       \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                   \
  template void DeepPot::compute<T>(E, std::vector<T>&, std::vector<T>&, std::vector<T>&,          \
                                    std::vector<T>&, const std::vector<T>&,                        \
                                    const std::vector<int>&, const std::vector<T>&, const int,     \
                                    const InputNlist&, const int&, const std::vector<T>&,          \
                                    const std::vector<T>&, const std::vector<double>&);            \
  template void DeepPot::compute_mixed_type<T>(E, std::vector<T>&, std::vector<T>&, const int&,    \
                                               const std::vector<T>&, const std::vector<int>&,     \
                                               const std::vector<T>&, const std::vector<T>&,       \
                                               const std::vector<T>&, const std::vector<double>&); \
  template void DeepPot::compute_mixed_type<T>(                                                    \
      E, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&, const int&,           \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&,                       \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);
DEEPMD_POTENTIAL(double, ENERGYTYPE&)
DEEPMD_POTENTIAL(double, std::vector<ENERGYTYPE>&)
DEEPMD_POTENTIAL(float, ENERGYTYPE&)
DEEPMD_POTENTIAL(float, std::vector<ENERGYTYPE>&)

#define DEEPMD_POTENTIALS(T)                                                                       \
  template void DeepPotModelDevi::compute<T>(                                                      \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,        \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&,                       \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                   \
  template void DeepPotModelDevi::compute<T>(                                                      \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,        \
      std::vector<std::vector<T>>&, std::vector<std::vector<T>>&, const std::vector<T>&,           \
      const std::vector<int>&, const std::vector<T>&, const std::vector<T>&,                       \
      const std::vector<T>&, const std::vector<double>&);                                          \
  template void DeepPotModelDevi::compute<T>(                                                      \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,        \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&, const int,            \
      const InputNlist&, const int&, const std::vector<T>&, const std::vector<T>&,                 \
      const std::vector<double>&);                                                                 \
  template void DeepPotModelDevi::compute<T>(                                                      \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,        \
      std::vector<std::vector<T>>&, std::vector<std::vector<T>>&, const std::vector<T>&,           \
      const std::vector<int>&, const std::vector<T>&, const int, const InputNlist&, const int&,    \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);
DEEPMD_POTENTIALS(double)
DEEPMD_POTENTIALS(float)

}  // namespace deepmd
