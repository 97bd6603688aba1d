// SPDX-License-Identifier: LGPL-3.0-or-later
#include "edges.h"

namespace deepmd::tensorflow_backend {

EdgesProgram::EdgesProgram(std::shared_ptr<const Graph> graph, std::string description,
                           std::string probes, int64_t chunk_edges)
    : graph_(std::move(graph)) {
  description_ = std::move(description);
  probes_ = std::move(probes);
  set_info(DEEPMD_EDGES, chunk_edges);
}

void EdgesProgram::evaluate(const deepmd_edges_request& q) const {
  Named inputs;
  const auto give = [&](const std::string& node, Tensor tensor) {
    // The graph has no place for what the model does not use.
    if (graph_->has(node)) inputs.emplace_back(node, std::move(tensor));
  };
  give(place("vec"), Tensor::view<double>(q.vec, "vec"));
  give(place("i"), Tensor::view<int64_t>(q.i, "i"));
  give(place("j"), Tensor::view<int64_t>(q.j, "j"));
  give(place("atype"), Tensor::view<int64_t>(q.atype, "atype"));
  give(place("frame"), Tensor::view<int64_t>(q.frame, "frame"));
  for (int32_t k = 0; k < q.n_inputs; ++k) {
    const deepmd_input one = backend::element(q.inputs, k);
    give(input(one.name, one.level == DEEPMD_ATOM), Tensor::view<double>(one.data, one.name));
  }
  for (int32_t k = 0; k < q.n_slots; ++k) {
    give(slot(k), Tensor::view<int64_t>(q.slots[k], "a slot"));
  }
  std::vector<std::string> nodes;
  std::vector<deepmd_array> targets;
  const auto want = [&](const std::string& name, const deepmd_array& target) {
    if (target.data == nullptr) return;
    nodes.push_back(result(name));
    targets.push_back(target);
  };
  for (int32_t k = 0; k < q.n_results; ++k) {
    const deepmd_result one = backend::element(q.results, k);
    want(one.name, one.value);
    want(std::string(one.name) + "_grad", one.gradient);
  }
  const std::vector<Tensor> results = graph_->run(inputs, nodes, q.threads);
  for (size_t k = 0; k < results.size(); ++k) results[k].copy_to(targets[k]);
}

}  // namespace deepmd::tensorflow_backend
