// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/DeepBaseModel.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "session.h"

namespace deepmd {

namespace {

const core::Info& info(const std::shared_ptr<Session>& session) {
  return opened(session, "DeepPot").model->info();
}

const core::Info& info(const std::vector<std::shared_ptr<Session>>& sessions) {
  return info(sessions.empty() ? nullptr : sessions.front());
}

int types_with_spin(const core::Info& info) {
  return static_cast<int>(std::count(info.use_spin.begin(), info.use_spin.end(), true));
}

bool default_fparam(const core::Info& info) {
  const core::Input* input = info.input("fparam");
  return input && !input->default_value.empty();
}

}  // namespace

DeepBaseModel::DeepBaseModel() = default;
DeepBaseModel::~DeepBaseModel() = default;

void DeepBaseModel::print_summary(const std::string& pre) const {
  deepmd::print_summary(pre, info(session_));
}

double DeepBaseModel::cutoff() const { return info(session_).rcut; }
int DeepBaseModel::numb_types() const { return static_cast<int>(info(session_).type_map.size()); }
int DeepBaseModel::numb_types_spin() const { return types_with_spin(info(session_)); }
int DeepBaseModel::dim_fparam() const { return info(session_).size_of("fparam"); }
int DeepBaseModel::dim_aparam() const { return info(session_).size_of("aparam"); }
bool DeepBaseModel::is_aparam_nall() const { return (void)info(session_), false; }
bool DeepBaseModel::has_default_fparam() const { return default_fparam(info(session_)); }

void DeepBaseModel::get_type_map(std::string& type_map) { type_map = type_names(info(session_)); }

bool DeepBaseModel::has_message_passing() const { return info(session_).message_passing; }

double DeepBaseModel::halo(double longest_spin) const {
  return info(session_).halo_of_spins(longest_spin);
}

bool DeepBaseModel::has_exchange() const { return info(session_).exchanges; }

std::string DeepBaseModel::engine() const { return info(session_).framework; }

long long DeepBaseModel::sel_overflow() const {
  return opened(session_, "DeepPot").model->overflow();
}
long long DeepBaseModel::most_neighbors() const {
  return opened(session_, "DeepPot").model->most_neighbors();
}

DeepBaseModelDevi::DeepBaseModelDevi() = default;
DeepBaseModelDevi::~DeepBaseModelDevi() = default;

double DeepBaseModelDevi::cutoff() const {
  double largest = info(sessions_).rcut;
  for (const auto& session : sessions_) {
    largest = std::max(largest, info(session).rcut);
  }
  return largest;
}

int DeepBaseModelDevi::numb_types() const {
  return static_cast<int>(info(sessions_).type_map.size());
}
int DeepBaseModelDevi::numb_types_spin() const { return types_with_spin(info(sessions_)); }
int DeepBaseModelDevi::dim_fparam() const { return info(sessions_).size_of("fparam"); }
int DeepBaseModelDevi::dim_aparam() const { return info(sessions_).size_of("aparam"); }
bool DeepBaseModelDevi::is_aparam_nall() const { return (void)info(sessions_), false; }

bool DeepBaseModelDevi::has_default_fparam() const {
  (void)info(sessions_);
  return std::all_of(sessions_.begin(), sessions_.end(),
                     [](const auto& session) { return default_fparam(info(session)); });
}

long long DeepBaseModelDevi::sel_overflow() const {
  (void)info(sessions_);
  long long sum = 0;
  for (const auto& session : sessions_) {
    sum += session->model->overflow();
  }
  return sum;
}

long long DeepBaseModelDevi::most_neighbors() const {
  (void)info(sessions_);
  long long largest = 0;
  for (const auto& session : sessions_) {
    largest = std::max<long long>(largest, session->model->most_neighbors());
  }
  return largest;
}

template <typename VALUETYPE>
void DeepBaseModelDevi::compute_avg(VALUETYPE& dener, const std::vector<VALUETYPE>& all_energy) {
  double sum = 0.0;
  for (const VALUETYPE energy : all_energy) {
    sum += energy;
  }
  dener = static_cast<VALUETYPE>(sum / static_cast<double>(all_energy.size()));
}

template <typename VALUETYPE>
void DeepBaseModelDevi::compute_avg(std::vector<VALUETYPE>& avg,
                                    const std::vector<std::vector<VALUETYPE>>& xx) {
  if (xx.empty()) {
    core::fail("compute_avg", "there are no arrays to average");
  }
  std::vector<double> sum(xx.front().size(), 0.0);
  for (const auto& x : xx) {
    if (x.size() != sum.size()) {
      core::fail("compute_avg", "arrays of " + std::to_string(sum.size()) + " and of " +
                                    std::to_string(x.size()) + " numbers");
    }
    for (size_t k = 0; k < sum.size(); ++k) {
      sum[k] += x[k];
    }
  }
  avg.resize(sum.size());
  for (size_t k = 0; k < sum.size(); ++k) {
    avg[k] = static_cast<VALUETYPE>(sum[k] / static_cast<double>(xx.size()));
  }
}

template <typename VALUETYPE>
void DeepBaseModelDevi::compute_std(std::vector<VALUETYPE>& deviation,
                                    const std::vector<VALUETYPE>& avg,
                                    const std::vector<std::vector<VALUETYPE>>& xx,
                                    const int& stride) {
  const size_t n = avg.size() / stride;
  deviation.assign(n, VALUETYPE(0));
  for (size_t i = 0; i < n; ++i) {
    double sum = 0.0;
    for (const auto& x : xx) {
      if (x.size() != avg.size()) {
        core::fail("compute_std", "an array of " + std::to_string(x.size()) +
                                      " numbers, but the mean has " + std::to_string(avg.size()));
      }
      for (size_t k = i * stride; k < (i + 1) * stride; ++k) {
        const double difference = static_cast<double>(x[k]) - avg[k];
        sum += difference * difference;
      }
    }
    deviation[i] = static_cast<VALUETYPE>(std::sqrt(sum / static_cast<double>(xx.size())));
  }
}

template <typename VALUETYPE>
void DeepBaseModelDevi::compute_std_e(std::vector<VALUETYPE>& deviation,
                                      const std::vector<VALUETYPE>& avg,
                                      const std::vector<std::vector<VALUETYPE>>& xx) {
  compute_std(deviation, avg, xx, 1);
}

template <typename VALUETYPE>
void DeepBaseModelDevi::compute_std_f(std::vector<VALUETYPE>& deviation,
                                      const std::vector<VALUETYPE>& avg,
                                      const std::vector<std::vector<VALUETYPE>>& xx) {
  compute_std(deviation, avg, xx, 3);
}

template <typename VALUETYPE>
void DeepBaseModelDevi::compute_relative_std(std::vector<VALUETYPE>& deviation,
                                             const std::vector<VALUETYPE>& avg, const VALUETYPE eps,
                                             const int& stride) {
  if (deviation.size() * stride != avg.size()) {
    core::fail("compute_relative_std", std::to_string(deviation.size()) + " deviations of " +
                                           std::to_string(stride) + " numbers each, but " +
                                           std::to_string(avg.size()) + " means");
  }
  for (size_t i = 0; i < deviation.size(); ++i) {
    double square = 0.0;
    for (size_t k = i * stride; k < (i + 1) * stride; ++k) {
      square += static_cast<double>(avg[k]) * avg[k];
    }
    deviation[i] /= static_cast<VALUETYPE>(std::sqrt(square)) + eps;
  }
}

template <typename VALUETYPE>
void DeepBaseModelDevi::compute_relative_std_f(std::vector<VALUETYPE>& deviation,
                                               const std::vector<VALUETYPE>& avg,
                                               const VALUETYPE eps) {
  compute_relative_std(deviation, avg, eps, 3);
}

#define DEEPMD_DEVIATION(T)                                                                        \
  template void DeepBaseModelDevi::compute_avg<T>(T&, const std::vector<T>&);                      \
  template void DeepBaseModelDevi::compute_avg<T>(std::vector<T>&,                                 \
                                                  const std::vector<std::vector<T>>&);             \
  template void DeepBaseModelDevi::compute_std<T>(std::vector<T>&, const std::vector<T>&,          \
                                                  const std::vector<std::vector<T>>&, const int&); \
  template void DeepBaseModelDevi::compute_std_e<T>(std::vector<T>&, const std::vector<T>&,        \
                                                    const std::vector<std::vector<T>>&);           \
  template void DeepBaseModelDevi::compute_std_f<T>(std::vector<T>&, const std::vector<T>&,        \
                                                    const std::vector<std::vector<T>>&);           \
  template void DeepBaseModelDevi::compute_relative_std<T>(std::vector<T>&, const std::vector<T>&, \
                                                           const T, const int&);                   \
  template void DeepBaseModelDevi::compute_relative_std_f<T>(std::vector<T>&,                      \
                                                             const std::vector<T>&, const T);
DEEPMD_DEVIATION(double)
DEEPMD_DEVIATION(float)

}  // namespace deepmd
