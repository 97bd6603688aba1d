// SPDX-License-Identifier: LGPL-3.0-or-later
#include "core/uncertainty.h"

#include "deepmd/DeepPot.h"
#include "potential.h"

namespace deepmd {

namespace {

const core::Info& info(const std::shared_ptr<Session>& session) {
  return opened(session, "DeepPot").model->info();
}

}  // namespace

void set_deviations(const std::vector<core::Prediction>& frames, Deviations& deviations) {
  const std::vector<double>& both = frames.front().deviations;
  deviations.atom_energy.resize(both.size() / 2);
  deviations.force.resize(both.size() / 2);
  for (size_t a = 0; a < both.size() / 2; ++a) {
    deviations.atom_energy[a] = both[2 * a];
    deviations.force[a] = both[2 * a + 1];
  }
  deviations.features = frames.front().features;
}

std::string DeepPot::uncertainty_missing() const { return info(session_).uncertainty.missing; }

int DeepPot::numb_features() const {
  const core::Uncertainty& found = info(session_).uncertainty;
  return found.missing.empty() ? static_cast<int>(found.n_features()) : 0;
}

double DeepPot::energy_deviation(const std::vector<double>& features) const {
  const auto needed = static_cast<size_t>(numb_features());
  if (needed == 0) core::fail(info(session_).path, uncertainty_missing());
  if (features.size() != needed) {
    core::fail("DeepPot::energy_deviation", std::to_string(features.size()) + " features, but " +
                                                std::to_string(needed) + " are needed");
  }
  return info(session_).uncertainty.of_energy(features.data());
}

void DeepPot::compute_deviations(ENERGYTYPE& ener, std::vector<double>& force,
                                 std::vector<double>& virial, std::vector<double>* atom_energy,
                                 std::vector<double>* atom_virial, Deviations& deviations,
                                 const std::vector<double>& coord, const std::vector<int>& atype,
                                 const std::vector<double>& box, const int nghost,
                                 const InputNlist& lmp_list, const std::vector<double>& fparam,
                                 const std::vector<double>& aparam,
                                 const std::vector<double>& charge_spin) {
  potential<double>(session_, ener, {force, virial, atom_energy, atom_virial, nullptr, &deviations},
                    {coord, atype, box, fparam, aparam, charge_spin, -1, nghost, &lmp_list});
}

}  // namespace deepmd
