// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/DeepSpin.h"

#include "core/error.h"

namespace deepmd {

namespace {

[[noreturn]] void missing(const std::string& where = "DeepSpin") {
  core::fail(where, "models with spins are not evaluated by the C++ library",
             "use deepmd.infer.DeepPot in Python");
}

}  // namespace

DeepSpin::DeepSpin() = default;
DeepSpin::~DeepSpin() = default;

DeepSpin::DeepSpin(const std::string& model, const int&, const std::string&) { missing(model); }
void DeepSpin::init(const std::string& model, const int&, const std::string&) { missing(model); }

std::vector<bool> DeepSpin::get_use_spin() const { missing(); }
int DeepSpin::dim_chg_spin() const { missing(); }
void DeepSpin::set_charge_spin(const std::vector<double>&) { missing(); }
bool DeepSpin::uses_native_spin_scheme() const { return false; }
bool DeepSpin::uses_canonical_graph_inference() const { return false; }

template <typename VALUETYPE>
void DeepSpin::compute(ENERGYTYPE&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<int>&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpin::compute(std::vector<ENERGYTYPE>&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<int>&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpin::compute(ENERGYTYPE&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       std::vector<VALUETYPE>&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<int>&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpin::compute(std::vector<ENERGYTYPE>&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       std::vector<VALUETYPE>&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<int>&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpin::compute(ENERGYTYPE&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<int>&,
                       const std::vector<VALUETYPE>&, const int, const InputNlist&, const int&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpin::compute(std::vector<ENERGYTYPE>&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<int>&,
                       const std::vector<VALUETYPE>&, const int, const InputNlist&, const int&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpin::compute(ENERGYTYPE&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       std::vector<VALUETYPE>&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<int>&, const std::vector<VALUETYPE>&, const int,
                       const InputNlist&, const int&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpin::compute(std::vector<ENERGYTYPE>&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       std::vector<VALUETYPE>&, std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                       const std::vector<int>&, const std::vector<VALUETYPE>&, const int,
                       const InputNlist&, const int&, const std::vector<VALUETYPE>&,
                       const std::vector<VALUETYPE>&, const std::vector<double>&) {
  missing();
}

DeepSpinModelDevi::DeepSpinModelDevi() = default;
DeepSpinModelDevi::~DeepSpinModelDevi() = default;

DeepSpinModelDevi::DeepSpinModelDevi(const std::vector<std::string>& models, const int& gpu_rank,
                                     const std::vector<std::string>& file_contents) {
  init(models, gpu_rank, file_contents);
}

void DeepSpinModelDevi::init(const std::vector<std::string>& models, const int&,
                             const std::vector<std::string>&) {
  missing(models.empty() ? "DeepSpinModelDevi" : models.front());
}

std::vector<bool> DeepSpinModelDevi::get_use_spin() const { missing(); }
int DeepSpinModelDevi::dim_chg_spin() const { missing(); }
void DeepSpinModelDevi::set_charge_spin(const std::vector<double>&) { missing(); }

template <typename VALUETYPE>
void DeepSpinModelDevi::compute(std::vector<ENERGYTYPE>&, std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&, const std::vector<VALUETYPE>&,
                                const std::vector<VALUETYPE>&, const std::vector<int>&,
                                const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                                const std::vector<VALUETYPE>&, const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpinModelDevi::compute(std::vector<ENERGYTYPE>&, std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&, const std::vector<VALUETYPE>&,
                                const std::vector<VALUETYPE>&, const std::vector<int>&,
                                const std::vector<VALUETYPE>&, const std::vector<VALUETYPE>&,
                                const std::vector<VALUETYPE>&, const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpinModelDevi::compute(std::vector<ENERGYTYPE>&, std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&, const std::vector<VALUETYPE>&,
                                const std::vector<VALUETYPE>&, const std::vector<int>&,
                                const std::vector<VALUETYPE>&, const int, const InputNlist&,
                                const int&, const std::vector<VALUETYPE>&,
                                const std::vector<VALUETYPE>&, const std::vector<double>&) {
  missing();
}

template <typename VALUETYPE>
void DeepSpinModelDevi::compute(std::vector<ENERGYTYPE>&, std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&,
                                std::vector<std::vector<VALUETYPE>>&, const std::vector<VALUETYPE>&,
                                const std::vector<VALUETYPE>&, const std::vector<int>&,
                                const std::vector<VALUETYPE>&, const int, const InputNlist&,
                                const int&, const std::vector<VALUETYPE>&,
                                const std::vector<VALUETYPE>&, const std::vector<double>&) {
  missing();
}

#define DEEPMD_SPIN(T)                                                                            \
  template void DeepSpin::compute<T>(                                                             \
      ENERGYTYPE&, std::vector<T>&, std::vector<T>&, std::vector<T>&, const std::vector<T>&,      \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                  \
  template void DeepSpin::compute<T>(                                                             \
      std::vector<ENERGYTYPE>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                \
      const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,                      \
      const std::vector<T>&, const std::vector<T>&, const std::vector<T>&,                        \
      const std::vector<double>&);                                                                \
  template void DeepSpin::compute<T>(                                                             \
      ENERGYTYPE&, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,            \
      std::vector<T>&, const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,     \
      const std::vector<T>&, const std::vector<T>&, const std::vector<T>&,                        \
      const std::vector<double>&);                                                                \
  template void DeepSpin::compute<T>(                                                             \
      std::vector<ENERGYTYPE>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                \
      std::vector<T>&, std::vector<T>&, const std::vector<T>&, const std::vector<T>&,             \
      const std::vector<int>&, const std::vector<T>&, const std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<double>&);                                         \
  template void DeepSpin::compute<T>(                                                             \
      ENERGYTYPE&, std::vector<T>&, std::vector<T>&, std::vector<T>&, const std::vector<T>&,      \
      const std::vector<T>&, const std::vector<int>&, const std::vector<T>&, const int,           \
      const InputNlist&, const int&, const std::vector<T>&, const std::vector<T>&,                \
      const std::vector<double>&);                                                                \
  template void DeepSpin::compute<T>(                                                             \
      std::vector<ENERGYTYPE>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                \
      const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,                      \
      const std::vector<T>&, const int, const InputNlist&, const int&, const std::vector<T>&,     \
      const std::vector<T>&, const std::vector<double>&);                                         \
  template void DeepSpin::compute<T>(                                                             \
      ENERGYTYPE&, std::vector<T>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,            \
      std::vector<T>&, const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,     \
      const std::vector<T>&, const int, const InputNlist&, const int&, const std::vector<T>&,     \
      const std::vector<T>&, const std::vector<double>&);                                         \
  template void DeepSpin::compute<T>(                                                             \
      std::vector<ENERGYTYPE>&, std::vector<T>&, std::vector<T>&, std::vector<T>&,                \
      std::vector<T>&, std::vector<T>&, const std::vector<T>&, const std::vector<T>&,             \
      const std::vector<int>&, const std::vector<T>&, const int, const InputNlist&, const int&,   \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                  \
  template void DeepSpinModelDevi::compute<T>(                                                    \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,       \
      std::vector<std::vector<T>>&, const std::vector<T>&, const std::vector<T>&,                 \
      const std::vector<int>&, const std::vector<T>&, const std::vector<T>&,                      \
      const std::vector<T>&, const std::vector<double>&);                                         \
  template void DeepSpinModelDevi::compute<T>(                                                    \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,       \
      std::vector<std::vector<T>>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,   \
      const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,                      \
      const std::vector<T>&, const std::vector<T>&, const std::vector<T>&,                        \
      const std::vector<double>&);                                                                \
  template void DeepSpinModelDevi::compute<T>(                                                    \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,       \
      std::vector<std::vector<T>>&, const std::vector<T>&, const std::vector<T>&,                 \
      const std::vector<int>&, const std::vector<T>&, const int, const InputNlist&, const int&,   \
      const std::vector<T>&, const std::vector<T>&, const std::vector<double>&);                  \
  template void DeepSpinModelDevi::compute<T>(                                                    \
      std::vector<ENERGYTYPE>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,       \
      std::vector<std::vector<T>>&, std::vector<std::vector<T>>&, std::vector<std::vector<T>>&,   \
      const std::vector<T>&, const std::vector<T>&, const std::vector<int>&,                      \
      const std::vector<T>&, const int, const InputNlist&, const int&, const std::vector<T>&,     \
      const std::vector<T>&, const std::vector<double>&);
DEEPMD_SPIN(double)
DEEPMD_SPIN(float)

}  // namespace deepmd
