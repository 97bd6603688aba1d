// SPDX-License-Identifier: LGPL-3.0-or-later
/** Frozen graphs, .pb: the evaluation entry by edges, as deepmd/tf/graph.py writes it. */
#include <algorithm>

#include "digest.h"
#include "graph.h"
#include "protobuf.h"

namespace deepmd::tensorflow_backend {
namespace {

class Frozen : public Program {
 public:
  explicit Frozen(const std::string& content) : graph_(content) {
    description_ = text("deepmd/metadata");
    if (graph_.has("deepmd/probes")) probes_ = text("deepmd/probes");
    set_info(DEEPMD_EDGES);
  }

  void evaluate(const deepmd_edges_request& q) const override {
    Named inputs;
    const auto give = [&](const std::string& name, Tensor tensor) {
      // The graph has no place for what the model does not use.
      if (graph_.has(name)) inputs.emplace_back(name, std::move(tensor));
    };
    give("deepmd/vec", Tensor::view<double>(q.vec, "vec"));
    give("deepmd/i", Tensor::view<int64_t>(q.i, "i"));
    give("deepmd/j", Tensor::view<int64_t>(q.j, "j"));
    give("deepmd/atype", Tensor::view<int64_t>(q.atype, "atype"));
    give("deepmd/frame", Tensor::view<int64_t>(q.frame, "frame"));
    for (int32_t k = 0; k < q.n_inputs; ++k) {
      const deepmd_input input = backend::element(q.inputs, k);
      const std::string room = input.level == DEEPMD_ATOM ? "atom_inputs/" : "frame_inputs/";
      give("deepmd/" + room + input.name, Tensor::view<double>(input.data, input.name));
    }
    for (int32_t k = 0; k < q.n_slots; ++k) {
      give("deepmd/slots/" + std::to_string(k), Tensor::view<int64_t>(q.slots[k], "a slot"));
    }
    std::vector<std::string> names;
    std::vector<deepmd_array> targets;
    const auto want = [&](const std::string& name, const deepmd_array& target) {
      if (target.data == nullptr) return;
      names.push_back("deepmd/out/" + name);
      targets.push_back(target);
    };
    for (int32_t k = 0; k < q.n_results; ++k) {
      const deepmd_result result = backend::element(q.results, k);
      want(result.name, result.value);
      want(std::string(result.name) + "_grad", result.gradient);
    }
    const std::vector<Tensor> results = graph_.run(inputs, names, q.threads);
    for (size_t k = 0; k < results.size(); ++k) results[k].copy_to(targets[k]);
  }

 private:
  std::string text(const std::string& node) const {
    const auto texts = graph_.constant(node).texts();
    if (texts.size() != 1) throw Failure("the node " + node + " is no text; freeze it again");
    return texts.front();
  }

  Graph graph_;
};

}  // namespace

std::shared_ptr<Program> open_frozen(const std::string& content) {
  const auto nodes = all_of(content, 1);
  // Those of DeePMD-kit are told apart before their operators are looked at.
  if (std::none_of(nodes.begin(), nodes.end(),
                   [](std::string_view node) { return bytes_of(node, 1) == "deepmd/metadata"; })) {
    throw Failure(
        "this graph has no evaluation entry of this project; a model of DeePMD-kit's "
        "TensorFlow backend can be converted: dp convert-backend model.pb model.pth");
  }
  if (!bytes_of(content, 2).empty()) {
    throw Failure("the graph in the file calls functions, which no model needs; freeze it again");
  }
  check_operators(content, 1, /*functions=*/false);
  check_digest(content);
  return std::make_shared<Frozen>(content);
}

}  // namespace deepmd::tensorflow_backend
