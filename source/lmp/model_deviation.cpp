// SPDX-License-Identifier: LGPL-3.0-or-later
#include "model_deviation.h"

#include <mpi.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iomanip>
#include <limits>
#include <numeric>

#include "atom.h"
#include "comm.h"
#include "model.h"
#include "update.h"

namespace deepmd_lmp {

using LAMMPS_NS::tagint;
using Arrays = std::vector<std::vector<double>>;

ModelDeviation::ModelDeviation(LAMMPS_NS::LAMMPS* lmp, const Settings& settings, bool append,
                               bool spins)
    : lmp_(lmp), settings_(settings), spins_(spins), units_(lmp) {
  bool header = true;
  std::string message;
  if (lmp->comm->me == 0) {
    std::error_code code;
    header = !append || std::filesystem::file_size(settings_.out_file, code) == 0 || code;
    errno = 0;
    file_.open(settings_.out_file, append ? std::ios::app : std::ios::trunc);
    if (!file_) message = cannot("open");
  }
  agree(lmp->world, message);
  if (lmp->comm->me == 0 && header) write_header();
  check_written();
}

void ModelDeviation::write_header() {
  errno = 0;
  file_ << "#" << std::setw(11) << "step";
  std::vector<std::string> columns = {"devi_v", spins_ ? "devi_fr" : "devi_f"};
  if (spins_) columns.push_back("devi_fm");
  for (const std::string& what : columns) {
    for (const char* how : {"max_", "min_", "avg_"}) {
      file_ << " " << std::setw(18) << how + what;
    }
  }
  if (settings_.atomic) file_ << " " << std::setw(18) << "atm_devi_f(N)";
  file_ << std::endl;
}

/** What a failed call says of the file. */
std::string ModelDeviation::cannot(const char* verb) const {
  const std::string reason = errno ? std::strerror(errno) : "unknown error";
  return "out_file: cannot " + std::string(verb) + " " + settings_.out_file + ": " + reason;
}

/** Rank 0 has written: stop on all ranks if not all of it arrived, on a full disk for example. */
void ModelDeviation::check_written() const {
  const bool lost = lmp_->comm->me == 0 && !file_;
  agree(lmp_->world, lost ? cannot("write") : "");
}

bool ModelDeviation::due() const { return lmp_->update->ntimestep % settings_.out_freq == 0; }

void ModelDeviation::write(const Arrays& force, const Arrays& force_mag, const Arrays& virial,
                           const int* atype) {
  const int nlocal = lmp_->atom->nlocal;
  double counted = static_cast<double>(nlocal - std::count(atype, atype + nlocal, -1));
  double natoms = 0.0;
  MPI_Allreduce(&counted, &natoms, 1, MPI_DOUBLE, MPI_SUM, lmp_->world);

  const Row v = of_virial(virial, natoms);
  const std::vector<double> deviation = of_atoms(force, units_.force());
  const Row f = of_force(deviation, atype, natoms);
  std::vector<double> columns = {v.largest, v.smallest, v.average,
                                 f.largest, f.smallest, f.average};
  if (spins_) {
    const Row m = of_force(of_atoms(force_mag, units_.energy), atype, natoms);
    columns.insert(columns.end(), {m.largest, m.smallest, m.average});
  }
  if (settings_.atomic) {
    const std::vector<double> atoms = sorted_by_tag(deviation);
    columns.insert(columns.end(), atoms.begin(), atoms.end());
  }
  if (lmp_->comm->me == 0) {
    errno = 0;
    file_ << std::setw(12) << lmp_->update->ntimestep << std::scientific << std::setprecision(6);
    for (const double column : columns) file_ << " " << std::setw(18) << column;
    file_ << std::endl;
  }
  check_written();
}

ModelDeviation::Row ModelDeviation::of_virial(const Arrays& virial, double natoms) const {
  Arrays mine = virial, total = virial;
  for (size_t k = 0; k < total.size(); ++k) {
    MPI_Allreduce(mine[k].data(), total[k].data(), 9, MPI_DOUBLE, MPI_SUM, lmp_->world);
  }
  Row row = {0.0, std::numeric_limits<double>::max(), 0.0};
  for (int c = 0; c < 9; ++c) {
    double mean = 0.0, square = 0.0;
    for (const auto& w : total) mean += w[c] / natoms / total.size();
    for (const auto& w : total) square += std::pow(w[c] / natoms - mean, 2) / total.size();
    double deviation = std::sqrt(square) * units_.energy;
    if (settings_.relative_v) {
      deviation /= std::abs(mean) * units_.energy + *settings_.relative_v;
    }
    row.largest = std::max(row.largest, deviation);
    row.smallest = std::min(row.smallest, deviation);
    row.average += deviation * deviation / 9.0;
  }
  row.average = std::sqrt(row.average);
  return row;
}

std::vector<double> ModelDeviation::of_atoms(const Arrays& force, double unit) const {
  const double count = static_cast<double>(force.size());
  std::vector<double> deviation(lmp_->atom->nlocal);
  for (size_t i = 0; i < deviation.size(); ++i) {
    double square = 0.0, norm = 0.0;
    for (size_t c = 3 * i; c < 3 * i + 3; ++c) {
      double mean = 0.0;
      for (const auto& f : force) mean += f[c] / count;
      for (const auto& f : force) square += std::pow(f[c] - mean, 2) / count;
      norm += mean * mean;
    }
    deviation[i] = std::sqrt(square) * unit;
    if (settings_.relative) {
      deviation[i] /= std::sqrt(norm) * unit + *settings_.relative;
    }
  }
  return deviation;
}

ModelDeviation::Row ModelDeviation::of_force(const std::vector<double>& deviation, const int* atype,
                                             double natoms) const {
  // Largest, minus the smallest, sum.
  double mine[2] = {0.0, -std::numeric_limits<double>::max()};
  double sum = 0.0;
  for (size_t i = 0; i < deviation.size(); ++i) {
    if (atype[i] < 0) continue;
    mine[0] = std::max(mine[0], deviation[i]);
    mine[1] = std::max(mine[1], -deviation[i]);
    sum += deviation[i];
  }
  double all[2], total = 0.0;
  MPI_Allreduce(mine, all, 2, MPI_DOUBLE, MPI_MAX, lmp_->world);
  MPI_Allreduce(&sum, &total, 1, MPI_DOUBLE, MPI_SUM, lmp_->world);
  return {all[0], -all[1], total / natoms};
}

std::vector<double> ModelDeviation::sorted_by_tag(const std::vector<double>& deviation) const {
  const int nprocs = lmp_->comm->nprocs;
  int nlocal = static_cast<int>(deviation.size());
  std::vector<int> counts(nprocs), starts(nprocs);
  MPI_Gather(&nlocal, 1, MPI_INT, counts.data(), 1, MPI_INT, 0, lmp_->world);
  std::partial_sum(counts.begin(), counts.end() - 1, starts.begin() + 1);
  const size_t total = std::accumulate(counts.begin(), counts.end(), size_t{0});
  std::vector<tagint> tags(total);
  std::vector<double> values(total);
  MPI_Gatherv(lmp_->atom->tag, nlocal, MPI_LMP_TAGINT, tags.data(), counts.data(), starts.data(),
              MPI_LMP_TAGINT, 0, lmp_->world);
  // LAMMPS without MPI declares what is sent as if it changed.
  MPI_Gatherv(const_cast<double*>(deviation.data()), nlocal, MPI_DOUBLE, values.data(),
              counts.data(), starts.data(), MPI_DOUBLE, 0, lmp_->world);
  std::vector<size_t> order(total);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return tags[a] < tags[b]; });
  std::vector<double> sorted(total);
  for (size_t i = 0; i < total; ++i) sorted[i] = values[order[i]];
  return sorted;
}

}  // namespace deepmd_lmp
