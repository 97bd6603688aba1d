// SPDX-License-Identifier: LGPL-3.0-or-later
#include "pair_deepmd.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "fix_dplr.h"
#include "force.h"
#include "memory.h"
#include "modify.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

using namespace LAMMPS_NS;
using deepmd_lmp::Failure;
using deepmd_lmp::guard;
using deepmd_lmp::join;

namespace {

// Where LAMMPS's components xx, yy, zz, xy, xz, yz, yx, zx, zy (position, force) of a virial are in
// ours, which are row-major with the force first.
constexpr int component[9] = {0, 4, 8, 3, 6, 7, 1, 2, 5};

/**
 * Instances of LAMMPS that continue from a restart file.
 *
 * The pair style cannot remember it: when the input repeats pair_style hybrid after read_restart,
 * LAMMPS destroys the styles below it and makes new ones.
 */
std::set<const LAMMPS*>& continued() {
  static std::set<const LAMMPS*> instances;
  return instances;
}

/** Models that are compared must mean the same by types and parameters. Throws Failure. */
void check_alike(const deepmd_lmp::Model& first, const deepmd_lmp::Model& other) {
  if (first.type_map != other.type_map) {
    throw Failure(other.path + " has the types " + join(other.type_map) + ", but " + first.path +
                  " has " + join(first.type_map));
  }
  if (first.dim_fparam != other.dim_fparam || first.dim_aparam != other.dim_aparam ||
      first.dim_chg_spin != other.dim_chg_spin) {
    throw Failure(other.path + " takes other numbers of fparam, aparam or charge_spin than " +
                  first.path);
  }
}

}  // namespace

PairDeepmd::PairDeepmd(LAMMPS* lmp, bool with_spins)
    : Pair(lmp),
      frame(lmp, with_spins),
      exchange(lmp, this),
      spins(with_spins),
      style(with_spins ? "pair_style deepspin: " : "pair_style deepmd: ") {
  // Even updates of one version of LAMMPS (22 Jul 2025, 2 and 4) have moved members of Pair. Then
  // what its constructor has set is not where our header has it.
  if (single_enable != 1 || reinitflag != 1 || centroidstressflag != CENTROID_SAME ||
      compute_flag != 1 || copymode != 0 || tabinner != std::sqrt(2.0)) {
    error->all(FLERR, style +
                          "the plugin was built with the headers of another update of this LAMMPS; "
                          "build it for this one (cmake -DLAMMPS_INCLUDE_DIR=...)");
  }
  restartinfo = 1;
  one_coeff = 1;
  manybody_flag = 1;
  single_enable = 0;
  writedata = 0;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_AVAIL;
  nextra = 1;
  pvector = extra;
  comm_reverse = comm_reverse_off = 9;  // of virials
}

PairDeepmd::~PairDeepmd() {
  if (overflow > 0 && comm->me == 0) {
    utils::logmesg(lmp,
                   "WARNING: " + style + std::to_string(overflow) +
                       " times an atom had more neighbors within the cutoff than the model's sel "
                       "keeps (at most " +
                       std::to_string(most_neighbors) +
                       "); the farthest were left out. Train with a larger sel.\n");
  }
  // "clear" and the end of LAMMPS destroy Update before pair styles; pair_style does not.
  if (!update) continued().erase(lmp);
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
    memory->destroy(scale);
  }
}

void PairDeepmd::settings(int narg, char** arg) {
  guard(lmp, style, [&] { open(deepmd_lmp::parse_settings(narg, arg)); });
}

