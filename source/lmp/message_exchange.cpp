// SPDX-License-Identifier: LGPL-3.0-or-later
#include "message_exchange.h"

#include <algorithm>
#include <utility>

#include "atom.h"
#include "comm.h"
#include "force.h"
#include "model.h"
#include "pair.h"

namespace deepmd_lmp {

int Columns::pack(int n, const int* atoms, double* buffer) const {
  for (int k = 0; k < n; ++k) pack_from(1, atoms[k], buffer + static_cast<size_t>(k) * count);
  return n * count;
}

int Columns::pack_from(int n, int from, double* buffer) const {
  const double* row = values + static_cast<size_t>(from) * stride + first;
  for (int k = 0; k < n; ++k, row += stride, buffer += count) std::copy_n(row, count, buffer);
  return n * count;
}

void Columns::unpack_from(int n, int from, const double* buffer) const {
  double* row = values + static_cast<size_t>(from) * stride + first;
  for (int k = 0; k < n; ++k, row += stride, buffer += count) std::copy_n(buffer, count, row);
}

void Columns::add(int n, const int* atoms, const double* buffer) const {
  for (int k = 0; k < n; ++k) {
    double* row = values + static_cast<size_t>(atoms[k]) * stride + first;
    for (int c = 0; c < count; ++c) row[c] += *buffer++;
  }
}

void MessageExchange::reserve() {
  for (LAMMPS_NS::Pair* pair : {pair_, lmp_->force->pair}) {
    pair->comm_forward = std::max(pair->comm_forward, widest);
    pair->comm_reverse = std::max(pair->comm_reverse, widest);
    pair->comm_reverse_off = std::max(pair->comm_reverse_off, widest);
  }
}

void MessageExchange::connect(DP_Nlist* list) {
  stopped_.clear();
  DP_NlistSetExchange(list, exchange_to_ghosts, exchange_to_owners, this);
}

void MessageExchange::to_ghosts(double* values, int width) {
  const int usual = pair_->comm_forward;
  for (int first = 0; first < width; first += widest) {
    columns = {values, width, first, std::min(widest, width - first)};
    // LAMMPS makes room for the largest width before a run, and sends what this says.
    pair_->comm_forward = columns.count;
    lmp_->comm->forward_comm(pair_);
  }
  pair_->comm_forward = usual;
}

void MessageExchange::to_owners(double* values, int width) {
  const int usual = pair_->comm_reverse, usual_off = pair_->comm_reverse_off;
  const int most = std::max(usual, 1);
  for (int first = 0; first < width; first += most) {
    columns = {values, width, first, std::min(most, width - first)};
    pair_->comm_reverse = pair_->comm_reverse_off = columns.count;
    lmp_->comm->reverse_comm(pair_);
  }
  pair_->comm_reverse = usual;
  pair_->comm_reverse_off = usual_off;
}

/** A rank that has failed meanwhile agrees with the others here, in place of exchanging. */
template <typename Action>
int MessageExchange::exchange(int width, const Action& action) {
  const double start = LAMMPS_NS::platform::walltime();
  try {
    agree(lmp_->world, "");
  } catch (const Failure& failure) {
    stopped_ = failure.what();
    return 1;
  }
  action();
  ++record_.exchanges;
  record_.bytes += 8LL * lmp_->atom->nghost * width;
  record_.seconds += LAMMPS_NS::platform::walltime() - start;
  return 0;
}

int MessageExchange::exchange_to_ghosts(void* context, double* values, int width) {
  auto& self = *static_cast<MessageExchange*>(context);
  return self.exchange(width, [&] { self.to_ghosts(values, width); });
}

int MessageExchange::exchange_to_owners(void* context, double* values, int width) {
  auto& self = *static_cast<MessageExchange*>(context);
  return self.exchange(width, [&] { self.to_owners(values, width); });
}

}  // namespace deepmd_lmp
