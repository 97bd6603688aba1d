// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * pair_style deepspin: pair_style deepmd for atoms with spins, on which forces act, too.
 */
#pragma once

#include "pair_deepmd.h"

namespace LAMMPS_NS {

class PairDeepspin : public PairDeepmd {
 public:
  explicit PairDeepspin(class LAMMPS* lmp) : PairDeepmd(lmp, true) {}

 protected:
  void check_atoms() override;
  double longest_spin() const override;
  void add(deepmd_lmp::Results& results, double factor) override;
};

}  // namespace LAMMPS_NS