void PairDeepmd::open(const deepmd_lmp::Settings& settings) {
  units = std::make_unique<deepmd_lmp::Units>(lmp);
  deviation.reset();
  unfolded = settings.unfolded;
  messages = settings.messages;
  models = deepmd_lmp::open_models(world, settings, spins);
  for (const auto& model : models) {
    check_alike(*models[0], *model);
    if (comm->me == 0) {
      utils::logmesg(lmp, style + model->path + ": " + model->engine + ", cutoff " +
                              std::to_string(model->cutoff) + " Angstrom, types " +
                              join(model->type_map) + "\n");
    }
  }
  parameters = std::make_unique<deepmd_lmp::Parameters>(lmp, settings, *models[0]);
  uncertainty.reset();
  if (settings.uncertainty) {
    uncertainty = std::make_unique<deepmd_lmp::Uncertainty>(lmp, *models[0]);
  }
  nextra = uncertainty ? 1 + deepmd_lmp::Uncertainty::totals_size : 1;
  if (models.size() > 1 && settings.out_freq > 0) {
    deviation = std::make_unique<deepmd_lmp::ModelDeviation>(lmp, settings,
                                                             continued().count(lmp) > 0, spins);
  }
  set_cutoff();
}

/** How far the neighbors must be known that matter to any model. */
void PairDeepmd::set_cutoff() {
  double mine = longest_spin();
  MPI_Allreduce(&mine, &longest, 1, MPI_DOUBLE, MPI_MAX, world);
  cutoff = halo = 0.0;
  for (const auto& model : models) {
    cutoff = std::max(cutoff, model->reach(longest) * units->length);
    halo = std::max(halo, model->halo(longest) * units->length);
  }
  const bool layers = exchanges_messages();
  frame.exchange_messages(layers ? &exchange : nullptr);
  if (layers) exchange.reserve();
  // One rank knows whose images ghosts are, from the IDs of the atoms.
  if (layers || (comm->nprocs == 1 && atom->tag_enable && !unfolded)) halo = 0.0;
}

/** Whether ranks exchange messages in every layer, so that ghosts are needed to the cutoff only. */
bool PairDeepmd::exchanges_messages() const {
  using deepmd_lmp::Messages;
  const auto passing = [](const auto& model) { return model->message_passing; };
  if (std::none_of(models.begin(), models.end(), passing)) return false;
  for (const auto& model : models) {
    if (!model->message_passing || model->has_exchange) continue;
    if (messages != Messages::layer) return false;
    throw Failure(model->path +
                  ": ranks cannot exchange messages in the layers of this model, or not with this "
                  "engine (" +
                  model->engine + "); use messages halo");
  }
  if (messages != Messages::automatic) return messages == Messages::layer;
  return !unfolded && (comm->nprocs > 1 || !atom->tag_enable);
}

/**
 * Let LAMMPS keep the ghosts that messages come from.
 *
 * The neighbors of these ghosts are found outside of LAMMPS: what it leaves out of its lists, and
 * cutoffs of ghosts per type, would be missing there.
 */
void PairDeepmd::extend_ghosts() {
  // Regions of ghosts, which are parameters of atoms, are those of their atoms, too.
  const bool passing = std::any_of(models.begin(), models.end(), [](const auto& model) {
    return model->message_passing || model->dim_aparam > 0;
  });
  frame.expect_messages(passing, halo / units->length, unfolded);
  if (frame.exchange() && comm->me == 0) {
    utils::logmesg(lmp, style + "ranks exchange messages between atoms in every layer\n");
  }
  if (halo == 0.0) return;
  if (std::isinf(halo)) {
    throw Failure(models[0]->path +
                  ": a model does not tell how far its messages between atoms reach; run one rank, "
                  "with atom IDs");
  }
  if (comm->mode != Comm::SINGLE) {
    throw Failure(models[0]->path +
                  ": this model passes messages between atoms, and needs the same ghosts of all "
                  "types; use comm_modify mode single");
  }
  const double needed = halo + neighbor->skin;
  if (comm->cutghostuser >= needed) return;
  comm->cutghostuser = needed;
  if (comm->me != 0) return;
  utils::logmesg(lmp, style +
                          "messages between atoms reach beyond the cutoff: ghosts are kept up "
                          "to " +
                          std::to_string(needed) + " and evaluated up to " +
                          std::to_string(halo - cutoff) + " from a rank's atoms\n");
}

void PairDeepmd::allocate() {
  const int n = atom->ntypes + 1;
  allocated = 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  memory->create(scale, n, n, "pair:scale");
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      setflag[i][j] = 1;
      cutsq[i][j] = 0.0;
      scale[i][j] = 1.0;
    }
  }
}

