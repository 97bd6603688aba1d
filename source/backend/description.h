// SPDX-License-Identifier: LGPL-3.0-or-later
/** Description of a model that comes without one, for backends that open files of other origin. */
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace deepmd::backend {

/** Facts of a model that is evaluated by EXTENDED; what a file does not tell has its default. */
struct Description {
  struct Input {
    std::string name;
    bool per_atom;
    int64_t size;
    std::vector<double> default_value;  ///< empty: required
  };
  struct Output {
    std::string name;
    int64_t size;
    bool differentiable;
    bool intensive;
  };

  std::vector<std::string> type_map;
  double rcut = 0.0;
  std::vector<int64_t> sel;
  std::vector<Input> inputs;
  std::vector<Output> outputs;
  std::vector<int64_t> sel_type;
  std::vector<bool> use_spin;
  std::vector<double> spin_scale;
  bool message_passing = false;
  bool mixed_types = true;

  /** Add an input unless its size is 0. */
  void add_input(const std::string& name, bool per_atom, int64_t size,
                 std::vector<double> default_value = {}) {
    if (size <= 0) return;
    // A file may have a default that it does not tell.
    if (static_cast<int64_t>(default_value.size()) != size) default_value.clear();
    inputs.push_back({name, per_atom, size, std::move(default_value)});
  }

  /** The text of deepmd_info::description. */
  std::string to_json() const {
    using nlohmann::json;
    json in = json::array(), out = json::array();
    for (const Input& i : inputs) {
      in.push_back({{"name", i.name},
                    {"level", i.per_atom ? "atom" : "frame"},
                    {"size", i.size},
                    {"default", i.default_value.empty() ? json() : json(i.default_value)}});
    }
    for (const Output& o : outputs) {
      out.push_back({{"name", o.name},
                     {"level", "atom"},
                     {"size", o.size},
                     {"differentiable", o.differentiable},
                     {"intensive", o.intensive},
                     {"magnetic", !use_spin.empty() && o.differentiable}});
    }
    const json all = {
        {"schema", 1},
        {"type_map", type_map},
        {"rcut", rcut},
        // Messages travel an unknown number of steps: no more is said than that it is finite.
        {"interaction_range", rcut},
        {"sel", sel},
        {"inputs", in},
        {"outputs", out},
        {"packings", json::array()},
        {"core_types", type_map.size()},
        {"contributing_types", std::vector<bool>(type_map.size(), true)},
        {"selected_types", sel_type},
        {"use_spin", use_spin},
        {"spin_scale", spin_scale},
        {"precision", "float64"},
        {"message_passing", message_passing},
        {"mixed_types", mixed_types},
    };
    // File names and types of users may be no UTF-8.
    return all.dump(-1, ' ', false, json::error_handler_t::replace);
  }
};

}  // namespace deepmd::backend
