// SPDX-License-Identifier: LGPL-3.0-or-later
/** The evaluation entry by edges, whatever file its graph comes from. */
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "graph.h"
#include "model.h"

namespace deepmd::tensorflow_backend {

/** A program with the evaluation entry by edges; files differ in the names of the nodes. */
class EdgesProgram : public Program {
 public:
  void evaluate(const deepmd_edges_request& request) const override;
  using Program::evaluate;

 protected:
  /**
   * @param probes JSON, empty if there are none
   * @param chunk_edges see deepmd_info
   */
  EdgesProgram(std::shared_ptr<const Graph> graph, std::string description, std::string probes,
               int64_t chunk_edges = 0);

  const Graph& graph() const { return *graph_; }

 private:
  /** Placeholder of an input that every model takes: vec, i, j, atype, frame. */
  virtual std::string place(const std::string& name) const = 0;
  /** Placeholder of a further input of frames or atoms. */
  virtual std::string input(const std::string& name, bool of_atoms) const = 0;
  virtual std::string slot(int32_t k) const = 0;
  /** Output of a node: values of an output of the model, or "<name>_grad". */
  virtual std::string result(const std::string& name) const = 0;

  std::shared_ptr<const Graph> graph_;
};

}  // namespace deepmd::tensorflow_backend
