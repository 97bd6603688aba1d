// SPDX-License-Identifier: LGPL-3.0-or-later
#include "uncertainty.h"

#include <mpi.h>

#include <algorithm>
#include <cmath>

#include "lammps.h"

namespace deepmd_lmp {

Uncertainty::Uncertainty(LAMMPS_NS::LAMMPS* lmp, Model& model)
    : lmp_(lmp), model_(model), energy_(1, 0.0), force_(1, 0.0) {
  const std::string missing = model.uncertainty_missing();
  if (!missing.empty()) throw Failure("uncertainty: " + model.path + " " + missing);
}

void Uncertainty::take(const Frame& frame, const Results& results, const Units& units,
                       double factor) {
  // Never empty, since null means that there is no such array.
  const auto n = static_cast<size_t>(frame.nlocal());
  energy_.assign(n + 1, 0.0);
  force_.assign(n + 1, 0.0);
  const double energy = std::abs(factor) * units.energy, force = std::abs(factor) * units.force();
  for (size_t i = 0; i < n; ++i) {
    energy_[i] = energy * results.atom_energy_std[i];
    force_[i] = force * results.force_std[i];
  }
}

void Uncertainty::sum_up(const Frame& frame, const Results& results, const Units& units,
                         double factor, double* totals) {
  int me = 0;
  MPI_Comm_rank(lmp_->world, &me);
  // Behind the features: the sum of the deviations of forces, and how many there are.
  std::vector<double> mine = results.features, all(mine.size() + 2);
  mine.resize(all.size(), 0.0);
  double largest = 0.0, top = 0.0;
  for (int i = 0; i < frame.nlocal(); ++i) {
    if (frame.atype()[i] < 0) continue;
    mine[mine.size() - 2] += force_[i];
    mine[mine.size() - 1] += 1.0;
    largest = std::max(largest, force_[i]);
  }
  const int count = static_cast<int>(mine.size());
  MPI_Reduce(mine.data(), all.data(), count, MPI_DOUBLE, MPI_SUM, 0, lmp_->world);
  MPI_Reduce(&largest, &top, 1, MPI_DOUBLE, MPI_MAX, 0, lmp_->world);
  std::fill_n(totals, totals_size, 0.0);
  if (me != 0) return;
  totals[0] = std::abs(factor) * units.energy * model_.energy_deviation(all);
  totals[1] = top;
  totals[2] = all[count - 2] / std::max(all[count - 1], 1.0);
}

double* Uncertainty::of_atoms(const std::string& name) {
  if (name == "energy_std") return energy_.data();
  return name == "force_std" ? force_.data() : nullptr;
}

}  // namespace deepmd_lmp
