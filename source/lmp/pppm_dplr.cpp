// SPDX-License-Identifier: LGPL-3.0-or-later
#include "pppm_dplr.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "frame.h"
#include "model.h"
#include "update.h"

using namespace LAMMPS_NS;
using deepmd_lmp::Failure;

namespace {

const std::string style = "kspace_style pppm/dplr: ";

}  // namespace

PPPMDplr::PPPMDplr(LAMMPS* lmp) : KSpace(lmp) {
  // See PairDeepmd: another update of the same version could have other members.
  if (order != 5 || gridflag != 0 || gewaldflag != 0 || slabflag != 0 || compute_flag != 1) {
    error->all(FLERR, style +
                          "the plugin was built with the headers of another update of this LAMMPS; "
                          "build it for this one (cmake -DLAMMPS_INCLUDE_DIR=...)");
  }
  pppmflag = 1;
  triclinic_support = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

void PPPMDplr::settings(int narg, char** arg) {
  if (narg != 1) error->all(FLERR, style + "kspace_style pppm/dplr ACCURACY");
  accuracy_relative = std::fabs(utils::numeric(FLERR, arg[0], false, lmp));
  if (accuracy_relative == 0.0) error->all(FLERR, style + "the accuracy must be above zero");
}

void PPPMDplr::init() {
  try {
    check();
    const deepmd_lmp::Units units(lmp);
    length = units.length;
    energy_unit = units.energy / force->dielectric;
    two_charge();
    accuracy = accuracy_absolute >= 0.0 ? accuracy_absolute : accuracy_relative * two_charge_force;
    qsum_qsq();
    natoms_original = atom->natoms;
    make_mesh();
  } catch (const Failure& failure) {
    error->all(FLERR, style + failure.what());
  } catch (const std::range_error& wrong) {
    error->all(FLERR, style + wrong.what());
  }
}

void PPPMDplr::check() const {
  if (domain->dimension != 3 || domain->nonperiodic != 0) {
    throw Failure("the box must be periodic in three dimensions");
  }
  if (!atom->q_flag) throw Failure("the atoms have no charges; use atom_style full");
  if (slabflag || wireflag) throw Failure("kspace_modify slab and wire are not available");
  if (!gewaldflag) {
    throw Failure(
        "the width of the charges belongs to the model; give kspace_modify gewald with its "
        "ewald_beta");
  }
  if (!(g_ewald > 0.0)) throw Failure("kspace_modify gewald must be above zero");
}

/** Make the mesh: that of kspace_modify, or one for the accuracy. */
void PPPMDplr::make_mesh() {
  deepmd_lmp::MeshScheme scheme;
  scheme.order = order;
  scheme.splitting = g_ewald * length;
  scheme.from_waves = differentiation_flag == 0;
  const double charges = qsqsum / (force->qelectron * force->qelectron);
  const double unit = deepmd_lmp::coulomb * energy_unit / length * charges /
                      std::sqrt(static_cast<double>(std::max<bigint>(1, atom->natoms)));
  const auto box = cell();
  if (gridflag) {
    scheme.size = {nx_pppm, ny_pppm, nz_pppm};
  } else {
    scheme.size = deepmd_lmp::choose_mesh(scheme, box, unit > 0.0 ? accuracy / unit : 1.0);
    nx_pppm = scheme.size[0];
    ny_pppm = scheme.size[1];
    nz_pppm = scheme.size[2];
  }
  solver = std::make_unique<deepmd_lmp::ParticleMesh>(scheme);
  const double found = unit * scheme.force_error(box);
  if (comm->me != 0) return;
  utils::logmesg(lmp, style + fmt::format("mesh {} {} {}, order {}, gewald {:.8g}, estimated force "
                                          "error {:.3g} absolute, {:.3g} relative\n",
                                          nx_pppm, ny_pppm, nz_pppm, order, g_ewald, found,
                                          found / two_charge_force));
  if (found > accuracy) {
    error->warning(FLERR, style +
                              "the mesh is too coarse for the accuracy that was asked for; leave "
                              "kspace_modify mesh out, or raise its order");
  }
}

void PPPMDplr::setup() { computed = -1; }

deepmd_lmp::Cell PPPMDplr::cell() const {
  std::array<double, 9> rows = {domain->xprd, 0.0,        0.0,        domain->xy,  domain->yprd,
                                0.0,          domain->xz, domain->yz, domain->zprd};
  for (double& value : rows) value /= length;
  return deepmd_lmp::Cell(rows);
}

/** This rank's charges, from the corner of the box on: the mesh moves with it. */
void PPPMDplr::read_atoms() {
  const size_t n = atom->nlocal;
  coord.resize(3 * n);
  charge.resize(n);
  for (size_t i = 0; i < n; ++i) {
    for (int d = 0; d < 3; ++d) coord[3 * i + d] = (atom->x[i][d] - domain->boxlo[d]) / length;
    charge[i] = atom->q[i] / force->qelectron;
  }
}

void PPPMDplr::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  if (vflag_atom) {
    error->all(FLERR, style +
                          "virials of atoms are not available; use compute ... virial of all "
                          "but the kspace style (pair, bond, ke, fix)");
  }
  if (atom->natoms != natoms_original) {
    qsum_qsq();
    natoms_original = atom->natoms;
  }
  const int n = atom->nlocal;
  solver->set_cell(cell());
  read_atoms();
  solver->spread(n, coord.data(), charge.data());
  if (comm->nprocs > 1) {
    auto& mesh = solver->mesh();
    MPI_Allreduce(MPI_IN_PLACE, mesh.data(), static_cast<int>(mesh.size()), MPI_DOUBLE, MPI_SUM,
                  world);
  }
  solver->solve(eflag_atom != 0);
  force_of.resize(3 * static_cast<size_t>(n));
  solver->gather(force_of.data());
  for (double& value : force_of) value *= energy_unit / length;
  energy = energy_unit * solver->energy();
  const auto& w = solver->virial();
  const int place[6] = {0, 4, 8, 1, 2, 5};
  for (int c = 0; c < 6; ++c) virial[c] = energy_unit * w[place[c]];
  if (eflag_atom) {
    potential.resize(n);
    solver->potentials(potential.data());
    for (int i = 0; i < n; ++i) eatom[i] = 0.5 * energy_unit * charge[i] * potential[i];
  }
  computed = update->ntimestep;
}

const double* PPPMDplr::forces() const {
  const bool there = compute_flag && computed == update->ntimestep;
  return there && force_of.size() == 3 * static_cast<size_t>(atom->nlocal) ? force_of.data()
                                                                           : nullptr;
}

double PPPMDplr::memory_usage() {
  const size_t own = coord.size() + charge.size() + force_of.size() + potential.size();
  return (solver ? solver->bytes() : 0.0) + static_cast<double>(own * sizeof(double));
}
