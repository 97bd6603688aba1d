// SPDX-License-Identifier: LGPL-3.0-or-later
#include "dplr_settings.h"

#include <climits>
#include <cstdlib>
#include <map>

#include "model.h"

namespace deepmd_lmp {
namespace {

using Words = std::vector<std::string>;

/** Words that follow each keyword. */
std::map<std::string, Words> by_keyword(const Words& words) {
  static const Words known = {"model", "type_associate", "bond_type", "efield",
                              "pair_deepmd_index"};
  std::map<std::string, Words> found;
  std::string name;
  for (const std::string& word : words) {
    bool keyword = false;
    for (const std::string& other : known) keyword = keyword || other == word;
    if (keyword) {
      if (found.count(word)) throw Failure(word + " stands there twice");
      name = word;
      found[name];
    } else if (name.empty()) {
      throw Failure("unknown keyword \"" + word + "\"; keywords are " + join(known));
    } else {
      found[name].push_back(word);
    }
  }
  return found;
}

std::vector<int> indices(const std::string& name, const Words& words) {
  std::vector<int> values;
  for (const std::string& word : words) {
    char* end = nullptr;
    const long value = std::strtol(word.c_str(), &end, 10);
    if (*end || value < 1 || value > INT_MAX) {
      throw Failure(name + ": \"" + word + "\" is no number from 1 on");
    }
    values.push_back(static_cast<int>(value));
  }
  return values;
}

void read_field(const Words& words, DplrSettings& settings) {
  if (words.size() != 3) throw Failure("efield wants three numbers or variables: efield Ex Ey Ez");
  settings.has_field = true;
  for (int d = 0; d < 3; ++d) {
    char* end = nullptr;
    std::strtod(words[d].c_str(), &end);
    if (*end && words[d].compare(0, 2, "v_") != 0) {
      throw Failure("efield: \"" + words[d] + "\" is neither a number nor v_name");
    }
    settings.field[d] = words[d];
  }
}

}  // namespace

DplrSettings parse_dplr_settings(int narg, char** arg) {
  auto given = by_keyword({arg, arg + narg});
  DplrSettings settings;
  for (const char* name : {"model", "type_associate", "bond_type"}) {
    if (!given.count(name)) {
      throw Failure(std::string(name) +
                    " is missing: fix ID all dplr model FILE type_associate ATOM CENTROID ... "
                    "bond_type B ...");
    }
  }
  if (given["model"].size() != 1) throw Failure("model wants one file");
  settings.model = given["model"][0];
  const std::vector<int> types = indices("type_associate", given["type_associate"]);
  if (types.empty() || types.size() % 2) {
    throw Failure("type_associate wants pairs of types, of an atom and of its centroid");
  }
  for (size_t k = 0; k < types.size(); k += 2) {
    settings.associated.emplace_back(types[k], types[k + 1]);
  }
  settings.bond_types = indices("bond_type", given["bond_type"]);
  if (settings.bond_types.empty()) throw Failure("bond_type wants types of bonds");
  if (given.count("efield")) read_field(given["efield"], settings);
  if (given.count("pair_deepmd_index")) {
    const auto index = indices("pair_deepmd_index", given["pair_deepmd_index"]);
    if (index.size() != 1) throw Failure("pair_deepmd_index wants one number");
    settings.pair_index = index[0];
  }
  return settings;
}

}  // namespace deepmd_lmp
