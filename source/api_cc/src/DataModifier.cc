// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/DataModifier.h"

#include "core/error.h"

namespace deepmd {

namespace {

[[noreturn]] void missing(const std::string& where = "DipoleChargeModifier") {
  core::fail(where, "forces of long-range (DPLR) models are not available in the C++ library",
             "evaluate the dipoles with DeepTensor, or use a model without a modifier");
}

}  // namespace

DipoleChargeModifier::DipoleChargeModifier() = default;
DipoleChargeModifier::~DipoleChargeModifier() = default;

DipoleChargeModifier::DipoleChargeModifier(const std::string& model, const int&,
                                           const std::string&) {
  missing(model);
}

void DipoleChargeModifier::init(const std::string& model, const int&, const std::string&) {
  missing(model);
}

void DipoleChargeModifier::print_summary(const std::string& pre) const {
  deepmd::print_summary(pre);
}

double DipoleChargeModifier::cutoff() const { missing(); }
int DipoleChargeModifier::numb_types() const { missing(); }
const std::vector<int>& DipoleChargeModifier::sel_types() const { missing(); }

template <typename VALUETYPE>
void DipoleChargeModifier::compute(std::vector<VALUETYPE>&, std::vector<VALUETYPE>&,
                                   const std::vector<VALUETYPE>&, const std::vector<int>&,
                                   const std::vector<VALUETYPE>&,
                                   const std::vector<std::pair<int, int>>&,
                                   const std::vector<VALUETYPE>&, const int, const InputNlist&) {
  missing();
}

#define DEEPMD_MODIFIER(T)                                                                         \
  template void DipoleChargeModifier::compute<T>(                                                  \
      std::vector<T>&, std::vector<T>&, const std::vector<T>&, const std::vector<int>&,            \
      const std::vector<T>&, const std::vector<std::pair<int, int>>&, const std::vector<T>&,       \
      const int, const InputNlist&);
DEEPMD_MODIFIER(double)
DEEPMD_MODIFIER(float)

}  // namespace deepmd
