// SPDX-License-Identifier: LGPL-3.0-or-later
#include "exchange.h"

#include <algorithm>

#include "backend/arrays.h"

namespace deepmd::core {

const deepmd_exchange* RowExchange::begin(const System& system, int64_t each) {
  system_ = &system;
  each_ = each;
  outer_ = backend::read(system.frame->list->exchange);
  inner_ = {sizeof(inner_), this, to_ghosts, to_owners};
  return &inner_;
}

/** Values of the atoms of the frame, all zero. */
deepmd_array RowExchange::atoms(int64_t width) {
  width_ = each_ * width;
  const int64_t nall = system_->frame->nall;
  // One number more, so that there is memory without atoms.
  values_.assign(static_cast<size_t>(nall * width_ + 1), 0.0);
  return backend::array_of(values_.data(), {nall, width_});
}

/** Copy rows of some centers to their atoms. */
void RowExchange::gather(const double* rows, int64_t first, int64_t last) {
  for (int64_t c = first; c < last; ++c) {
    std::copy_n(rows + c * width_, width_, values_.begin() + system_->centers[c] * width_);
  }
}

/** Copy values of atoms to the rows of some centers. */
void RowExchange::spread(double* rows, int64_t first, int64_t last) const {
  for (int64_t c = first; c < last; ++c) {
    std::copy_n(values_.begin() + system_->centers[c] * width_, width_, rows + c * width_);
  }
}

int RowExchange::to_ghosts(void* context, const deepmd_array* values, char* error,
                           size_t error_size) {
  auto& self = *static_cast<RowExchange*>(context);
  auto* rows = static_cast<double*>(values->data);
  const deepmd_array atoms = self.atoms(values->shape[1]);
  self.gather(rows, 0, self.system_->n_local);
  const int status = self.outer_.to_ghosts(self.outer_.context, &atoms, error, error_size);
  if (status == 0) self.spread(rows, self.system_->n_local, self.system_->n());
  return status;
}

int RowExchange::to_owners(void* context, const deepmd_array* values, char* error,
                           size_t error_size) {
  auto& self = *static_cast<RowExchange*>(context);
  auto* rows = static_cast<double*>(values->data);
  const deepmd_array atoms = self.atoms(values->shape[1]);
  self.gather(rows, 0, self.system_->n());
  const int status = self.outer_.to_owners(self.outer_.context, &atoms, error, error_size);
  if (status == 0) self.spread(rows, 0, self.system_->n_local);
  return status;
}

}  // namespace deepmd::core
