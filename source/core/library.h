// SPDX-License-Identifier: LGPL-3.0-or-later
/** The shared libraries of frameworks, and a model that one of them has opened. */
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "discovery.h"
#include "model.h"
#include "packing.h"

namespace deepmd::core {

/** A small frame with results that came with a model. */
struct Probe {
  int64_t natoms = 0;
  std::vector<double> coord, cell;  ///< empty: none
  std::vector<int> atype;
  std::vector<double> value, force, virial;  ///< of the first output; empty: unknown
  std::map<std::string, std::vector<double>> inputs;

  /** Value of an input, or null. */
  const double* input(const std::string& name) const {
    const auto found = inputs.find(name);
    return found == inputs.end() ? nullptr : found->second.data();
  }
};

/** An open model file of a framework: its facts, copied, and its functions, with exceptions. */
class BackendModel {
 public:
  BackendModel(const std::string& path, const OpenOptions& options);
  ~BackendModel();
  BackendModel(const BackendModel&) = delete;
  BackendModel& operator=(const BackendModel&) = delete;

  const Info& info() const { return info_; }
  const std::vector<Packing>& packings() const { return packings_; }
  const std::vector<Probe>& probes() const { return probes_; }
  bool has_edges() const { return entries_ & DEEPMD_EDGES; }
  bool mixed_types() const { return mixed_types_; }
  /** Edges in a call that suit the device; 0: those that suit a processor. */
  int64_t chunk_edges() const { return chunk_edges_; }

  void evaluate(const deepmd_edges_request& request) const;
  void evaluate(const deepmd_extended_request& request) const;

 private:
  void open(const std::string& path, const OpenOptions& options);
  void copy_info(const deepmd_info& from);
  void copy_spins(const deepmd_info& from);
  void copy_packings(const deepmd_info& from);
  void copy_probes(const deepmd_info& from);

  const deepmd_backend_functions functions_;
  deepmd_backend_model* model_ = nullptr;
  Info info_;
  std::vector<Packing> packings_;
  std::vector<Probe> probes_;
  uint32_t entries_ = 0;
  bool mixed_types_ = false;
  int64_t chunk_edges_ = 0;
};

}  // namespace deepmd::core
