// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "settings.h"

struct DP_DeepPot;

namespace deepmd::ipi {

/** Energy [eV], forces (natoms, 3) [eV/Å] and virial (3, 3) [eV] of one frame. */
struct Result {
  double energy = 0.0;
  std::vector<double> forces;
  std::array<double, 9> virial{};
};

/** A model for the atoms of the simulation. */
class Potential {
 public:
  explicit Potential(const Settings& settings);

  size_t natoms() const { return types_.size(); }

  /**
   * @param coord (natoms, 3) [Å]
   * @param cell (3, 3), rows are the vectors [Å]; without volume: an open system
   */
  Result evaluate(const std::vector<double>& coord, const std::array<double, 9>& cell);

 private:
  void check_model() const;
  void throw_if_failed() const;

  struct Delete {
    void operator()(DP_DeepPot* model) const;
  };
  std::string path_;
  std::unique_ptr<DP_DeepPot, Delete> model_;
  std::vector<int> types_;
};

}  // namespace deepmd::ipi
