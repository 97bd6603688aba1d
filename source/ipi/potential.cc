// SPDX-License-Identifier: LGPL-3.0-or-later
#include "potential.h"

#include <deepmd/c_api.h>

#include <sstream>

#include "error.h"

namespace deepmd::ipi {
namespace {

/** A string of the C interface, which belongs to the caller. */
std::string own(const char* text) {
  std::string copy = text;
  DP_DeleteChar(text);
  return copy;
}

double volume(const std::array<double, 9>& c) {
  return c[0] * (c[4] * c[8] - c[5] * c[7]) - c[1] * (c[3] * c[8] - c[5] * c[6]) +
         c[2] * (c[3] * c[7] - c[4] * c[6]);
}

/** The model's own numbers of its types. */
std::map<std::string, int> type_map(DP_DeepPot* model) {
  std::map<std::string, int> types;
  std::istringstream names(own(DP_DeepPotGetTypeMap(model)));
  std::string name;
  while (names >> name) {
    types.emplace(name, static_cast<int>(types.size()));
  }
  return types;
}

}  // namespace

void Potential::Delete::operator()(DP_DeepPot* model) const { DP_DeleteDeepPot(model); }

Potential::Potential(const Settings& settings)
    : path_(settings.graph_file),
      model_(DP_NewDeepPotWithParam2(settings.graph_file.c_str(), 0, nullptr, 0)) {
  throw_if_failed();
  check_model();
  const auto types = settings.atom_type.empty() ? type_map(model_.get()) : settings.atom_type;
  const int ntypes = DP_DeepPotGetNumbTypes(model_.get());
  for (const auto& [name, type] : types) {
    if (type >= ntypes) {
      throw Error("atom_type/" + name + ": " + std::to_string(type) + ", but " + path_ + " has " +
                  std::to_string(ntypes) + " types, counted from 0");
    }
  }
  for (const std::string& name : read_names(settings.coord_file)) {
    const auto found = types.find(name);
    if (found == types.end()) {
      throw Error(settings.coord_file + ": atom \"" + name +
                  "\" has no type; add it to atom_type of the input");
    }
    types_.push_back(found->second);
  }
}

void Potential::check_model() const {
  const bool fparam = DP_DeepPotGetDimFParam(model_.get()) > 0;
  if ((fparam && !DP_DeepPotHasDefaultFParam(model_.get())) ||
      DP_DeepPotGetDimAParam(model_.get()) > 0) {
    throw Error(path_ + ": the model wants " + (fparam ? "frame" : "atom") +
                " parameters, which i-PI does not send; use a model without, or with default ones");
  }
}

void Potential::throw_if_failed() const {
  const std::string message = own(DP_DeepPotCheckOK(model_.get()));
  if (!message.empty()) {
    throw Error(message);
  }
}

Result Potential::evaluate(const std::vector<double>& coord, const std::array<double, 9>& cell) {
  Result result;
  result.forces.resize(coord.size());
  DP_DeepPotCompute2(model_.get(), 1, static_cast<int>(natoms()), coord.data(), types_.data(),
                     volume(cell) == 0.0 ? nullptr : cell.data(), nullptr, nullptr, &result.energy,
                     result.forces.data(), result.virial.data(), nullptr, nullptr);
  throw_if_failed();
  return result;
}

}  // namespace deepmd::ipi
