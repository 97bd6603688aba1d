// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * LAMMPS's atoms and neighbors as the C interface wants them: Angstrom, types of the model.
 */
#pragma once

#include <deepmd/c_api.h>

#include <memory>
#include <vector>

#include "pointers.h"

namespace LAMMPS_NS {
class NeighList;
}

namespace deepmd_lmp {

/** Factors from Angstrom and eV to the units of the run. */
struct Units {
  explicit Units(LAMMPS_NS::LAMMPS* lmp);  ///< throws Failure for units lj
  double length = 1.0;
  double energy = 1.0;
  double force() const { return energy / length; }
};

class Frame;
class MessageExchange;

/**
 * Let LAMMPS keep the ghosts that a model of atomic tensors needs, and the frame know. To be called
 * before every run; throws Failure.
 */
void keep_ghosts(LAMMPS_NS::LAMMPS* lmp, DP_DeepTensor* model, Frame& frame);

/** This rank's atoms, ghosts last. */
class Frame {
 public:
  explicit Frame(LAMMPS_NS::LAMMPS* lmp, bool spins = false) : lmp_(lmp), spins_(spins) {}

  /**
   * Look at the atoms as they are now. `types[t]` is the model's type of LAMMPS's type t, -1 to
   * ignore it. `rebuilt`: ghosts are others than last time.
   */
  void fill(LAMMPS_NS::NeighList* neighbors, const std::vector<int>& types, double length,
            bool rebuilt);

  /**
   * Say what models that pass messages need.
   *
   * @param messages whether there is one
   * @param halo distance [Å] within which all ghosts are there, on several ranks; 0: not more than
   *     other models need
   * @param unfolded whether virials of atoms are for the heat flux, with a halo
   */
  void expect_messages(bool messages, double halo, bool unfolded = false) {
    messages_ = messages;
    unfolded_ = unfolded;
    halo_ = halo;
  }

  /** Let ranks exchange messages; null: they do not. */
  void exchange_messages(MessageExchange* exchange) { exchange_ = exchange; }
  const MessageExchange* exchange() const { return exchange_; }

  int nall() const { return nall_; }
  int nghost() const { return nghost_; }
  int nlocal() const { return nall_ - nghost_; }
  const double* coord() const { return coord_; }
  const double* spin() const { return spin_.data(); }
  const int* atype() const { return atype_.data(); }
  const double* cell() const { return cell_; }
  const DP_Nlist* list() const { return list_.get(); }

 private:
  void set_rows(const LAMMPS_NS::NeighList& neighbors);
  void map_ghosts(bool rebuilt);

  struct Free {
    void operator()(DP_Nlist* list) const { DP_DeleteNlist(list); }
  };
  LAMMPS_NS::LAMMPS* lmp_;
  bool spins_;  ///< whether spins are looked at
  int nall_ = 0;
  int nghost_ = 0;
  const double* coord_ = nullptr;
  std::vector<double> scaled_;  ///< coordinates, where units are not Angstrom
  std::vector<double> spin_;    ///< (nall, 3) [Bohr magnetons]
  std::vector<int> atype_;
  std::vector<int> owner_;  ///< (nall): local atom of every atom; one rank whose atoms have IDs
  bool messages_ = false;
  bool unfolded_ = false;
  double halo_ = 0.0;
  MessageExchange* exchange_ = nullptr;
  // The list by rows: centers, their numbers of neighbors, LAMMPS's arrays of these.
  std::vector<int> centers_, count_;
  std::vector<int*> row_;
  double cell_[9] = {};
  std::unique_ptr<DP_Nlist, Free> list_;
};

}  // namespace deepmd_lmp
