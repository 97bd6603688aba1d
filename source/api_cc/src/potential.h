// SPDX-License-Identifier: LGPL-3.0-or-later
/** What DeepPot and DeepSpin, and their ensembles, have in common. */
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "deepmd/DeepPot.h"
#include "session.h"

namespace deepmd {

/** Take the deviations of one frame (uncertainty.cc). */
void set_deviations(const std::vector<core::Prediction>& frames, Deviations& deviations);

/** Where results go; null: not wanted. */
template <typename VALUETYPE>
struct Outputs {
  std::vector<VALUETYPE>& force;
  std::vector<VALUETYPE>& virial;
  std::vector<VALUETYPE>* atom_energy;
  std::vector<VALUETYPE>* atom_virial;
  std::vector<VALUETYPE>* force_mag = nullptr;
  Deviations* deviations = nullptr;  ///< of one frame
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
  const std::vector<VALUETYPE>* spin = nullptr;
};

template <typename VALUETYPE>
void potential(const std::shared_ptr<Session>& session, std::vector<ENERGYTYPE>& energy,
               const Outputs<VALUETYPE>& outputs, const Inputs<VALUETYPE>& inputs) {
  const std::vector<double>& coord = doubles(inputs.coord);
  const std::vector<double>& box = doubles(inputs.box);
  const std::vector<double>& fparam = doubles(inputs.fparam);
  const std::vector<double>& aparam = doubles(inputs.aparam);
  static const std::vector<VALUETYPE> none;
  const std::vector<double>& spin = doubles(inputs.spin ? *inputs.spin : none);
  const Request request{coord,
                        inputs.atype,
                        box,
                        fparam,
                        aparam,
                        inputs.charge_spin,
                        inputs.mixed_frames,
                        inputs.nghost,
                        inputs.list,
                        inputs.spin ? &spin : nullptr};
  core::Wanted wanted{true, outputs.atom_virial != nullptr};
  wanted.deviations = outputs.deviations != nullptr;
  const auto frames = evaluate(opened(session, "DeepPot"), request, wanted);
  gather(energy, frames, &core::Prediction::value);
  gather(outputs.force, frames, &core::Prediction::force);
  gather(outputs.virial, frames, &core::Prediction::virial);
  if (outputs.force_mag) {
    gather(*outputs.force_mag, frames, &core::Prediction::force_mag);
  }
  if (outputs.atom_energy) {
    gather(*outputs.atom_energy, frames, &core::Prediction::atom_value);
  }
  if (outputs.atom_virial) {
    gather(*outputs.atom_virial, frames, &core::Prediction::atom_virial);
  }
  if (outputs.deviations) {
    set_deviations(frames, *outputs.deviations);
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
inline void check_alike(const core::Info& first, const core::Info& other) {
  std::string what;
  if (other.type_map != first.type_map) {
    what = "its types";
  } else if (other.size_of("fparam") != first.size_of("fparam")) {
    what = "its number of frame parameters";
  } else if (other.size_of("aparam") != first.size_of("aparam")) {
    what = "its number of atom parameters";
  } else if (other.size_of("charge_spin") != first.size_of("charge_spin")) {
    what = "its number of charge and spin values";
  } else if (other.use_spin != first.use_spin) {
    what = "its types with spins";
  }
  if (!what.empty()) {
    core::fail(other.path, what + " differ from those of " + first.path,
               "take models of one ensemble");
  }
}

inline Session& first_of(const std::vector<std::shared_ptr<Session>>& sessions) {
  return opened(sessions.empty() ? nullptr : sessions.front(), "DeepPotModelDevi");
}

/** Where the results of all models go; null: not wanted. */
template <typename VALUETYPE>
struct AllOutputs {
  std::vector<std::vector<VALUETYPE>>& force;
  std::vector<std::vector<VALUETYPE>>& virial;
  std::vector<std::vector<VALUETYPE>>* atom_energy;
  std::vector<std::vector<VALUETYPE>>* atom_virial;
  std::vector<std::vector<VALUETYPE>>* force_mag = nullptr;
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
  if (outputs.force_mag) {
    outputs.force_mag->resize(n);
  }
  for (size_t k = 0; k < n; ++k) {
    auto* const atom_energy = outputs.atom_energy ? &(*outputs.atom_energy)[k] : nullptr;
    auto* const atom_virial = outputs.atom_virial ? &(*outputs.atom_virial)[k] : nullptr;
    auto* const force_mag = outputs.force_mag ? &(*outputs.force_mag)[k] : nullptr;
    potential<VALUETYPE>(sessions[k], energy[k],
                         {outputs.force[k], outputs.virial[k], atom_energy, atom_virial, force_mag},
                         inputs);
  }
}

/** Open the models of an ensemble; file_contents is empty or has one content per model. */
inline std::vector<std::shared_ptr<Session>> open_sessions(
    const std::vector<std::string>& models, int gpu_rank,
    const std::vector<std::string>& file_contents, const std::string& engine,
    Kind kind = Kind::potential) {
  if (models.empty()) {
    core::fail("DeepPotModelDevi", "no models were named");
  }
  if (!file_contents.empty() && file_contents.size() != models.size()) {
    core::fail("DeepPotModelDevi", std::to_string(file_contents.size()) + " file contents for " +
                                       std::to_string(models.size()) + " models");
  }
  std::vector<std::shared_ptr<Session>> sessions;
  for (size_t k = 0; k < models.size(); ++k) {
    const std::string content = file_contents.empty() ? "" : file_contents[k];
    sessions.push_back(open_session(models[k], gpu_rank, content, engine, kind));
    check_alike(sessions.front()->model->info(), sessions.back()->model->info());
  }
  return sessions;
}

inline void set_charge_spin(const std::vector<std::shared_ptr<Session>>& sessions,
                            const std::vector<double>& charge_spin) {
  first_of(sessions);
  for (const auto& session : sessions) {
    set_charge_spin(*session, charge_spin);
  }
}

}  // namespace deepmd
