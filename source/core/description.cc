// SPDX-License-Identifier: LGPL-3.0-or-later
#include "description.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "error.h"

namespace deepmd::core {

namespace {

using nlohmann::json;

constexpr int kSchema = 1;
/** More neighbors, components or parameters than this are damage, not physics. */
constexpr int64_t kLargest = int64_t{1} << 30;

/** What is wrong with a description, for the message. */
struct Damage : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** Value of a key that must be there. */
template <class T>
T get(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) throw Damage(std::string("\"") + key + "\" is missing");
  try {
    return found->get<T>();
  } catch (const json::exception&) {
    throw Damage(std::string("\"") + key + "\" is " + found->dump().substr(0, 60));
  }
}

/** A number that sizes are made of. */
int64_t size(const json& object, const char* key) {
  const auto value = get<int64_t>(object, key);
  if (value < 0 || value > kLargest) {
    throw Damage(std::string("\"") + key + "\" is " + std::to_string(value));
  }
  return value;
}

std::vector<int64_t> sizes(const json& object, const char* key) {
  auto values = get<std::vector<int64_t>>(object, key);
  for (const int64_t value : values) {
    if (value < 0 || value > kLargest) {
      throw Damage(std::string("\"") + key + "\" holds " + std::to_string(value));
    }
  }
  return values;
}

/** A list with an entry for each of n types. */
template <class T>
std::vector<T> per_type(const json& object, const char* key, size_t n) {
  auto values = get<std::vector<T>>(object, key);
  if (values.size() < n) {
    throw Damage(std::string("\"") + key + "\" has " + std::to_string(values.size()) +
                 " entries for " + std::to_string(n) + " types");
  }
  values.resize(n);  // a core may know more types
  return values;
}

bool is_of_atoms(const json& object) {
  const auto level = get<std::string>(object, "level");
  if (level != "atom" && level != "frame") throw Damage("\"level\" is \"" + level + "\"");
  return level == "atom";
}

Output read_output(const json& from) {
  Output output{get<std::string>(from, "name"), size(from, "size"),
                get<bool>(from, "differentiable"), get<bool>(from, "intensive")};
  if (!is_of_atoms(from) || output.size < 1) {
    throw Damage("the output \"" + output.name + "\" has no numbers per atom");
  }
  return output;
}

Input read_input(const json& from) {
  Input input{get<std::string>(from, "name"), is_of_atoms(from), size(from, "size"), {}};
  const auto value = from.find("default");
  if (value != from.end() && !value->is_null()) {
    input.default_value = get<std::vector<double>>(from, "default");
    if (static_cast<int64_t>(input.default_value.size()) != input.size) {
      throw Damage("the default of \"" + input.name + "\" has another size than it");
    }
  }
  return input;
}

Packing read_packing(const json& from, int64_t ntypes) {
  static const std::array<const char*, 6> layouts = {"typed",  "mixed",   "flat",
                                                     "angles", "centres", "first_type"};
  const auto name = get<std::string>(from, "layout");
  const auto known = std::find(layouts.begin(), layouts.end(), name);
  if (known == layouts.end()) {
    throw Damage("neighbors are wanted in the form \"" + name + "\", which is not known here");
  }
  Packing packing;
  packing.layout = static_cast<Layout>(known - layouts.begin());
  packing.ntypes = size(from, "ntypes");
  packing.rcut = get<double>(from, "rcut");
  packing.sel = sizes(from, "sel");
  packing.by_centre = get<bool>(from, "by_centre");
  packing.exclude = get<std::vector<std::pair<int, int>>>(from, "exclude");
  packing.nearest = size(from, "nearest");
  packing.edge_rcut = get<double>(from, "edge_rcut");
  packing.edge_sel = size(from, "edge_sel");
  const bool typed = packing.layout == Layout::typed;
  if (packing.ntypes != ntypes ||
      (typed && static_cast<int64_t>(packing.sel.size()) != packing.ntypes)) {
    throw Damage("a packing is for another number of types");
  }
  for (const auto& [a, b] : packing.exclude) {
    if (a < 0 || b < 0 || a >= ntypes || b >= ntypes) {
      throw Damage("a pair of excluded types is out of range");
    }
  }
  return packing;
}

void read_spins(const json& from, Info& info) {
  const size_t n = info.type_map.size();
  info.has_spin = !get<std::vector<bool>>(from, "use_spin").empty();
  if (!info.has_spin) return;
  info.use_spin = per_type<bool>(from, "use_spin", n);
  info.spin_scale = per_type<double>(from, "spin_scale", n);
  // Spins come with the positions, not with the other inputs.
  const auto spins = [](const Input& input) { return input.name == "spin"; };
  info.inputs.erase(std::remove_if(info.inputs.begin(), info.inputs.end(), spins),
                    info.inputs.end());
}

/** Refuse a core that is not one of n types in all, atoms and partners without values. */
void check_core(const json& from, int64_t n) {
  const auto contributing = per_type<bool>(from, "contributing_types", static_cast<size_t>(n));
  if (size(from, "core_types") != n ||
      std::any_of(contributing.begin() + n / 2, contributing.end(), [](bool b) { return b; })) {
    throw Damage("its virtual atoms are other ones than spins need");
  }
}

/** Charges of a long-range model around the model, where it is the one of its dipoles. */
void read_electrostatics(const json& from, Info& info) {
  if (!from.contains("electrostatics")) return;
  const auto charges = get<json>(from, "electrostatics");
  Electrostatics& known = info.electrostatics;
  for (const json& one : get<json>(charges, "atoms")) {
    known.atoms.push_back(one.is_null() ? std::nan("") : one.get<double>());
  }
  known.centroids = get<std::vector<double>>(charges, "centroids");
  known.beta = get<double>(charges, "beta");
  const size_t n = info.type_map.size();
  const size_t selected = info.sel_type.empty() ? n : info.sel_type.size();
  if (known.atoms.size() != n || known.centroids.size() != selected || !(known.beta > 0.0)) {
    throw Damage("\"electrostatics\" does not fit the types");
  }
}

Info read_info(const json& from, bool edges) {
  Info info;
  info.type_map = get<std::vector<std::string>>(from, "type_map");
  info.rcut = get<double>(from, "rcut");
  info.sel = sizes(from, "sel");
  for (const json& output : get<json>(from, "outputs")) info.outputs.push_back(read_output(output));
  for (const json& input : get<json>(from, "inputs")) info.inputs.push_back(read_input(input));
  const auto n = static_cast<int64_t>(info.type_map.size());
  if (n == 0 || info.outputs.empty() || !(info.rcut > 0.0) || !std::isfinite(info.rcut)) {
    throw Damage("the model has no types, no cutoff or no output");
  }
  // A model that passes messages gets all atoms at once, however far its messages go.
  info.message_passing = get<bool>(from, "message_passing");
  if (get<json>(from, "interaction_range").is_null() && !info.message_passing) {
    throw Damage("its interactions have no range, which this library cannot evaluate");
  }
  info.sel_type = get<std::vector<int>>(from, "selected_types");
  for (const int t : info.sel_type) {
    if (t < 0 || t >= n) throw Damage("\"selected_types\" holds " + std::to_string(t));
  }
  // All of them is the same as none named.
  if (static_cast<int64_t>(info.sel_type.size()) == n) info.sel_type.clear();
  info.contributing = per_type<bool>(from, "contributing_types", info.type_map.size());
  // Files of earlier releases do not say it: the messages may have come from a cutoff farther.
  if (info.message_passing) {
    const char* key = from.contains("message_range") ? "message_range" : "interaction_range";
    const bool known = !get<json>(from, key).is_null();
    info.message_range = known ? get<double>(from, key) : std::numeric_limits<double>::infinity();
    if (!(info.message_range >= 0.0)) {
      throw Damage("\"message_range\" is no distance");
    }
  }
  info.mixed_types = get<bool>(from, "mixed_types");
  info.single_precision = get<std::string>(from, "precision") != "float64";
  read_electrostatics(from, info);
  read_spins(from, info);
  info.regions = from.contains("regions") && get<bool>(from, "regions");
  if (from.contains("region_bias")) {
    info.region_bias = per_type<double>(from, "region_bias", info.type_map.size());
  }
  if (!edges) return info;
  if (info.has_spin) check_core(from, 2 * n);
  const int64_t n_core = info.has_spin ? 2 * n : n;
  for (const json& p : get<json>(from, "packings")) {
    info.packings.push_back(read_packing(p, n_core));
  }
  return info;
}

/** Parse JSON and read it; what is wrong becomes a message about the file. */
template <class Read>
auto reading(const std::string& text, const std::string& path, const char* what, const Read& read) {
  const auto damaged = [&](const char* problem) {
    fail(path, std::string(what) + " cannot be read (" + problem + ")",
         "freeze or convert the model again with this release");
  };
  try {
    return read(json::parse(text));
  } catch (const Damage& damage) {
    damaged(damage.what());
  } catch (const json::exception& error) {
    damaged(error.what());
  }
  throw Damage(what);  // not reached
}

/** Numbers of nested lists. */
template <class T>
void flatten(const json& from, std::vector<T>& to) {
  if (from.is_array()) {
    for (const json& item : from) flatten(item, to);
  } else {
    to.push_back(from.get<T>());
  }
}

template <class T>
std::vector<T> numbers(const json& frame, const std::string& key) {
  std::vector<T> found;
  const auto value = frame.find(key);
  if (value != frame.end() && !value->is_null()) flatten(*value, found);
  return found;
}

Probe read_probe(const json& from, const Info& info) {
  Probe probe;
  probe.atype = numbers<int>(from, "atype");
  probe.natoms = static_cast<int64_t>(probe.atype.size());
  const auto n = static_cast<size_t>(probe.natoms);
  const auto components = static_cast<size_t>(info.outputs.front().size);
  const auto array = [&](const std::string& key, size_t count) {
    auto found = numbers<double>(from, key);
    if (!found.empty() && found.size() != count) {
      throw Damage("\"" + key + "\" has " + std::to_string(found.size()) + " numbers, not " +
                   std::to_string(count));
    }
    return found;
  };
  probe.coord = array("coord", 3 * n);
  probe.cell = array("cell", 9);
  probe.value = array("value", components);
  probe.force = array("force", components * n * 3);
  probe.virial = array("virial", components * 9);
  if (info.has_spin) probe.spin = array("spin", 3 * n);
  for (const Input& input : info.inputs) {
    const size_t rows = input.per_atom ? n : 1;
    const auto value = array(input.name, rows * static_cast<size_t>(input.size));
    if (!value.empty()) probe.inputs[input.name] = value;
  }
  if (info.has_spin) probe.inputs["spin"] = array("spin", 3 * n);
  if (probe.coord.size() != 3 * n) throw Damage("a frame has no coordinates");
  return probe;
}

}  // namespace

Info read_description(const std::string& text, const std::string& path, bool edges) {
  Info info = reading(text, path, "the description of the model", [&](const json& from) {
    const auto schema = get<int>(from, "schema");
    if (schema != kSchema) {
      fail(path,
           "the description of the model has version " + std::to_string(schema) + "; " +
               std::to_string(kSchema) + " is read here",
           "freeze the model again with this release, or read it with a later one");
    }
    return read_info(from, edges);
  });
  info.path = path;
  return info;
}

std::vector<Probe> read_probes(const std::string& text, const Info& info) {
  return reading(text, info.path, "the frames with results in the file", [&](const json& from) {
    std::vector<Probe> probes;
    for (const json& frame : from) probes.push_back(read_probe(frame, info));
    return probes;
  });
}

}  // namespace deepmd::core
