// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/DeepPot.h"

#include "core/error.h"
#include "session.h"

namespace deepmd {

namespace {

/** Where results go; null: not wanted. */
template <typename VALUETYPE>
struct Outputs {
  std::vector<VALUETYPE>& force;
  std::vector<VALUETYPE>& virial;
  std::vector<VALUETYPE>* atom_energy;
  std::vector<VALUETYPE>* atom_virial;
};

/** What `compute` was given, in its precision. */
template <typename VALUETYPE>
struct Inputs {
  const std::vector<VALUETYPE>& coord;
  const std::vector<int>& atype;
  const std::vector<VALUETYPE>& box;
  const std::vector<VALUETYPE>& fparam;
  const std::vector<VALUETYPE>& aparam;
  const std::vector<double>& charge_spin;
  int mixed_frames = -1;
  int nghost = 0;
  const InputNlist* list = nullptr;
};

template <typename VALUETYPE>
void potential(const std::shared_ptr<Session>& session, std::vector<ENERGYTYPE>& energy,
               const Outputs<VALUETYPE>& outputs, const Inputs<VALUETYPE>& inputs) {
  const std::vector<double>& coord = doubles(inputs.coord);
  const std::vector<double>& box = doubles(inputs.box);
  const std::vector<double>& fparam = doubles(inputs.fparam);
  const std::vector<double>& aparam = doubles(inputs.aparam);
  const Request request{coord,  inputs.atype,        box,
                        fparam, aparam,              inputs.charge_spin,
                        inputs.mixed_frames,         inputs.nghost,
                        inputs.list};
  const core::Wanted wanted{true, outputs.atom_virial != nullptr};
  const auto frames = evaluate(opened(session, "DeepPot"), request, wanted);
  gather(energy, frames, &core::Prediction::value);
  gather(outputs.force, frames, &core::Prediction::force);
  gather(outputs.virial, frames, &core::Prediction::virial);
  if (outputs.atom_energy) {
    gather(*outputs.atom_energy, frames, &core::Prediction::atom_value);
  }
  if (outputs.atom_virial) {
    gather(*outputs.atom_virial, frames, &core::Prediction::atom_virial);
  }
}

/** Of one frame. */
template <typename VALUETYPE>
void potential(const std::shared_ptr<Session>& session, ENERGYTYPE& energy,
               const Outputs<VALUETYPE>& outputs, const Inputs<VALUETYPE>& inputs) {
  std::vector<ENERGYTYPE> energies;
  potential(session, energies, outputs, inputs);
  if (energies.size() != 1) {
    core::fail("DeepPot::compute", "there are " + std::to_string(energies.size()) + " frames",
               "pass one, or take the energies in a std::vector<double>");
  }
  energy = energies.front();
}

/** The models of an ensemble must mean the same types and take the same parameters. */
void check_alike(const core::Info& first, const core::Info& other) {
  std::string what;
  if (other.type_map != first.type_map) {
    what = "its types";
  } else if (other.dim_fparam != first.dim_fparam) {
    what = "its number of frame parameters";
  } else if (other.dim_aparam != first.dim_aparam) {
    what = "its number of atom parameters";
  } else if (other.dim_chg_spin != first.dim_chg_spin) {
    what = "its number of charge and spin values";
  }
  if (!what.empty()) {
    core::fail(other.path, what + " differ from those of " + first.path,
               "take models of one ensemble");
  }
}

Session& first_of(const std::vector<std::shared_ptr<Session>>& sessions) {
  return opened(sessions.empty() ? nullptr : sessions.front(), "DeepPotModelDevi");
}

/** Where the results of all models go; null: not wanted. */
template <typename VALUETYPE>
struct AllOutputs {
  std::vector<std::vector<VALUETYPE>>& force;
  std::vector<std::vector<VALUETYPE>>& virial;
  std::vector<std::vector<VALUETYPE>>* atom_energy;
  std::vector<std::vector<VALUETYPE>>* atom_virial;
};

template <typename VALUETYPE>
void potentials(const std::vector<std::shared_ptr<Session>>& sessions,
                std::vector<ENERGYTYPE>& energy, const AllOutputs<VALUETYPE>& outputs,
                const Inputs<VALUETYPE>& inputs) {
  first_of(sessions);
  const size_t n = sessions.size();
  energy.resize(n);
  outputs.force.resize(n);
  outputs.virial.resize(n);
  if (outputs.atom_energy) {
    outputs.atom_energy->resize(n);
    outputs.atom_virial->resize(n);
  }
  for (size_t k = 0; k < n; ++k) {
    auto* const atom_energy = outputs.atom_energy ? &(*outputs.atom_energy)[k] : nullptr;
    auto* const atom_virial = outputs.atom_virial ? &(*outputs.atom_virial)[k] : nullptr;
    potential<VALUETYPE>(sessions[k], energy[k],
                         {outputs.force[k], outputs.virial[k], atom_energy, atom_virial}, inputs);
  }
}

}  // namespace

DeepPot::DeepPot() = default;
DeepPot::~DeepPot() = default;

DeepPot::DeepPot(const std::string& model, const int& gpu_rank, const std::string& file_content) {
  init(model, gpu_rank, file_content);
}

void DeepPot::init(const std::string& model, const int& gpu_rank,
                   const std::string& file_content) {
  session_ = open_session(model, gpu_rank, file_content);
}

int DeepPot::dim_chg_spin() const {
  return opened(session_, "DeepPot").model->info().dim_chg_spin;
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
void DeepPot::compute_mixed_type(ENERGYTYPE& ener, std::vector<VALUETYPE>& force,
                                 std::vector<VALUETYPE>& virial,
                                 std::vector<VALUETYPE>& atom_energy,
                                 std::vector<VALUETYPE>& atom_virial, const int& nframes,
                                 const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                                 const std::vector<VALUETYPE>& box,
                                 const std::vector<VALUETYPE>& fparam,
                                 const std::vector<VALUETYPE>& aparam,
                                 const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial},
                       {coord, atype, box, fparam, aparam, charge_spin, nframes});
}

