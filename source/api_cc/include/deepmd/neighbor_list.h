// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <vector>

namespace deepmd {

/**
 * A neighbor list made elsewhere, by a molecular dynamics code for example.
 *
 * A full list: each pair is listed at both atoms. Pairs may lie beyond the cutoff. The arrays
 * belong to the caller and must live while the list is used.
 *
 * Row k is that of the center ilist[k]. Programs that index numneigh and firstneigh by atom, as
 * LAMMPS does, must pass them by row: the two differ as soon as an atom is no center.
 */
struct InputNlist {
  int inum;          ///< number of centers
  int* ilist;        ///< (inum) atoms that are centers
  int* numneigh;     ///< (inum) numbers of their neighbors
  int** firstneigh;  ///< (inum) arrays of atom indices, ghosts included
  /// How ghosts are sent between ranks, in nswap exchanges; all zero for one rank.
  int nswap;
  int* sendnum;
  int* recvnum;
  int* firstrecv;
  int** sendlist;
  int* sendproc;
  int* recvproc;
  void* world;             ///< pointer to the MPI communicator
  int mask = 0xFFFFFFFF;   ///< bits of an entry that are the index of the neighbor
  int* mapping = nullptr;  ///< (n_all) local atom of every atom, or null
  int nprocs = 1;          ///< ranks that share the system
  double halo = 0.0;       ///< see set_halo
  bool unfolded = false;   ///< see set_unfolded

  /// Function that exchanges values (n_all, width) of atoms between ranks; 0: it did.
  using Exchange = int (*)(void* context, double* values, int width);
  Exchange to_ghosts = nullptr;  ///< see set_exchange
  Exchange to_owners = nullptr;
  void* exchange_context = nullptr;  ///< first argument of both

  InputNlist() : InputNlist(0, nullptr, nullptr, nullptr) {}

  InputNlist(int inum_, int* ilist_, int* numneigh_, int** firstneigh_)
      : InputNlist(inum_, ilist_, numneigh_, firstneigh_, 0, nullptr, nullptr, nullptr, nullptr,
                   nullptr, nullptr, nullptr) {}

  InputNlist(int inum_, int* ilist_, int* numneigh_, int** firstneigh_, int nswap_, int* sendnum_,
             int* recvnum_, int* firstrecv_, int** sendlist_, int* sendproc_, int* recvproc_,
             void* world_, int nprocs_ = 1)
      : inum(inum_),
        ilist(ilist_),
        numneigh(numneigh_),
        firstneigh(firstneigh_),
        nswap(nswap_),
        sendnum(sendnum_),
        recvnum(recvnum_),
        firstrecv(firstrecv_),
        sendlist(sendlist_),
        sendproc(sendproc_),
        recvproc(recvproc_),
        world(world_),
        nprocs(nprocs_) {}

  void set_mask(int mask_) { mask = mask_; }
  void set_mapping(int* mapping_) { mapping = mapping_; }
  /**
   * Promise that all ghosts within a distance [Å] of the local atoms are there.
   *
   * Models that pass messages are then evaluated without a mapping, and on several ranks, if it is
   * as large as DeepBaseModel::halo says. Other models do not look at it.
   */
  void set_halo(double halo_) { halo = halo_; }
  /**
   * Let ranks exchange the messages between their atoms, for models with
   * DeepBaseModel::has_exchange: ghosts within the cutoff are then enough. Not used with a halo.
   *
   * All ranks evaluate at the same time, those without atoms, too, and call these functions equally
   * often, from the thread that evaluates. A number other than 0 ends the evaluation with an error.
   *
   * @param to_ghosts_ copies the rows of local atoms to their ghosts, on this rank and others
   * @param to_owners_ adds the rows of ghosts to those of the atoms that they are images of
   */
  void set_exchange(Exchange to_ghosts_, Exchange to_owners_, void* context) {
    to_ghosts = to_ghosts_;
    to_owners = to_owners_;
    exchange_context = context;
  }
  /**
   * Virials of atoms as the heat flux needs them, for models that pass messages and lists with a
   * halo: minus the sum over atoms k of (r_i - r_k) times the derivative of the energy of k by r_i.
   * They take three more evaluations.
   */
  void set_unfolded(bool unfolded_) { unfolded = unfolded_; }
};

/**
 * Let `to` point to the rows of `from`, one row of neighbors per center 0, 1, ...
 *
 * The arrays of `to` must have room: ilist, numneigh and firstneigh of from.size() entries.
 */
void convert_nlist(InputNlist& to, std::vector<std::vector<int>>& from);

/** The largest number of neighbors of a center. */
int max_numneigh(const InputNlist& list);

}  // namespace deepmd
