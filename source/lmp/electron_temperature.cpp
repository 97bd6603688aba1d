// SPDX-License-Identifier: LGPL-3.0-or-later
#include "electron_temperature.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "comm.h"
#include "domain.h"
#include "fix.h"
#include "modify.h"

namespace deepmd_lmp {
namespace {

constexpr size_t header = 4;  // numbers of grid points, and the seed

/** What the fix writes into a restart file, without its length; on rank 0, nothing elsewhere. */
std::vector<double> restart_of(LAMMPS_NS::Fix& fix) {
  char* text = nullptr;
  size_t size = 0;
  FILE* file = open_memstream(&text, &size);
  if (!file) throw Failure("ttm: there is no memory for the electron temperatures");
  fix.write_restart(file);
  std::fclose(file);
  std::vector<double> values(size > sizeof(int) ? (size - sizeof(int)) / sizeof(double) : 0);
  if (!values.empty()) {
    std::memcpy(values.data(), text + sizeof(int), values.size() * sizeof(double));
  }
  std::free(text);
  return values;
}

}  // namespace

void ElectronTemperature::init() {
  fix_ = lmp_->modify->get_fix_by_id(id_);
  if (!fix_) throw Failure("ttm: there is no fix " + id_);
  if (std::strcmp(fix_->style, "ttm") != 0 && std::strcmp(fix_->style, "ttm/mod") != 0) {
    throw Failure("ttm: fix " + id_ + " is of style " + fix_->style + ", not ttm or ttm/mod");
  }
}

void ElectronTemperature::read() {
  values_ = restart_of(*fix_);
  auto size = static_cast<int>(values_.size());
  MPI_Bcast(&size, 1, MPI_INT, 0, lmp_->world);
  values_.resize(size);
  MPI_Bcast(values_.data(), size, MPI_DOUBLE, 0, lmp_->world);
  size_t cells = 1;
  for (size_t a = 0; a < 3 && values_.size() > header; ++a) {
    points_[a] = static_cast<int>(values_[a]);
    cells *= points_[a];
  }
  if (values_.size() != header + cells) {
    throw Failure("ttm: fix " + id_ +
                  " stores its temperatures in a way that is not known; give them with "
                  "aparam_from_compute");
  }
  values_.erase(values_.begin(), values_.begin() + header);
}

double ElectronTemperature::at(const double* x) const {
  std::array<int, 3> cell;
  for (int a = 0; a < 3; ++a) {
    const int n = points_[a];
    const double s = (x[a] - lmp_->domain->boxlo[a]) / lmp_->domain->prd[a];
    const int k = static_cast<int>(std::floor(s * n)) % n;
    cell[a] = k < 0 ? k + n : k;
  }
  return values_[(static_cast<size_t>(cell[2]) * points_[1] + cell[1]) * points_[0] + cell[0]];
}

double ElectronTemperature::mean() const {
  double sum = 0.0;
  size_t count = 0;
  for (const double t : values_) {
    sum += t;
    count += t != 0.0;
  }
  return count ? sum / static_cast<double>(count) : 0.0;
}

}  // namespace deepmd_lmp
