// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * pair_style deepspin: says what the library says about models with spins.
 */
#pragma once

#include "pair.h"

namespace LAMMPS_NS {

class PairDeepspin : public Pair {
 public:
  using Pair::Pair;
  void settings(int narg, char** arg) override;
  void coeff(int, char**) override {}
  void compute(int, int) override {}
};

}  // namespace LAMMPS_NS
