// SPDX-License-Identifier: LGPL-3.0-or-later
/** The description of a model and its probes, from the JSON that files hold; see backend.h. */
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model.h"

namespace deepmd::core {

/** A small frame with results that came with a model. */
struct Probe {
  int64_t natoms = 0;
  std::vector<double> coord, cell, spin;  ///< empty: none
  std::vector<int> atype;
  std::vector<double> value, force, virial;  ///< of the first output; empty: unknown
  std::map<std::string, std::vector<double>> inputs;

  /** Value of an input, or null. */
  const double* input(const std::string& name) const {
    const auto found = inputs.find(name);
    return found == inputs.end() ? nullptr : found->second.data();
  }
};

/**
 * Facts of a model, from its JSON text.
 *
 * @param path named in messages
 * @param edges whether the model is evaluated by edges, with packings
 * @throws deepmd::deepmd_exception for a later version, and for what no model can have
 */
Info read_description(const std::string& text, const std::string& path, bool edges);

/** Probes of a model, from their JSON text. */
std::vector<Probe> read_probes(const std::string& text, const Info& info);

}  // namespace deepmd::core
