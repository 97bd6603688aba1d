// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Models with spins: an atomic model of atoms and their virtual partners.
 *
 * Atom k is number 2k and its partner, displaced along the spin, number 2k + 1; see
 * deepmd/dpmodel/model/spin.py.
 */
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "core/packing.h"
#include "model.h"

namespace deepmd::native {

/** Atoms and partners of one request, with the arrays that chunks point to. */
struct Sites {
  std::vector<int64_t> i, j, atype, frame;
  std::vector<int64_t> from, to;  ///< of every edge the places among the extended atoms, times 2
  std::vector<double> vec, r2, between;
  std::vector<double> displacement, aparam, cotangent;
  core::Packer packer;
  Chunk chunk;
};

class Spins {
 public:
  /** `node` is the dictionary of the model; throws Failure. */
  Spins(const Node& node, const AtomicModel& model);

  /** Change the description of the atomic model to that of atoms with spins. */
  void describe(nlohmann::json& description) const;
  /** Tables that the atomic model asks for, from its description. */
  void read_packings(const nlohmann::json& description);

  /** Find the pairs of atoms and partners. */
  void expand(const deepmd_extended_request& request, Sites& sites) const;
  /** Give the results of atoms and partners to the atoms. */
  void fold(const deepmd_extended_request& request, const Sites& sites, const double* values,
            const double* gradient) const;

 private:
  struct Frame;
  void add_pairs(const Frame& frame, int64_t center, Sites& sites) const;
  void add_edge(const Frame& frame, int64_t from, int64_t to, const double* between,
                Sites& sites) const;
  void add_atoms(const Frame& frame, const deepmd_extended_request& request, Sites& sites) const;

  const AtomicModel& model_;
  int64_t ntypes_;
  std::vector<bool> use_spin_;
  std::vector<double> scale_;
  double rcut_ = 0.0;
  bool message_passing_ = false;
  std::vector<core::Packing> packings_;
};

}  // namespace deepmd::native
