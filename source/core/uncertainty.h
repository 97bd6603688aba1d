// SPDX-License-Identifier: LGPL-3.0-or-later
/** Standard deviations of predictions, as the backend gives them for atoms, and those of energies.
 */
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace deepmd::core {

/** The uncertainty in a model file; arrays belong to the open model. */
struct Uncertainty {
  std::string missing;     ///< why there is none, after the name of the file; empty: there is one
  int64_t last_layer = 0;  ///< width of the last hidden layer, if the backend gives it
  deepmd_uncertainty facts{};

  /** Numbers that the deviation of an energy is made of: sums of the features over its atoms. */
  int64_t n_features() const { return facts.n_networks * facts.width + facts.n_types; }

  /** Add the features of an atom, of its last hidden layer (width). */
  void add_features(int64_t type, const double* hidden, double* features) const;

  /** Standard deviation of an energy [eV], from its features. */
  double of_energy(const double* features) const;
};

/** Read what a backend says; a message says so where it says nothing. */
Uncertainty read_uncertainty(const deepmd_info& info);

}  // namespace deepmd::core