void PairDeepmd::coeff(int narg, char** arg) {
  guard(lmp, style, [&] {
    if (models.empty()) throw Failure("no model is open; give pair_style with a model file before");
    if (!allocated) allocate();
    // LAMMPS saw to it that "* *" comes first: one_coeff
    types = deepmd_lmp::TypeMap({arg + 2, arg + narg}, atom->ntypes, models[0]->type_map,
                                models[0]->path);
    if (!types.note.empty() && comm->me == 0) error->warning(FLERR, style + types.note);
  });
}

std::vector<std::string> PairDeepmd::elements() const {
  std::vector<std::string> names(atom->ntypes + 1);
  for (size_t t = 1; t < types.model_type.size(); ++t) {
    if (types.model_type[t] >= 0) names[t] = models[0]->type_map[types.model_type[t]];
  }
  return names;
}

void PairDeepmd::init_style() {
  guard(lmp, style, [&] {
    if (models.empty()) {
      throw Failure(
          "restart files do not hold models; give pair_style with its files and pair_coeff again");
    }
    if (types.model_type.empty()) {
      throw Failure("give pair_coeff * * with a name for each type");
    }
    check_atoms();
    check_unnamed();
    check_special_bonds();
    parameters->init();
    set_cutoff();
    extend_ghosts();
  });
  neighbor->add_request(this, NeighConst::REQ_FULL);
  skip_checked = false;  // LAMMPS completes the list after this
}

void PairDeepmd::check_atoms() {
  if (atom->sp_flag) throw Failure("the atoms have spins; use pair_style deepspin");
}

/** Atoms without a name are for another style of pair_style hybrid; alone, nothing would hold them.
 */
void PairDeepmd::check_unnamed() const {
  std::vector<int> mine(atom->ntypes + 1, 0), all(atom->ntypes + 1, 0);
  for (int i = 0; i < atom->nlocal; ++i) mine[atom->type[i]] = 1;
  MPI_Allreduce(mine.data(), all.data(), atom->ntypes + 1, MPI_INT, MPI_MAX, world);
  if (force->pair != this) return;
  const auto dplr = modify->get_fix_by_style("^dplr$");
  const auto places_centroids = [](int t) {
    return [t](const Fix* fix) { return dynamic_cast<const FixDplr*>(fix)->is_centroid(t); };
  };
  for (const int t : types.unnamed) {
    if (!all[t]) continue;
    if (std::any_of(dplr.begin(), dplr.end(), places_centroids(t))) continue;
    throw Failure("pair_coeff names no element for type " + std::to_string(t) +
                  ", which has atoms; name it, or write NULL if no force shall act on them");
  }
}

void PairDeepmd::check_special_bonds() const {
  if (atom->molecular == Atom::ATOMIC || atom->nbonds == 0 || force->kspace) return;
  for (int k = 1; k <= 3; ++k) {
    if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0) {
      throw Failure(
          "bonded atoms would be missing among the neighbors; use special_bonds lj/coul 1 1 1, "
          "or 1e-50 in place of 0 where another style wants them excluded");
    }
  }
}

void PairDeepmd::read_restart_settings(FILE*) { continued().insert(lmp); }

void PairDeepmd::read_restart(FILE*) {
  continued().insert(lmp);
  if (!allocated) allocate();  // so that init_style is called, and says what is missing
}

/** Under pair_style hybrid single pairs of types may belong to another style. */
void PairDeepmd::check_skipped() {
  if (skip_checked) return;
  skip_checked = true;
  if (halo > 0.0 && neighbor->exclude) {
    error->all(FLERR, style + models[0]->path +
                          ": this model passes messages between atoms, and several ranks cannot "
                          "leave out what neigh_modify exclude says; run one rank with several "
                          "threads (OMP_NUM_THREADS), or exclude nothing");
  }
  if (!list->ijskip || comm->me != 0) return;
  for (int i = 1; i <= atom->ntypes; ++i) {
    for (int j = i; j <= atom->ntypes; ++j) {
      if (types.model_type[i] < 0 || types.model_type[j] < 0) continue;
      if (!list->ijskip[i][j] && !list->ijskip[j][i]) continue;
      error->warning(FLERR, style + "pair_style hybrid gives the types " + std::to_string(i) + " " +
                                std::to_string(j) +
                                " to another style, so that the model does not see them as "
                                "neighbors of each other; use hybrid/overlay, or NULL");
      return;
    }
  }
}