template <typename VALUETYPE>
void DeepPot::compute_mixed_type(std::vector<ENERGYTYPE>& ener, std::vector<VALUETYPE>& force,
                                 std::vector<VALUETYPE>& virial,
                                 std::vector<VALUETYPE>& atom_energy,
                                 std::vector<VALUETYPE>& atom_virial, const int& nframes,
                                 const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                                 const std::vector<VALUETYPE>& box,
                                 const std::vector<VALUETYPE>& fparam,
                                 const std::vector<VALUETYPE>& aparam,
                                 const std::vector<double>& charge_spin) {
  potential<VALUETYPE>(session_, ener, {force, virial, &atom_energy, &atom_virial},
                       {coord, atype, box, fparam, aparam, charge_spin, nframes});
}

DeepPotModelDevi::DeepPotModelDevi() = default;
DeepPotModelDevi::~DeepPotModelDevi() = default;

DeepPotModelDevi::DeepPotModelDevi(const std::vector<std::string>& models, const int& gpu_rank,
                                   const std::vector<std::string>& file_contents) {
  init(models, gpu_rank, file_contents);
}

void DeepPotModelDevi::init(const std::vector<std::string>& models, const int& gpu_rank,
                            const std::vector<std::string>& file_contents) {
  if (models.empty()) {
    core::fail("DeepPotModelDevi", "no models were named");
  }
  if (!file_contents.empty() && file_contents.size() != models.size()) {
    core::fail("DeepPotModelDevi", std::to_string(file_contents.size()) + " file contents for " +
                                       std::to_string(models.size()) + " models");
  }
  std::vector<std::shared_ptr<Session>> sessions;
  for (size_t k = 0; k < models.size(); ++k) {
    sessions.push_back(
        open_session(models[k], gpu_rank, file_contents.empty() ? "" : file_contents[k]));
    check_alike(sessions.front()->model->info(), sessions.back()->model->info());
  }
  sessions_ = std::move(sessions);
}

int DeepPotModelDevi::dim_chg_spin() const {
  return first_of(sessions_).model->info().dim_chg_spin;
}

