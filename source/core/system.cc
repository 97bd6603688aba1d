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
  if (!info.message_passing || uses_halo(frame, info)) return;
  if (uses_exchange(frame, info)) {
    if (!frame.list->unfolded) return;
    fail(info.path, "virials of atoms for the heat flux need the neighbors of ghosts",
         "give the halo of the neighbor list in place of an exchange");
  }
  if (frame.list->nprocs > 1) {
    const int ranks = frame.list->nprocs;
    fail(info.path,
         "this model passes messages between atoms; on " + std::to_string(ranks) +
             " ranks it must know that ghosts reach " + std::to_string(info.halo_of_spins(0.0)) +
             " Angstrom beyond the atoms of a rank",
         "give the halo of the neighbor list, or run one rank with several threads: "
         "OMP_NUM_THREADS=" +
             std::to_string(ranks));
  }
  if (frame.nghost > 0 && !frame.list->mapping) {
    fail(info.path,
         "this model passes messages between atoms and must know of which atoms ghosts are images",
         "give the mapping of the neighbor list, or its halo");
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

/** Whether an atom has a type that the model knows. */
bool is_real(const Frame& frame, int64_t atom, int ntypes) {
  return frame.atype[atom] >= 0 && frame.atype[atom] < ntypes;
}

/**
 * Add the ghosts whose neighbors matter to the centers, and find the pairs of all of them.
 *
 * The neighbors are found here, because lists have none of ghosts.
 */
void add_halo(const Frame& frame, const Info& info, System& system) {
  const int ntypes = static_cast<int>(info.type_map.size());
  system.has_halo = true;
  if (!std::isfinite(info.message_range)) {
    fail(info.path, "the model does not tell how far its messages between atoms reach",
         "run it on one rank");
  }
  // Spins make places as uncertain here as they make the cutoff longer.
  const double range = info.message_range + (system.reach - info.rcut);
  if (frame.list->halo < (range + info.rcut) * (1.0 - 1e-9)) {
    fail(info.path,
         "messages between atoms reach " + std::to_string(range + info.rcut) +
             " Angstrom, but ghosts are known up to " + std::to_string(frame.list->halo),
         "let the program find ghosts farther away");
  }
  std::vector<int64_t> atoms = system.centers, ghosts;
  for (int64_t a = system.nloc; a < frame.nall; ++a) {
    if (is_real(frame, a, ntypes)) ghosts.push_back(a);
  }
  atoms.insert(atoms.end(), ghosts.begin(), ghosts.end());
  const int64_t n = system.n_local;
  const auto near_local = [&](const CellList& list, int64_t first, int64_t last, Pairs& pairs) {
    list.find(first, last, pairs);
    for (int64_t e = 0; e < pairs.size(); ++e) {
      if (pairs.j[e] < system.nloc && system.owner[pairs.i[e]] < 0) {
        system.owner[pairs.i[e]] = system.n();
        system.centers.push_back(pairs.i[e]);
      }
    }
  };
  if (n > 0 && range > 0.0) {
    const CellList list(frame.coord, atoms, nullptr, range);
    constexpr int64_t some = 256;  // a few megabytes of pairs at a time
    const auto all = static_cast<int64_t>(atoms.size());
    Pairs pairs;
    for (int64_t k = n; k < all; k += some) near_local(list, k, std::min(k + some, all), pairs);
  }
  // The centers come first.
  atoms = system.centers;
  for (const int64_t g : ghosts) {
    if (system.owner[g] < 0) atoms.push_back(g);
  }
  system.pairs = std::make_unique<CellList>(frame.coord, atoms, nullptr, system.reach);
}

/** Add the ghosts that are neighbors of local atoms, whose messages other ranks have. */
void add_neighbors(const Frame& frame, const Info& info, System& system) {
  system.exchanges = true;
  check_coordinates(frame.coord, 0, frame.nall);
  const auto ntypes = static_cast<int>(info.type_map.size());
  auto list = std::make_unique<GivenPairs>(frame, system.centers, ntypes, system.reach);
  std::vector<char> near(static_cast<size_t>(frame.nall), 0);
  constexpr int64_t some = 256;
  Pairs pairs;
  for (int64_t k = 0; k < system.n_local; k += some) {
    list->find(k, std::min(k + some, system.n_local), pairs);
    for (int64_t e = 0; e < pairs.size(); ++e) near[pairs.j[e]] = 1;
  }
  for (int64_t g = system.nloc; g < frame.nall; ++g) {
    if (!near[g]) continue;
    system.owner[g] = system.n();
    system.centers.push_back(g);
  }
  system.pairs = std::move(list);
}

/** Rows of the centers; those of ghosts, which other ranks have, are zero. */
void set_cotangent(const Info& info, const double* given, System& system) {
  const int64_t size = info.outputs.front().size;
  // One number more, so that there is memory without atoms.
  system.cotangent.assign(static_cast<size_t>(system.n() * size + 1), 0.0);
  for (int64_t k = 0; k < system.n_local; ++k) {
    std::copy_n(given + system.centers[k] * size, size, system.cotangent.begin() + k * size);
  }
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

bool uses_halo(const Frame& frame, const Info& info) {
  return info.message_passing && frame.list && frame.list->halo > 0.0 &&
         (frame.list->nprocs > 1 || !frame.list->mapping);
}

bool uses_exchange(const Frame& frame, const Info& info) {
  return info.exchanges && frame.list && frame.list->exchange && !uses_halo(frame, info);
}

System make_system(const Frame& frame, const Info& info, const double* cotangent) {
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
    if (!is_real(frame, a, ntypes)) continue;
    system.owner[a] = system.n();
    system.centers.push_back(a);
  }
  system.n_local = system.n();
  system.inputs = given_inputs(info, frame, system.n());
  system.reach = info.reach(farthest_spin(frame, info));
  if (uses_halo(frame, info)) {
    add_halo(frame, info, system);
  } else if (uses_exchange(frame, info)) {
    add_neighbors(frame, info, system);
  } else if (frame.list) {
    check_coordinates(frame.coord, 0, frame.nall);
    add_ghosts(frame, system);
    system.pairs = std::make_unique<GivenPairs>(frame, system.centers, ntypes, system.reach);
  } else {
    system.pairs =
        std::make_unique<CellList>(frame.coord, system.centers, frame.cell, system.reach);
  }
  if (cotangent) set_cotangent(info, cotangent, system);
  return system;
}

}  // namespace deepmd::core