double PairDeepmd::init_one(int i, int j) {
  scale[j][i] = scale[i][j];
  return cutoff;
}

void PairDeepmd::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  if (vflag_atom) {
    error->all(FLERR, style +
                          "a many-body virial of an atom has nine components; use compute "
                          "centroid/stress/atom in place of stress/atom");
  }
  check_skipped();
  const double factor = common_scale();
  if (cvflag_atom) note_virial();
  const bool rebuilt = neighbor->ago == 0;
  frame.fill(list, types.model_type, units->length, rebuilt);
  deepmd_lmp::Inputs inputs;
  guard(lmp, style, [&] {
    check_spins();
    inputs = parameters->values();
    const double start = platform::walltime();
    if (uncertainty) {
      models[0]->evaluate_deviations(frame, inputs, eflag_atom, cvflag_atom, results);
    } else {
      models[0]->evaluate(frame, inputs, neighbor->ago, eflag_atom, cvflag_atom, results);
    }
    extra[0] += platform::walltime() - start;
  });
  if (uncertainty) {
    uncertainty->take(frame, results, *units, factor);
    if (eflag_global) uncertainty->sum_up(frame, results, *units, factor, extra + 1);
  }
  add(results, factor);
  if (deviation && deviation->due()) compare(results, inputs);
}

/** Spins that have grown could have neighbors that are not known. */
void PairDeepmd::check_spins() {
  if (longest_spin() <= longest * (1.0 + 1e-6)) return;
  throw Failure(
      "a spin has become longer than all were before the run; end the run, and start "
      "another one");
}

int PairDeepmd::count_added() const { return force->newton ? frame.nall() : frame.nlocal(); }

/**
 * The factor of energies, forces and virials that fix adapt and its kin set.
 *
 * They have one number per pair of types, i <= j; the energy of a many-body potential is no sum
 * over pairs, and has but one.
 */
double PairDeepmd::common_scale() const {
  const double* first = nullptr;
  for (int i = 1; i <= atom->ntypes; ++i) {
    for (int j = i; j <= atom->ntypes; ++j) {
      if (types.model_type[i] < 0 || types.model_type[j] < 0) continue;
      if (!first) first = &scale[i][j];
      if (scale[i][j] == *first) continue;
      error->all(FLERR, style +
                            "scale differs between pairs of types, but the energy of this "
                            "many-body potential has one factor; let fix adapt set all pairs "
                            "of its types: scale * *");
    }
  }
  return first ? *first : 1.0;
}

/** Say once that parts of the virial could be assigned to atoms otherwise. */
void PairDeepmd::note_virial() {
  if (virial_noted || unfolded || !models[0]->message_passing) return;
  virial_noted = true;
  if (comm->me != 0) return;
  utils::logmesg(lmp, style +
                          "the virial of an atom is not unique for a model that passes "
                          "messages between atoms: here each edge gives its part to its "
                          "neighbor; the sum over atoms does not depend on that. For the heat "
                          "flux, give atom_virial unfolded\n");
}