void DeepPotModelDevi::set_charge_spin(const std::vector<double>& charge_spin) {
  first_of(sessions_);
  for (const auto& session : sessions_) {
    deepmd::set_charge_spin(*session, charge_spin);
  }
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
void DeepPotModelDevi::compute(std::vector<ENERGYTYPE>& all_ener,
                               std::vector<std::vector<VALUETYPE>>& all_force,
                               std::vector<std::vector<VALUETYPE>>& all_virial,
                               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                               const std::vector<VALUETYPE>& box, const int nghost,
                               const InputNlist& lmp_list, const int&,
                               const std::vector<VALUETYPE>& fparam,
                               const std::vector<VALUETYPE>& aparam,
                               const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(sessions_, all_ener, {all_force, all_virial, nullptr, nullptr},
                        {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

template <typename VALUETYPE>
void DeepPotModelDevi::compute(std::vector<ENERGYTYPE>& all_ener,
                               std::vector<std::vector<VALUETYPE>>& all_force,
                               std::vector<std::vector<VALUETYPE>>& all_virial,
                               std::vector<std::vector<VALUETYPE>>& all_atom_energy,
                               std::vector<std::vector<VALUETYPE>>& all_atom_virial,
                               const std::vector<VALUETYPE>& coord, const std::vector<int>& atype,
                               const std::vector<VALUETYPE>& box, const int nghost,
                               const InputNlist& lmp_list, const int&,
                               const std::vector<VALUETYPE>& fparam,
                               const std::vector<VALUETYPE>& aparam,
                               const std::vector<double>& charge_spin) {
  potentials<VALUETYPE>(sessions_, all_ener,
                        {all_force, all_virial, &all_atom_energy, &all_atom_virial},
                        {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

#define DEEPMD_POTENTIAL(T, E)                                                                    \
  template void DeepPot::compute<T>(                                                              \
      E, std::vector<T>&, std::vector<T>&, const std::vector<T>&, const std::vector<int>&,        \
      const std::vector<T>&, const std::vector<T>&, const std::vector<T>&,                        \
      const std::vector<double>&);                                                                \
  template void DeepPot::compute<T>(                                                              \
      E, std::vector<T>&, std::vector<T>&, const std::vector<T>&, const std::vector<int>&,        \
      const std::vector<T>&, const int, const InputNlist&, const int&, const std::vector<T>&,     \
      const std::vector<T>&, const std::vector<double>&);                                         \
  template void DeepPot::compute<T>(                                                              \
      E, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                  \
  template void DeepPot::compute<T>(                                                              \
      E, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&, const int,           \
      const InputNlist&, const int&, const std::vector<T>&, const std::vector<T>&,                \
      const std::vector<double>&);                                                                \
  template void DeepPot::compute_mixed_type<T>(                                                   \
      E, std::vector<T>&, std::vector<T>&, const int&, const std::vector<T>&,                     \
      const std::vector<int>&, const std::vector<T>&, const std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<double>&);                                         \
  template void DeepPot::compute_mixed_type<T>(                                                   \
      E, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&, const int&,          \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);
DEEPMD_POTENTIAL(double, ENERGYTYPE&)
DEEPMD_POTENTIAL(double, std::vector<ENERGYTYPE>&)
DEEPMD_POTENTIAL(float, ENERGYTYPE&)
DEEPMD_POTENTIAL(float, std::vector<ENERGYTYPE>&)

#define DEEPMD_POTENTIALS(T)                                                                      \
  template void DeepPotModelDevi::compute<T>(                                                     \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,       \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                  \
  template void DeepPotModelDevi::compute<T>(                                                     \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,       \
      std::vector<std::vector<T>>&, std::vector<std::vector<T>>&, const std::vector<T>&,          \
      const std::vector<int>&, const std::vector<T>&, const std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<double>&);                                         \
  template void DeepPotModelDevi::compute<T>(                                                     \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,       \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&, const int,           \
      const InputNlist&, const int&, const std::vector<T>&, const std::vector<T>&,                \
      const std::vector<double>&);                                                                \
  template void DeepPotModelDevi::compute<T>(                                                     \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,       \
      std::vector<std::vector<T>>&, std::vector<std::vector<T>>&, const std::vector<T>&,          \
      const std::vector<int>&, const std::vector<T>&, const int, const InputNlist&, const int&,   \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);
DEEPMD_POTENTIALS(double)
DEEPMD_POTENTIALS(float)

}  // namespace deepmd
