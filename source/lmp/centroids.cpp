// SPDX-License-Identifier: LGPL-3.0-or-later
#include "centroids.h"

#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <unordered_map>

#include "atom.h"
#include "comm.h"
#include "force.h"
#include "model.h"

namespace deepmd_lmp {

using LAMMPS_NS::imageint;
using LAMMPS_NS::tagint;

namespace {

/** Records of all ranks, in their order. */
template <typename T>
std::vector<T> gathered(MPI_Comm world, const std::vector<T>& mine) {
  int size = 1;
  MPI_Comm_size(world, &size);
  int bytes = static_cast<int>(mine.size() * sizeof(T));
  std::vector<int> counts(size), starts(size, 0);
  MPI_Allgather(&bytes, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
  for (int k = 1; k < size; ++k) starts[k] = starts[k - 1] + counts[k - 1];
  std::vector<T> all((starts[size - 1] + counts[size - 1]) / sizeof(T));
  // LAMMPS without MPI declares what is sent as if it changed.
  MPI_Allgatherv(const_cast<T*>(mine.data()), bytes, MPI_BYTE, all.data(), counts.data(),
                 starts.data(), MPI_BYTE, world);
  return all;
}

}  // namespace

/** Where an atom is, for the centroid of an ID. */
struct Centroids::Record {
  tagint centroid;
  imageint image;
  double x[3];
  double v[3];
};

Centroids::Centroids(LAMMPS_NS::LAMMPS* lmp, const std::vector<std::pair<int, int>>& associated,
                     const std::vector<int>& bond_types)
    : lmp_(lmp),
      centroid_type_(lmp->atom->ntypes + 1, 0),
      is_centroid_(lmp->atom->ntypes + 1, false),
      is_bond_(lmp->atom->nbondtypes + 1, false) {
  const int most = lmp->atom->ntypes;
  for (const auto& [host, centroid] : associated) {
    if (host > most || centroid > most) {
      throw Failure("type_associate: there are types up to " + std::to_string(most) + " only");
    }
    if (centroid_type_[host]) {
      throw Failure("type_associate: type " + std::to_string(host) + " has two centroids");
    }
    centroid_type_[host] = centroid;
    is_centroid_[centroid] = true;
  }
  for (int t = 1; t <= most; ++t) {
    if (centroid_type_[t] && is_centroid_[t]) {
      throw Failure("type_associate: type " + std::to_string(t) +
                    " is both that of an atom and of a centroid");
    }
  }
  for (const int type : bond_types) {
    if (type > lmp->atom->nbondtypes) {
      throw Failure("bond_type: there are bond types up to " +
                    std::to_string(lmp->atom->nbondtypes) + " only");
    }
    is_bond_[type] = true;
  }
}

int Centroids::local(tagint tag) const {
  const int i = lmp_->atom->map(tag);
  return i < lmp_->atom->nlocal ? i : -1;
}

std::vector<std::pair<tagint, tagint>> Centroids::bonds() const {
  const LAMMPS_NS::Atom* atom = lmp_->atom;
  std::vector<std::pair<tagint, tagint>> found;
  for (int i = 0; i < atom->nlocal; ++i) {
    const bool host = centroid_type_[atom->type[i]] != 0;
    // With newton off both ends have the bond: that of the atom counts.
    if (!host && !(is_centroid_[atom->type[i]] && lmp_->force->newton_bond)) continue;
    for (int m = 0; m < atom->num_bond[i]; ++m) {
      if (!is_bond_[std::abs(atom->bond_type[i][m])]) continue;
      const tagint self = atom->tag[i], other = atom->bond_atom[i][m];
      found.emplace_back(host ? self : other, host ? other : self);
    }
  }
  return found;
}

void Centroids::join() {
  LAMMPS_NS::Atom* atom = lmp_->atom;
  const auto known = bonds();
  int apart = 0;
  for (const auto& [host, centroid] : known) {
    const int i = local(host), j = local(centroid);
    if (i < 0 || j < 0) {
      apart = 1;
      continue;
    }
    std::copy_n(atom->x[i], 3, atom->x[j]);
    std::copy_n(atom->v[i], 3, atom->v[j]);
    atom->image[j] = atom->image[i];
  }
  int any = 0;
  MPI_Allreduce(&apart, &any, 1, MPI_INT, MPI_MAX, lmp_->world);
  if (any) join_all(known);
}

/** The same where pairs are on different ranks: after reading a file, or balancing. */
void Centroids::join_all(const std::vector<std::pair<tagint, tagint>>& known) {
  LAMMPS_NS::Atom* atom = lmp_->atom;
  std::unordered_map<tagint, int> index;
  for (int i = 0; i < atom->nlocal; ++i) index[atom->tag[i]] = i;
  std::vector<Record> mine;
  for (const auto& [host, centroid] : gathered(lmp_->world, known)) {
    const auto at = index.find(host);
    if (at == index.end()) continue;
    Record record{centroid, atom->image[at->second], {}, {}};
    std::copy_n(atom->x[at->second], 3, record.x);
    std::copy_n(atom->v[at->second], 3, record.v);
    mine.push_back(record);
  }
  for (const Record& record : gathered(lmp_->world, mine)) {
    const auto at = index.find(record.centroid);
    if (at == index.end()) continue;
    std::copy_n(record.x, 3, atom->x[at->second]);
    std::copy_n(record.v, 3, atom->v[at->second]);
    atom->image[at->second] = record.image;
  }
}

void Centroids::find() {
  const LAMMPS_NS::Atom* atom = lmp_->atom;
  pairs_.clear();
  std::vector<int> partners(atom->nlocal, 0);
  for (const auto& [host, centroid] : bonds()) {
    const int i = local(host), j = local(centroid);
    if (i < 0 || j < 0) {
      throw Failure("atom " + std::to_string(host) + " and its centroid " +
                    std::to_string(centroid) + " are on different ranks");
    }
    if (centroid_type_[atom->type[i]] != atom->type[j]) {
      throw Failure("atom " + std::to_string(host) + " of type " + std::to_string(atom->type[i]) +
                    " is bonded to atom " + std::to_string(centroid) + " of type " +
                    std::to_string(atom->type[j]) + ", which type_associate does not say");
    }
    ++partners[i];
    ++partners[j];
    pairs_.emplace_back(i, j);
  }
  for (int i = 0; i < atom->nlocal; ++i) {
    const int type = atom->type[i];
    const int wanted = centroid_type_[type] || is_centroid_[type] ? 1 : 0;
    if (partners[i] == wanted) continue;
    throw Failure("atom " + std::to_string(atom->tag[i]) + " of type " + std::to_string(type) +
                  " has " + std::to_string(partners[i]) +
                  " bonds of bond_type between an atom and its centroid, not one");
  }
}

}  // namespace deepmd_lmp
