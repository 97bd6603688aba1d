// SPDX-License-Identifier: LGPL-3.0-or-later
#include "fix_dplr.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "input.h"
#include "model.h"
#include "modify.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair_deepmd.h"
#include "pppm_dplr.h"
#include "update.h"
#include "variable.h"

using namespace LAMMPS_NS;
using deepmd_lmp::Failure;
using deepmd_lmp::guard;

namespace {

/** Place of a tensor (force, position) in LAMMPS's xx, yy, zz, xy, xz, yz (position, force). */
constexpr int component[6] = {0, 4, 8, 3, 6, 7};

/** Relative difference of charges and widths that the digits of an input may have. */
constexpr double kSame = 1e-6;

/** A number with as many digits as it needs. */
std::string brief(double number) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.10g", number);
  return text;
}

}  // namespace

FixDplr::FixDplr(LAMMPS* lmp, int narg, char** arg) : Fix(lmp, narg, arg), frame(lmp) {
  scalar_flag = vector_flag = 1;
  size_vector = 3;
  global_freq = 1;
  extscalar = extvector = 1;
  energy_global_flag = virial_global_flag = 1;
  // Pressures would be wrong without; fix_modify can turn it off.
  thermo_virial = 1;
  comm_reverse = 3;
  guard(lmp, "fix dplr: ", [&] {
    if (igroup != 0) throw Failure("the group must be all");
    settings = deepmd_lmp::parse_dplr_settings(narg - 3, arg + 3);
    units = std::make_unique<deepmd_lmp::Units>(lmp);
    if (!atom->q_flag || atom->molecular != Atom::MOLECULAR) {
      throw Failure("the atoms must have charges and bonds; use atom_style full");
    }
    if (atom->map_style == Atom::MAP_NONE) throw Failure("an atom map is needed");
    centroids =
        std::make_unique<deepmd_lmp::Centroids>(lmp, settings.associated, settings.bond_types);
    open();
  });
}

/** Open the dipole model: that within a long-range model, or a file of its own. */
void FixDplr::open() {
  const int gpu = deepmd_lmp::node_rank(world);
  const char* scope = "dipole_charge";
  dipoles.reset(DP_NewDeepTensorWithParam(settings.model.c_str(), gpu, scope));
  std::string message = deepmd_lmp::take(DP_DeepTensorCheckOK(dipoles.get()));
  if (message.empty()) {
    modifier.reset(DP_NewDipoleChargeModifierWithParam(settings.model.c_str(), gpu, scope));
    message = deepmd_lmp::take(DP_DipoleChargeModifierCheckOK(modifier.get()));
  }
  if (!message.empty()) throw Failure(message);
}

int FixDplr::setmask() {
  using namespace FixConst;
  return PRE_EXCHANGE | POST_NEIGHBOR | PRE_FORCE | POST_FORCE | MIN_PRE_EXCHANGE |
         MIN_POST_NEIGHBOR | MIN_PRE_FORCE | MIN_POST_FORCE;
}

