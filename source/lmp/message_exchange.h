// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Messages between atoms of several ranks: values of ghosts, exchanged in every layer of a model.
 */
#pragma once

#include <deepmd/c_api.h>

#include <string>

#include "pointers.h"

namespace LAMMPS_NS {
class Pair;
}

namespace deepmd_lmp {

/** Columns of an array (nall, stride) in the buffers of LAMMPS. */
struct Columns {
  double* values = nullptr;
  int stride = 0, first = 0, count = 0;

  int pack(int n, const int* atoms, double* buffer) const;
  int pack_from(int n, int from, double* buffer) const;
  void unpack_from(int n, int from, const double* buffer) const;
  void add(int n, const int* atoms, const double* buffer) const;
};

/** What the exchanges of a run were. */
struct ExchangeRecord {
  long long exchanges = 0;
  long long bytes = 0;   ///< of this rank's ghosts
  double seconds = 0.0;  ///< waiting for other ranks included
};

/** The exchange of a pair style, by LAMMPS's communication of ghosts. */
class MessageExchange {
 public:
  /** Numbers per atom that ranks exchange at once. */
  static constexpr int widest = 128;

  MessageExchange(LAMMPS_NS::LAMMPS* lmp, LAMMPS_NS::Pair* pair) : lmp_(lmp), pair_(pair) {}

  /**
   * Let LAMMPS have room in the buffers of its communication, which it makes before a run.
   *
   * It asks the pair style that it knows: pair_style hybrid has asked this one when it was made.
   */
  void reserve();
  /** Let evaluations with a list exchange. */
  void connect(DP_Nlist* list);
  /** What another rank failed with while this one wanted to exchange; all ranks know. */
  const std::string& stopped() const { return stopped_; }
  const ExchangeRecord& record() const { return record_; }

  Columns columns;  ///< what LAMMPS asks the pair style for

  /** Let LAMMPS copy values to ghosts, or add those of ghosts to owners, whatever newton is. */
  void to_ghosts(double* values, int width);
  void to_owners(double* values, int width);

 private:
  static int exchange_to_ghosts(void* context, double* values, int width);
  static int exchange_to_owners(void* context, double* values, int width);
  template <typename Action>
  int exchange(int width, const Action& action);

  LAMMPS_NS::LAMMPS* lmp_;
  LAMMPS_NS::Pair* pair_;
  std::string stopped_;
  ExchangeRecord record_;
};

}  // namespace deepmd_lmp
