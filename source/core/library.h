// SPDX-License-Identifier: LGPL-3.0-or-later
/** The shared libraries of frameworks, and a model that one of them has opened. */
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "description.h"
#include "discovery.h"
#include "model.h"

namespace deepmd::core {

/** An open model file of a framework: its facts, parsed, and its functions, with exceptions. */
class BackendModel {
 public:
  BackendModel(const std::string& path, const OpenOptions& options);
  ~BackendModel();
  BackendModel(const BackendModel&) = delete;
  BackendModel& operator=(const BackendModel&) = delete;

  const Info& info() const { return info_; }
  const std::vector<Probe>& probes() const { return probes_; }
  bool has_edges() const { return entries_ & DEEPMD_EDGES; }
  /** Whether it takes cotangents of outputs. */
  bool has_cotangents() const { return entries_ & DEEPMD_COTANGENTS; }
  /** Edges in a call that suit the device; 0: those that suit a processor. */
  int64_t chunk_edges() const { return chunk_edges_; }
  /** Edges that are worth a call of their own; 0: calls should be large. */
  int64_t least_edges() const { return least_edges_; }

  void evaluate(const deepmd_edges_request& request) const;
  void evaluate(const deepmd_extended_request& request) const;

 private:
  void open(const std::string& path, const OpenOptions& options, Opener opener);
  void close();
  void read(const deepmd_info& from, const std::string& path);

  deepmd_backend_functions functions_{};
  deepmd_backend_model* model_ = nullptr;
  Info info_;
  std::vector<Probe> probes_;
  uint32_t entries_ = 0;
  int64_t chunk_edges_ = 0, least_edges_ = 0;
};

}  // namespace deepmd::core