void FixDplr::init() {
  guard(lmp, "fix dplr: ", [&] {
    if (std::strncmp(update->integrate_style, "respa", 5) == 0) {
      throw Failure("rRESPA is not available");
    }
    find_types();
    check_atoms();
    check_charges();
    deepmd_lmp::keep_ghosts(lmp, dipoles.get(), frame);
    check_variables();
    const double cutoff = DP_DeepTensorGetCutoff(dipoles.get()) * units->length;
    if (cutoff > force->pair->cutforce * (1.0 + 1e-12)) {
      throw Failure("the dipole model's cutoff of " + std::to_string(cutoff) +
                    " is beyond that of the pair style, " + std::to_string(force->pair->cutforce) +
                    "; use pair_style hybrid/overlay with zero and this cutoff");
    }
  });
  check_kspace();
  guard(lmp, "fix dplr: ", [&] { check_width(); });
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

/** The dipole model's types of LAMMPS's, by the names that pair_coeff has. */
void FixDplr::find_types() {
  const auto* pair = dynamic_cast<PairDeepmd*>(force->pair_match("deepmd", 1, settings.pair_index));
  if (!pair) {
    throw Failure(settings.pair_index ? "there is no pair_style deepmd of this pair_deepmd_index"
                                      : "one pair_style deepmd is needed; of several, "
                                        "pair_deepmd_index names one");
  }
  const auto known = deepmd_lmp::split(deepmd_lmp::take(DP_DeepTensorGetTypeMap(dipoles.get())));
  const int* chosen = DP_DeepTensorGetSelTypes(dipoles.get());
  selected.assign(known.size(), false);
  for (int k = 0; k < DP_DeepTensorGetNumbSelTypes(dipoles.get()); ++k) selected[chosen[k]] = true;
  const auto elements = pair->elements();
  types.assign(elements.size(), -1);
  for (size_t t = 1; t < elements.size(); ++t) {
    if (elements[t].empty()) continue;
    const auto found = std::find(known.begin(), known.end(), elements[t]);
    if (found == known.end()) {
      throw Failure(settings.model + " does not know " + elements[t] + "; it has " +
                    deepmd_lmp::join(known));
    }
    types[t] = static_cast<int>(found - known.begin());
  }
  for (const auto& [host, centroid] : settings.associated) {
    if (types[host] < 0 || !selected[types[host]]) {
      throw Failure("type_associate: type " + std::to_string(host) + " (" +
                    (elements[host].empty() ? "no element" : elements[host]) +
                    " by pair_coeff) has no dipole in the model");
    }
    if (types[centroid] >= 0) {
      throw Failure("pair_coeff takes type " + std::to_string(centroid) + ", of centroids, for " +
                    elements[centroid] + "; write NULL for it");
    }
  }
}

/** Atoms with a dipole in the model must have a centroid. */
void FixDplr::check_atoms() const {
  for (int i = 0; i < atom->nlocal; ++i) {
    const int t = atom->type[i];
    if (types[t] < 0 || !selected[types[t]]) continue;
    const auto named = [&](const auto& pair) { return pair.first == t; };
    if (std::any_of(settings.associated.begin(), settings.associated.end(), named)) continue;
    throw Failure("atoms of type " + std::to_string(t) +
                  " have a dipole in the model; name the type of their centroids in "
                  "type_associate");
  }
}

/** Charges belong to the model: atoms and centroids must have them. */
void FixDplr::check_charges() const {
  const double* of_atoms = DP_DipoleChargeModifierGetAtomCharges(modifier.get());
  const double* of_centroids = DP_DipoleChargeModifierGetCentroidCharges(modifier.get());
  if (!of_atoms || !of_centroids) return;  // a file of the dipole model alone
  const int* chosen = DP_DeepTensorGetSelTypes(dipoles.get());
  const int count = DP_DeepTensorGetNumbSelTypes(dipoles.get());
  std::vector<double> wanted(types.size(), std::nan(""));
  for (size_t t = 1; t < types.size(); ++t) {
    if (types[t] >= 0) wanted[t] = of_atoms[types[t]];
  }
  for (const auto& [host, centroid] : settings.associated) {
    wanted[centroid] = of_centroids[std::find(chosen, chosen + count, types[host]) - chosen];
  }
  for (int i = 0; i < atom->nlocal; ++i) {
    const double charge = atom->q[i] / force->qelectron, of_model = wanted[atom->type[i]];
    if (!(std::abs(charge - of_model) > kSame * std::max(1.0, std::abs(of_model)))) continue;
    throw Failure("atom " + std::to_string(atom->tag[i]) + " of type " +
                  std::to_string(atom->type[i]) + " has the charge " + brief(charge) + " e, but " +
                  brief(of_model) + " in " + settings.model + "; use set type " +
                  std::to_string(atom->type[i]) + " charge " + brief(of_model * force->qelectron));
  }
}

/** So does the width of the Gaussians. */
void FixDplr::check_width() const {
  const double beta = DP_DipoleChargeModifierGetEwaldBeta(modifier.get());
  const double given = kspace ? kspace->splitting() * units->length : 0.0;
  if (beta == 0.0 || given == 0.0 || std::abs(given - beta) <= kSame * beta) return;
  throw Failure("kspace_modify gewald is " + brief(kspace->splitting()) + ", but ewald_beta of " +
                settings.model + " is " + brief(beta) + " per Angstrom; use kspace_modify gewald " +
                brief(beta / units->length));
}

void FixDplr::check_kspace() {
  kspace = dynamic_cast<PPPMDplr*>(force->kspace_match("pppm/dplr", 1));
  if (kspace) return;
  if (force->kspace) {
    error->all(FLERR,
               std::string("fix dplr: its kspace_style is pppm/dplr, not ") + force->kspace_style);
  }
  if (comm->me == 0) {
    error->warning(FLERR, std::string("fix dplr: without kspace_style pppm/dplr the electrostatic "
                                      "energy of the model is left out"));
  }
}

void FixDplr::check_variables() const {
  for (const std::string& word : settings.field) {
    if (word.compare(0, 2, "v_") != 0) continue;
    const int index = input->variable->find(word.c_str() + 2);
    if (index < 0 || !input->variable->equalstyle(index)) {
      throw Failure("efield: there is no equal-style variable " + word.substr(2));
    }
  }
}

void FixDplr::pre_exchange() { centroids->join(); }

void FixDplr::post_neighbor() {
  guard(lmp, "fix dplr: ", [&] { centroids->find(); });
}

void FixDplr::pre_force(int) {
  frame.fill(list, types, units->length, neighbor->ago == 0);
  guard(lmp, "fix dplr: ", [&] { move_centroids(); });
}

/** Put centroids at their atoms plus the dipoles. */
void FixDplr::move_centroids() {
  double* found = nullptr;
  int size = 0;
  if (frame.nlocal() > 0) {
    DP_DeepTensorComputeTensorNList(dipoles.get(), frame.nall(), frame.coord(), frame.atype(),
                                    frame.cell(), frame.nghost(), frame.list(), &found, &size);
  }
  const std::unique_ptr<double, void (*)(void*)> values(found, &std::free);
  const std::string message = deepmd_lmp::take(DP_DeepTensorCheckOK(dipoles.get()));
  if (!message.empty()) throw Failure(message);
  std::vector<int> row(frame.nlocal(), -1);  // only atoms with a dipole have a value
  int rows = 0;
  for (int i = 0; i < frame.nlocal(); ++i) {
    const int type = frame.atype()[i];
    if (type >= 0 && selected[type]) row[i] = rows++;
  }
  if (size != 3 * rows) throw Failure("the dipole model gave " + std::to_string(size) + " numbers");
  const auto& pairs = centroids->pairs();
  dipole.resize(3 * pairs.size());
  for (size_t k = 0; k < pairs.size(); ++k) {
    const auto [host, centroid] = pairs[k];
    for (int d = 0; d < 3; ++d) {
      dipole[3 * k + d] = found[3 * row[host] + d];
      atom->x[centroid][d] = atom->x[host][d] + units->length * dipole[3 * k + d];
    }
    atom->image[centroid] = atom->image[host];
  }
}

void FixDplr::post_force(int vflag) {
  v_init(vflag);
  const int n = frame.nlocal();
  electric.assign(3 * static_cast<size_t>(n), 0.0);
  if (const double* of_charges = kspace ? kspace->forces() : nullptr) {
    for (size_t k = 0; k < electric.size(); ++k) electric[k] = of_charges[k] / units->force();
  }
  in_field.fill(0.0);
  field_virial.fill(0.0);
  is_total = false;
  if (settings.has_field) {
    read_field();
    add_field();
  }
  std::vector<double> chain(9, 0.0);
  guard(lmp, "fix dplr: ", [&] { add_forces(chain); });
  if (vflag_global) add_virial(chain);
}

void FixDplr::read_field() {
  bool varies = false;
  for (const std::string& word : settings.field) varies = varies || word.compare(0, 2, "v_") == 0;
  if (varies) modify->clearstep_compute();
  for (int d = 0; d < 3; ++d) {
    const std::string& word = settings.field[d];
    field[d] = word.compare(0, 2, "v_") == 0
                   ? input->variable->compute_equal(input->variable->find(word.c_str() + 2))
                   : std::stod(word);
  }
  if (varies) modify->addstep_compute(update->ntimestep + 1);
}

/** Force q E on every site, and energy -q E·r of unwrapped positions. */
void FixDplr::add_field() {
  // Of V/Å times e in eV/Å: force->qe2f has the unit of the run, and is 1 in metal.
  const double unit = force->qe2f / units->force();
  for (int i = 0; i < frame.nlocal(); ++i) {
    double unwrapped[3];
    domain->unmap(atom->x[i], atom->image[i], unwrapped);
    const double charge = atom->q[i] / force->qelectron;
    for (int a = 0; a < 3; ++a) {
      const double push = unit * charge * field[a];
      electric[3 * static_cast<size_t>(i) + a] += push;
      in_field[0] -= push * unwrapped[a] / units->length;
      in_field[1 + static_cast<size_t>(a)] += push;
      for (int b = 0; b < 3; ++b) field_virial[3 * a + b] += push * unwrapped[b] / units->length;
    }
  }
}

/** Add to the atoms the forces on them, on their centroids, and through the dipoles. */
void FixDplr::add_forces(std::vector<double>& virial_of) {
  const auto& pairs = centroids->pairs();
  std::vector<int> flat;
  for (const auto& [host, centroid] : pairs) {
    flat.push_back(host);
    flat.push_back(centroid);
  }
  corrected.assign(3 * static_cast<size_t>(frame.nall()), 0.0);
  if (frame.nlocal() > 0) {
    DP_DipoleChargeModifierComputeNList(modifier.get(), frame.nall(), frame.coord(), frame.atype(),
                                        frame.cell(), flat.data(), static_cast<int>(pairs.size()),
                                        electric.data(), frame.nghost(), frame.list(),
                                        corrected.data(), virial_of.data());
  }
  // All ranks take part, even if one of them has failed.
  comm->reverse_comm(this);
  const std::string message = deepmd_lmp::take(DP_DipoleChargeModifierCheckOK(modifier.get()));
  if (!message.empty()) throw Failure(message);
  for (int i = 0; i < frame.nlocal(); ++i) {
    for (int d = 0; d < 3; ++d) {
      atom->f[i][d] += units->force() * corrected[3 * static_cast<size_t>(i) + d];
    }
  }
}

/**
 * The virial of the kspace style strains centroids as any charges; but they stay at a dipole from
 * their atoms, which changes by what `chain` has.
 */
void FixDplr::add_virial(const std::vector<double>& chain) {
  const auto& pairs = centroids->pairs();
  double w[9];
  for (int c = 0; c < 9; ++c) w[c] = chain[c] + field_virial[c];
  for (size_t k = 0; k < pairs.size(); ++k) {
    const double* push = electric.data() + 3 * static_cast<ptrdiff_t>(pairs[k].second);
    for (int a = 0; a < 3; ++a) {
      for (int b = 0; b < 3; ++b) w[3 * a + b] -= push[a] * dipole[3 * k + b];
    }
  }
  for (int c = 0; c < 6; ++c) virial[c] += units->energy * w[component[c]];
}

int FixDplr::pack_reverse_comm(int n, int first, double* buffer) {
  std::copy_n(corrected.data() + 3 * static_cast<ptrdiff_t>(first), 3 * n, buffer);
  return 3 * n;
}

void FixDplr::unpack_reverse_comm(int n, int* atoms, double* buffer) {
  for (int k = 0; k < n; ++k) {
    for (int d = 0; d < 3; ++d) corrected[3 * static_cast<size_t>(atoms[k]) + d] += *buffer++;
  }
}

/** Energy and force of the field, in the units of the run. */
const std::array<double, 4>& FixDplr::summed() {
  if (!is_total) {
    MPI_Allreduce(in_field.data(), total.data(), 4, MPI_DOUBLE, MPI_SUM, world);
    total[0] *= units->energy;
    for (int a = 1; a < 4; ++a) total[a] *= units->force();
    is_total = true;
  }
  return total;
}

double FixDplr::compute_scalar() { return summed()[0]; }

double FixDplr::compute_vector(int which) { return summed()[1 + static_cast<size_t>(which)]; }

double FixDplr::memory_usage() {
  return static_cast<double>((dipole.size() + electric.size() + corrected.size()) * sizeof(double));
}
