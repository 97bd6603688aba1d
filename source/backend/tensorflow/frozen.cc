// SPDX-License-Identifier: LGPL-3.0-or-later
/** Frozen graphs, .pb: the evaluation entry by edges, as deepmd/tf/graph.py writes it. */
#include <algorithm>

#include "../graph_digest.h"
#include "../protobuf.h"
#include "edges.h"

namespace deepmd::tensorflow_backend {

using backend::all_of;
using backend::bytes_of;
using backend::check_digest;
using backend::Field;
using backend::fields;
using backend::put;

namespace {

std::string text_of(const Graph& graph, const std::string& node) {
  const auto texts = graph.constant(node).texts();
  if (texts.size() != 1) throw Failure("the node " + node + " is no text; freeze it again");
  return texts.front();
}

/**
 * The graph without the neutral model, which Python reads.
 *
 * TensorFlow keeps several copies of a graph; the arrays of the model are half of it.
 */
std::string program_of(std::string_view graph) {
  std::string program;
  for (const Field& field : fields(graph)) {
    const std::string_view name = field.number == 1 ? bytes_of(field.bytes, 1) : "";
    if (name == "deepmd/model" || name == "deepmd/arrays") continue;
    if (field.bytes.data() == nullptr) {
      put(program, field.number, field.value);
    } else {
      put(program, field.number, field.bytes);
    }
  }
  return program;
}

class Frozen : public EdgesProgram {
 public:
  explicit Frozen(const std::shared_ptr<const Graph>& graph)
      : EdgesProgram(graph, text_of(*graph, "deepmd/metadata"),
                     graph->has("deepmd/probes") ? text_of(*graph, "deepmd/probes") : "") {}

 private:
  std::string place(const std::string& name) const override { return "deepmd/" + name; }
  std::string input(const std::string& name, bool of_atoms) const override {
    return (of_atoms ? "deepmd/atom_inputs/" : "deepmd/frame_inputs/") + name;
  }
  std::string slot(int32_t k) const override { return "deepmd/slots/" + std::to_string(k); }
  std::string result(const std::string& name) const override { return "deepmd/out/" + name; }
};

}  // namespace

std::shared_ptr<Program> open_frozen(std::string content) {
  const auto is_ours = [](const std::string& graph) {
    const auto nodes = all_of(graph, 1);
    return std::any_of(nodes.begin(), nodes.end(), [](std::string_view node) {
      return bytes_of(node, 1) == "deepmd/metadata";
    });
  };
  // Those of DeePMD-kit are told apart before their operators are looked at.
  if (!is_ours(content)) {
    throw Failure(
        "this graph has no evaluation entry of this project; a model of DeePMD-kit's "
        "TensorFlow backend can be converted: dp convert-backend model.pb model.pth");
  }
  if (!bytes_of(content, 2).empty()) {
    throw Failure("the graph in the file calls functions, which no model needs; freeze it again");
  }
  check_operators(content, 1);
  check_digest(content);
  content = program_of(content);
  return std::make_shared<Frozen>(std::make_shared<Graph>(content));
}

}  // namespace deepmd::tensorflow_backend
