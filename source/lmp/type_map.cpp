// SPDX-License-Identifier: LGPL-3.0-or-later
#include "type_map.h"

#include <algorithm>

#include "model.h"

namespace deepmd_lmp {
namespace {

/** "type 3 is" or "types 3 to 5 are" */
std::string from_to(size_t first, size_t last) {
  if (first == last) return "type " + std::to_string(first) + " is";
  return "types " + std::to_string(first) + " to " + std::to_string(last) + " are";
}

}  // namespace

TypeMap::TypeMap(const std::vector<std::string>& names, int ntypes,
                 const std::vector<std::string>& known, const std::string& path)
    : model_type(ntypes + 1, -1) {
  const size_t count = ntypes;
  if (names.size() > count) {
    throw Failure("pair_coeff: " + std::to_string(names.size()) + " names for " +
                  std::to_string(count) + " types");
  }
  if (names.empty()) {
    for (size_t t = 1; t <= std::min(count, known.size()); ++t) {
      model_type[t] = static_cast<int>(t) - 1;
    }
    if (count < known.size()) {
      note = "pair_coeff * *: " + from_to(1, count) + " taken for the first of " + join(known);
    } else if (count > known.size()) {
      note = "pair_coeff * *: " + from_to(known.size() + 1, count) +
             " ignored by the model, which has only " + join(known);
    }
    return;
  }
  for (size_t t = 1; t <= names.size(); ++t) {
    const std::string& name = names[t - 1];
    if (name == "NULL") continue;
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end()) {
      throw Failure("pair_coeff: " + path + " does not know " + name + "; it has " + join(known));
    }
    model_type[t] = static_cast<int>(found - known.begin());
  }
  for (size_t t = names.size() + 1; t <= count; ++t) unnamed.push_back(static_cast<int>(t));
  if (!unnamed.empty()) {
    note = "pair_coeff: " + from_to(names.size() + 1, count) +
           " ignored by the model; write NULL to say so";
  }
}

}  // namespace deepmd_lmp