void PairDeepmd::add(deepmd_lmp::Results& results, double factor) {
  // Without Newton's third law nobody but us adds what belongs to the owners of ghosts.
  if (!force->newton) {
    fold(results.force, 3);
    if (cvflag_atom) fold(results.atom_virial, 9);
  }
  const int count = count_added();
  if (count > 0) {
    double* f = atom->f[0];
    const double unit = factor * units->force();
    for (int k = 0; k < 3 * count; ++k) f[k] += unit * results.force[k];
  }
  const double unit = factor * units->energy;
  if (eflag_global) eng_vdwl += unit * results.energy;
  if (vflag_global) {
    for (int c = 0; c < 6; ++c) virial[c] += unit * results.virial[component[c]];
  }
  if (eflag_atom) {
    for (int i = 0; i < frame.nlocal(); ++i) eatom[i] += unit * results.atom_energy[i];
  }
  if (cvflag_atom) {
    for (int i = 0; i < count; ++i) {
      for (int c = 0; c < 9; ++c) cvatom[i][c] += unit * results.atom_virial[9 * i + component[c]];
    }
  }
}

/** Evaluate the other models, and write how they differ. */
void PairDeepmd::compare(const deepmd_lmp::Results& first, const deepmd_lmp::Inputs& inputs) {
  std::vector<std::vector<double>> force_of = {first.force};
  std::vector<std::vector<double>> force_mag_of = {first.force_mag};
  std::vector<std::vector<double>> virial_of = {first.virial};
  if (force->newton) {
    fold(force_of[0], 3);
    if (spins) fold(force_mag_of[0], 3);
  }
  deepmd_lmp::Results other;
  for (size_t k = 1; k < models.size(); ++k) {
    // Neighbors may have been found anew since this model was called last.
    guard(lmp, style, [&] { models[k]->evaluate(frame, inputs, 0, false, false, other); });
    fold(other.force, 3);
    if (spins) fold(other.force_mag, 3);
    force_of.push_back(other.force);
    force_mag_of.push_back(other.force_mag);
    virial_of.push_back(other.virial);
  }
  guard(lmp, style, [&] { deviation->write(force_of, force_mag_of, virial_of, frame.atype()); });
}

void PairDeepmd::finish() {
  long long mine[2] = {0, 0}, all[2] = {0, 0};
  if (!models.empty()) {
    mine[0] = models[0]->overflow();
    mine[1] = models[0]->most_neighbors();
  }
  MPI_Reduce(&mine[0], &all[0], 1, MPI_LONG_LONG, MPI_SUM, 0, world);
  MPI_Reduce(&mine[1], &all[1], 1, MPI_LONG_LONG, MPI_MAX, 0, world);
  overflow = all[0];
  most_neighbors = all[1];
  if (frame.exchange()) report_exchanges();
}

/** Say how much ranks have exchanged since the start, and what part of the time that took. */
void PairDeepmd::report_exchanges() const {
  const deepmd_lmp::ExchangeRecord& record = exchange.record();
  double mine[3] = {static_cast<double>(record.bytes), record.seconds, extra[0]};
  double all[3] = {};
  MPI_Reduce(mine, all, 3, MPI_DOUBLE, MPI_SUM, 0, world);
  if (comm->me != 0 || record.exchanges == 0) return;
  utils::logmesg(lmp,
                 style + fmt::format("{} exchanges of messages, {:.6g} bytes of ghosts in all, "
                                     "took {:.1f} % of the time of the model\n",
                                     record.exchanges, all[0], 100.0 * all[1] / all[2]));
}

void* PairDeepmd::extract(const char* name, int& dim) {
  if (std::strcmp(name, "cut_coul") == 0) {
    dim = 0;
    return &cutoff;
  }
  if (std::strcmp(name, "scale") == 0) {
    dim = 2;
    return scale;
  }
  return nullptr;
}

void* PairDeepmd::extract_peratom(const char* name, int& columns) {
  columns = 0;
  return uncertainty ? uncertainty->of_atoms(name) : nullptr;
}

int PairDeepmd::dim_fparam() const { return models.empty() ? 0 : models[0]->dim_fparam; }

double PairDeepmd::energy_at(double fparam) {
  double energy = 0.0;
  frame.fill(list, types.model_type, units->length, false);
  guard(lmp, style, [&] {
    deepmd_lmp::Inputs inputs = parameters->values();
    inputs.fparam = &fparam;
    energy = models[0]->energy(frame, inputs);
  });
  return energy * common_scale() * units->energy;
}
