// SPDX-License-Identifier: LGPL-3.0-or-later
#include "frame.h"

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "force.h"
#include "message_exchange.h"
#include "model.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

namespace deepmd_lmp {

Units::Units(LAMMPS_NS::LAMMPS* lmp) {
  if (std::strcmp(lmp->update->unit_style, "lj") == 0) {
    throw Failure("units lj have no Angstrom and no eV; use units metal or real");
  }
  length = lmp->force->angstrom;
  energy = lmp->force->boltz / 8.617343e-5;
}

void keep_ghosts(LAMMPS_NS::LAMMPS* lmp, DP_DeepTensor* model, Frame& frame) {
  const double halo = DP_DeepTensorGetHalo(model);
  // One rank knows whose images ghosts are, from the IDs of the atoms.
  const bool alone = lmp->comm->nprocs == 1 && lmp->atom->tag_enable;
  frame.expect_messages(halo > 0.0, alone ? 0.0 : halo);
  if (halo == 0.0 || alone) return;
  if (std::isinf(halo)) {
    throw Failure("the model does not tell how far its messages between atoms reach; run one rank");
  }
  if (lmp->comm->mode != LAMMPS_NS::Comm::SINGLE) {
    throw Failure("the model passes messages between atoms; use comm_modify mode single");
  }
  if (lmp->neighbor->exclude) {
    throw Failure(
        "the model passes messages between atoms, and several ranks cannot leave out "
        "what neigh_modify exclude says; run one rank");
  }
  const double needed = halo * Units(lmp).length + lmp->neighbor->skin;
  lmp->comm->cutghostuser = std::max(lmp->comm->cutghostuser, needed);
}

void Frame::fill(LAMMPS_NS::NeighList* neighbors, const std::vector<int>& types, double length,
                 bool rebuilt) {
  const LAMMPS_NS::Atom* atom = lmp_->atom;
  nghost_ = atom->nghost;
  nall_ = atom->nlocal + nghost_;
  const double* x = nall_ > 0 ? atom->x[0] : nullptr;
  coord_ = x;
  if (length != 1.0 && x) {
    scaled_.resize(3 * static_cast<size_t>(nall_));
    for (size_t k = 0; k < scaled_.size(); ++k) scaled_[k] = x[k] / length;
    coord_ = scaled_.data();
  }
  spin_.resize(spins_ ? 3 * static_cast<size_t>(nall_) : 0);
  for (size_t k = 0; k < spin_.size(); ++k) {
    const double* s = atom->sp[k / 3];  // direction, then length
    spin_[k] = s[k % 3] * s[3];
  }
  atype_.resize(nall_);
  for (int i = 0; i < nall_; ++i) atype_[i] = types[atom->type[i]];
  const LAMMPS_NS::Domain* box = lmp_->domain;
  const double rows[9] = {box->xprd, 0.0,     0.0,     box->xy,  box->yprd,
                          0.0,       box->xz, box->yz, box->zprd};
  for (int k = 0; k < 9; ++k) cell_[k] = rows[k] / length;

  const int nprocs = lmp_->comm->nprocs;
  set_rows(*neighbors);
  list_.reset(DP_NewNlist_comm(static_cast<int>(centers_.size()), centers_.data(), count_.data(),
                               row_.data(), 0, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                               &lmp_->world, nprocs));
  DP_NlistSetMask(list_.get(), NEIGHMASK);
  DP_NlistSetUnfolded(list_.get(), unfolded_);
  if (halo_ > 0.0) DP_NlistSetHalo(list_.get(), halo_);
  if (exchange_) return exchange_->connect(list_.get());
  if (nprocs == 1 && messages_ && halo_ == 0.0) map_ghosts(rebuilt);
}

/**
 * Copy the layout of a list, not its entries.
 *
 * LAMMPS indexes numneigh and firstneigh by atom, the C interface by row. They are the same only
 * while every local atom is a center, in order: skip lists of pair_style hybrid leave atoms out.
 * Rows of ghosts, which some lists have after the inum of local atoms, are not needed.
 */
void Frame::set_rows(const LAMMPS_NS::NeighList& neighbors) {
  centers_.assign(neighbors.ilist, neighbors.ilist + neighbors.inum);
  count_.resize(centers_.size());
  row_.resize(centers_.size());
  for (size_t k = 0; k < centers_.size(); ++k) {
    count_[k] = neighbors.numneigh[centers_[k]];
    row_[k] = neighbors.firstneigh[centers_[k]];
  }
}

/** Tell the owners of ghosts, which models that pass messages need: local atoms of the same ID. */
void Frame::map_ghosts(bool rebuilt) {
  const LAMMPS_NS::Atom* atom = lmp_->atom;
  if (!atom->tag_enable) return;
  if (rebuilt || owner_.size() != static_cast<size_t>(nall_)) {
    std::unordered_map<LAMMPS_NS::tagint, int> local;
    for (int i = 0; i < atom->nlocal; ++i) local.emplace(atom->tag[i], i);
    owner_.resize(nall_);
    for (int i = 0; i < nall_; ++i) {
      const auto found = local.find(atom->tag[i]);
      owner_[i] = found == local.end() ? -1 : found->second;
    }
  }
  DP_NlistSetMapping(list_.get(), owner_.data());
}

}  // namespace deepmd_lmp
