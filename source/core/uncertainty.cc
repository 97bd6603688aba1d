// SPDX-License-Identifier: LGPL-3.0-or-later
#include "uncertainty.h"

#include <cmath>

#include "backend/arrays.h"

namespace deepmd::core {

void Uncertainty::add_features(int64_t type, const double* hidden, double* features) const {
  if (facts.predicted[type] == 0) return;
  double* const block = features + (facts.n_networks == 1 ? 0 : type) * facts.width;
  for (int64_t k = 0; k < facts.width; ++k) block[k] += hidden[k];
  features[facts.n_networks * facts.width + type] += 1.0;
}

double Uncertainty::of_energy(const double* features) const {
  const int64_t n = n_features();
  double square = 0.0;
  for (int64_t r = 0; r < n; ++r) {
    const double* const row = facts.factor + r * n;
    double sum = 0.0;
    for (int64_t k = 0; k < n; ++k) sum += row[k] * features[k];
    square += sum * sum;
  }
  return facts.energy_scale * std::sqrt(square);
}

Uncertainty read_uncertainty(const deepmd_info& info) {
  Uncertainty found;
  found.last_layer = info.last_layer;
  if (!info.uncertainty) {
    found.missing =
        "is evaluated by an engine that gives no uncertainties; use the native engine (engine "
        "native), or evaluate them with Python";
    return found;
  }
  found.facts = backend::read(info.uncertainty);
  if (found.facts.missing) found.missing = found.facts.missing;
  return found;
}

}  // namespace deepmd::core
