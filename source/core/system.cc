// SPDX-License-Identifier: LGPL-3.0-or-later
#include "system.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.h"
#include "list.h"

namespace deepmd::core {

namespace {

void check_list(const Frame& frame, const Info& info) {
  if (!frame.list) {
    if (frame.nghost > 0) fail("frame", "there are ghosts but no neighbor list", "give both");
    return;
  }
  if (!info.message_passing) return;
  if (frame.list->nprocs > 1) {
    fail(
        info.path,
        "this model passes messages between atoms and is evaluated by one rank only; there are " +
            std::to_string(frame.list->nprocs),
        "run one rank with several threads: OMP_NUM_THREADS=" + std::to_string(frame.list->nprocs));
  }
  if (frame.nghost > 0 && !frame.list->mapping) {
    fail(info.path,
         "this model passes messages between atoms and must know of which atoms ghosts are images",
         "give the mapping of the neighbor list; in LAMMPS: atom_modify map yes");
  }
}

/** The longest distance of a spin's end from its atom [Å]. */
double farthest_spin(const Frame& frame, const Info& info) {
  if (frame.spin && !info.has_spin) {
    fail(info.path, "there are spins, but the model knows none",
         "give none (DeepPot; in LAMMPS: pair_style deepmd)");
  }
  if (!info.has_spin || frame.nall == 0) return 0.0;
  if (!frame.spin) {
    fail(info.path, "the model needs the spins of the atoms",
         "give three numbers per atom (DeepSpin; in LAMMPS: pair_style deepspin)");
  }
  double farthest = 0.0;
  for (int64_t a = 0; a < frame.nall; ++a) {
    const double* s = frame.spin + 3 * a;
    const int type = frame.atype[a];
    if (type < 0 || type >= static_cast<int>(info.spin_scale.size())) continue;
    const double length = std::hypot(s[0], s[1], s[2]);
    if (!std::isfinite(length)) {
      fail("frame", "the spin of atom " + std::to_string(a) + " is not finite");
    }
    farthest = std::max(farthest, length * std::abs(info.spin_scale[type]));
  }
  return farthest;
}

/** Places of local atoms are in `owner`; add those of ghosts. */
void add_ghosts(const Frame& frame, System& system) {
  const NeighborList& list = *frame.list;
  system.owners_known = list.mapping != nullptr;
  if (!list.mapping) return;
  for (int64_t g = system.nloc; g < frame.nall; ++g) {
    const int64_t local = list.mapping[g];
    if (local >= system.nloc) {
      fail("neighbor list", "mapping: ghost " + std::to_string(g) + " is an image of atom " +
                                std::to_string(local) + ", which is no local atom");
    }
    if (local >= 0) system.owner[g] = system.owner[local];
  }
}

}  // namespace

void fail_without_owner(int64_t neighbor) {
  fail("neighbor list",
       "mapping: the neighbor " + std::to_string(neighbor) + " is an image of no local atom",
       "this model passes messages and needs all atoms on one rank");
}

System make_system(const Frame& frame, const Info& info) {
  System system;
  system.frame = &frame;
  system.nloc = frame.nall - frame.nghost;
  if (frame.nall < 0 || frame.nghost < 0 || system.nloc < 0) {
    fail("frame",
         std::to_string(frame.nghost) + " of " + std::to_string(frame.nall) + " atoms are ghosts");
  }
  check_list(frame, info);
  const int ntypes = static_cast<int>(info.type_map.size());
  system.owner.assign(static_cast<size_t>(frame.nall), -1);
  for (int64_t a = 0; a < system.nloc; ++a) {
    if (frame.atype[a] < 0 || frame.atype[a] >= ntypes) continue;
    system.owner[a] = system.n();
    system.centers.push_back(a);
  }
  system.inputs = given_inputs(info, frame, system.n());
  system.reach = info.reach(farthest_spin(frame, info));
  if (frame.list) {
    check_coordinates(frame.coord, 0, frame.nall);
    add_ghosts(frame, system);
    system.pairs = std::make_unique<GivenPairs>(frame, system.centers, ntypes, system.reach);
  } else {
    system.pairs =
        std::make_unique<CellList>(frame.coord, system.centers, frame.cell, system.reach);
  }
  return system;
}

}  // namespace deepmd::core
