// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/DataModifier.h"

#include <algorithm>

#include "core/error.h"
#include "session.h"

namespace deepmd {

namespace {

constexpr const char* kName = "DipoleChargeModifier";

using Pairs = std::vector<std::pair<int, int>>;

/** Throw unless the pairs are of local sites, and atoms with dipoles. */
void check_pairs(const Session& session, const Pairs& pairs, const std::vector<int>& atype,
                 int nloc) {
  const std::vector<int>& selected = session.sel_types;
  for (const auto& [atom, centroid] : pairs) {
    if (atom < 0 || atom >= nloc || centroid < 0 || centroid >= nloc) {
      core::fail(kName, "the pair of atom " + std::to_string(atom) + " and centroid " +
                            std::to_string(centroid) + " is not among the " + std::to_string(nloc) +
                            " local sites");
    }
    if (std::find(selected.begin(), selected.end(), atype[atom]) == selected.end()) {
      core::fail(session.model->info().path,
                 "atom " + std::to_string(atom) + " has a centroid, but its type " +
                     std::to_string(atype[atom]) + " has no dipole",
                 "pair the atoms of sel_types() only");
    }
  }
}

/** (nloc, 3): the force on the centroid of every atom. */
std::vector<double> on_centroids(const Pairs& pairs, const std::vector<double>& force, int nloc) {
  std::vector<double> sum(3 * static_cast<size_t>(nloc), 0.0);
  for (const auto& [atom, centroid] : pairs) {
    for (int a = 0; a < 3; ++a) sum[3 * atom + a] += force[3 * centroid + a];
  }
  return sum;
}

}  // namespace

DipoleChargeModifier::DipoleChargeModifier() = default;
DipoleChargeModifier::~DipoleChargeModifier() = default;

DipoleChargeModifier::DipoleChargeModifier(const std::string& model, const int& gpu_rank,
                                           const std::string& name_scope) {
  init(model, gpu_rank, name_scope);
}

void DipoleChargeModifier::init(const std::string& model, const int& gpu_rank,
                                const std::string& name_scope) {
  init(model, gpu_rank, name_scope, "auto");
}

void DipoleChargeModifier::init(const std::string& model, const int& gpu_rank,
                                const std::string& name_scope, const std::string& engine) {
  session_ = open_session(model, gpu_rank, "", engine, Kind::tensor, name_scope);
  const core::Output& output = session_->model->info().outputs.front();
  if (output.name == "dipole" && output.differentiable) return;
  session_.reset();
  core::fail(model, "it predicts \"" + output.name + "\", not dipoles", "give a model of dipoles");
}

void DipoleChargeModifier::print_summary(const std::string& pre) const {
  deepmd::print_summary(pre, opened(session_, kName).model->info());
}

double DipoleChargeModifier::cutoff() const { return opened(session_, kName).model->info().rcut; }

int DipoleChargeModifier::numb_types() const {
  return static_cast<int>(opened(session_, kName).model->info().type_map.size());
}

const std::vector<int>& DipoleChargeModifier::sel_types() const {
  return opened(session_, kName).sel_types;
}

double DipoleChargeModifier::ewald_beta() const {
  return opened(session_, kName).model->info().electrostatics.beta;
}

const std::vector<double>& DipoleChargeModifier::atom_charges() const {
  return opened(session_, kName).model->info().electrostatics.atoms;
}

const std::vector<double>& DipoleChargeModifier::centroid_charges() const {
  return opened(session_, kName).model->info().electrostatics.centroids;
}

template <typename VALUETYPE>
void DipoleChargeModifier::compute(std::vector<VALUETYPE>& dfcorr_, std::vector<VALUETYPE>& dvcorr_,
                                   const std::vector<VALUETYPE>& dcoord_,
                                   const std::vector<int>& datype_,
                                   const std::vector<VALUETYPE>& dbox, const Pairs& pairs,
                                   const std::vector<VALUETYPE>& delef_, const int nghost,
                                   const InputNlist& lmp_list) {
  Session& session = opened(session_, kName);
  const int nall = static_cast<int>(datype_.size()), nloc = nall - nghost;
  if (nghost < 0 || nloc < 0 || delef_.size() != 3 * static_cast<size_t>(nloc)) {
    core::fail(kName, "there are " + std::to_string(delef_.size()) + " numbers of forces for " +
                          std::to_string(nall) + " sites, of which " + std::to_string(nghost) +
                          " are ghosts; local sites have three each");
  }
  check_pairs(session, pairs, datype_, nloc);
  const std::vector<double>& coord = doubles(dcoord_);
  const std::vector<double>& box = doubles(dbox);
  const std::vector<double>& field = doubles(delef_);
  const std::vector<double> centroids = on_centroids(pairs, field, nloc);
  const std::vector<double> none;
  core::Wanted wanted;
  // A pointer that is not null, even without atoms.
  const double nothing = 0.0;
  wanted.cotangent = centroids.empty() ? &nothing : centroids.data();
  const auto frames =
      evaluate(session, {coord, datype_, box, none, none, none, -1, nghost, &lmp_list}, wanted);
  if (frames.size() != 1) core::fail(kName, "takes one frame at a time");
  // Derivatives come as forces, which have the other sign.
  dfcorr_.assign(frames.front().force.size(), VALUETYPE(0));
  for (size_t k = 0; k < dfcorr_.size(); ++k) {
    dfcorr_[k] = static_cast<VALUETYPE>(-frames.front().force[k]);
  }
  dvcorr_.clear();
  for (const double x : frames.front().virial) dvcorr_.push_back(static_cast<VALUETYPE>(-x));
  const int ntypes = numb_types();
  for (int i = 0; i < nloc; ++i) {
    if (datype_[i] < 0 || datype_[i] >= ntypes) continue;
    for (int a = 0; a < 3; ++a) {
      dfcorr_[3 * i + a] += static_cast<VALUETYPE>(field[3 * i + a] + centroids[3 * i + a]);
    }
  }
}

#define DEEPMD_MODIFIER(T)                                                                         \
  template void DipoleChargeModifier::compute<T>(                                                  \
      std::vector<T>&, std::vector<T>&, const std::vector<T>&, const std::vector<int>&,            \
      const std::vector<T>&, const std::vector<std::pair<int, int>>&, const std::vector<T>&,       \
      const int, const InputNlist&);
DEEPMD_MODIFIER(double)
DEEPMD_MODIFIER(float)

}  // namespace deepmd
