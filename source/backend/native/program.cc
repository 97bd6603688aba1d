// SPDX-License-Identifier: LGPL-3.0-or-later
#include "program.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "../arrays.h"
#include "traced_model.h"

namespace deepmd::native {

namespace {

using nlohmann::json;

/** Some 40 atoms of a liquid: matrix products are still near their full speed. */
constexpr int64_t kLeastEdges = 1 << 12;

/** A message with bytes of a file, which may be anything, as plain text. */
std::string readable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  }
  return text;
}

/** Numbers of an array as JSON; those of components come first with `size` of them. */
json numbers(const Node& node, int64_t size, int64_t width) {
  const std::vector<double> all = node.array().values();
  json found = json::array();
  const auto rows = static_cast<int64_t>(all.size()) / std::max<int64_t>(size * width, 1);
  for (int64_t c = 0; c < size; ++c) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < width; ++k) found.push_back(all[(r * size + c) * width + k]);
    }
  }
  return found;
}

/** The probes of a file in the form of deepmd_info. */
std::string probes_of(const Node& root, const OutputFacts& output) {
  json probes = json::array();
  if (!root.has("probes") || !root["probes"].has("frames")) return "";
  const Node frames = root["probes"]["frames"];
  for (size_t f = 0; f < frames.size(); ++f) {
    const Node arrays = frames[f]["@variables"];
    json probe = json::object();
    for (const char* name : {"coord", "cell", "fparam", "aparam", "charge_spin", "spin"}) {
      if (arrays.has(name)) probe[name] = numbers(arrays[name], 1, 1);
    }
    const std::vector<double> types = arrays["atype"].array().values();
    probe["atype"] = std::vector<int>(types.begin(), types.end());
    if (arrays.has(output.name)) probe["value"] = numbers(arrays[output.name], 1, 1);
    if (output.differentiable && arrays.has("force")) {
      probe["force"] = numbers(arrays["force"], output.size, 3);
    }
    if (output.differentiable && arrays.has("virial")) {
      probe["virial"] = numbers(arrays["virial"], output.size, 9);
    }
    probes.push_back(probe);
  }
  return probes.dump();
}

json json_of(const std::vector<InputFacts>& inputs) {
  json all = json::array();
  for (const InputFacts& one : inputs) {
    all.push_back({{"name", one.name},
                   {"level", one.per_atom ? "atom" : "frame"},
                   {"size", one.size},
                   {"default", one.default_value.empty() ? json() : json(one.default_value)}});
  }
  return all;
}

json json_of(const Packings& packings) {
  json all = json::array();
  for (const Packing& one : packings.all()) {
    all.push_back({{"layout", one.layout},
                   {"ntypes", packings.ntypes()},
                   {"rcut", one.rcut},
                   {"sel", one.sel},
                   {"by_centre", false},
                   {"exclude", one.exclude},
                   {"nearest", one.nearest},
                   {"edge_rcut", 0.0},
                   {"edge_sel", 0}});
  }
  return all;
}

/**
 * Charges and width of a long-range model, in the types of its dipole model.
 *
 * Types that the short-range model does not have are null.
 */
json electrostatics(const Node& whole, const Node& modifier) {
  const json names = modifier["model"]["type_map"].json(), known = whole["type_map"].json();
  const std::vector<double> charges = modifier.numbers("sys_charge_map");
  json atoms = json::array();
  for (const json& name : names) {
    const auto place = std::find(known.begin(), known.end(), name) - known.begin();
    const bool found = place < static_cast<ptrdiff_t>(std::min(charges.size(), known.size()));
    atoms.push_back(found ? json(charges[place]) : json());
  }
  return {{"atoms", atoms},
          {"centroids", modifier.numbers("model_charge_map")},
          {"beta", modifier.number("ewald_beta")}};
}

Chunk chunk_of(const deepmd_edges_request& q) {
  using backend::numbers;
  Chunk chunk;
  chunk.n_edges = q.n_edges;
  chunk.n_atoms = q.n_atoms;
  chunk.n_frames = q.n_frames;
  chunk.threads = q.threads;
  chunk.vec = numbers<double>(q.vec, "vec");
  chunk.i = numbers<int64_t>(q.i, "i");
  chunk.j = numbers<int64_t>(q.j, "j");
  chunk.atype = numbers<int64_t>(q.atype, "atype");
  chunk.frame = numbers<int64_t>(q.frame, "frame");
  for (int32_t k = 0; k < q.n_slots; ++k) {
    const deepmd_array& slot = q.slots[k];
    chunk.slots.push_back(
        {numbers<int64_t>(slot, "a slot"), slot.shape[0], slot.n_dims > 1 ? slot.shape[1] : 1});
  }
  for (int32_t k = 0; k < q.n_inputs; ++k) {
    const deepmd_input input = backend::element(q.inputs, k);
    chunk.inputs[input.name] = numbers<double>(input.data, input.name);
  }
  chunk.n_owned = q.n_owned;
  return chunk;
}

}  // namespace

Program::Program(const deepmd_source& source) {
  try {
    read(read_contents(source), source.scope ? source.scope : "");
  } catch (const Failure& failure) {
    throw Failure(std::string(source.path) + ": " + readable(failure.what()));
  } catch (const json::exception& error) {
    throw Failure(std::string(source.path) + ": the model in the file is damaged (" +
                  readable(error.what()) + "); copy or freeze it again");
  }
}

void Program::read(Contents contents, const std::string& scope) {
  const Dictionary dictionary(std::move(contents));
  const Node root = dictionary.root();
  if (!root.has("model")) {
    if (root.has("models")) root.unknown("a file with the models of several tasks");
    throw Failure("the file holds no model; freeze or convert the model again");
  }
  if (root["model"].text("type", "") == "pairwise_dprc") {
    read_pairwise(root, scope);
  } else {
    read_single(root, scope);
  }
  info_.struct_size = sizeof(info_);
  info_.description = description_.c_str();
  info_.entries = DEEPMD_EDGES | DEEPMD_COTANGENTS;
  if (model_->exchanges()) info_.entries |= DEEPMD_EXCHANGES;
  info_.framework = engine_name();
  info_.least_edges = kLeastEdges;
  info_.probes = probes_.empty() ? nullptr : probes_.c_str();
}

/** Read a model, by its program if there is one. */
void Program::take(const Node& model, const Node* stored) {
  const std::string type = model.text("type", "");
  const bool spin = type == "spin_ener" || type == "spin";
  const Node atomic = spin ? model["backbone_model"] : model;
  Packings packings(static_cast<int64_t>(atomic["type_map"].size()),
                    atomic.pairs("pair_exclude_types"));
  if (stored) {
    model_ = read_traced(*stored, model, atomic, packings);
    description_ =
        (*stored)["metadata"].json().dump(-1, ' ', false, json::error_handler_t::replace);
    return;
  }
  model_ = read_model(atomic, packings);
  describe(atomic, packings);
  if (spin) describe_spins(model["spin"]);
}

/** Read the model of a file, or the one that its modifier needs. */
void Program::read_single(const Node& root, const std::string& scope) {
  const Node whole = root["model"];
  if (!scope.empty() && whole.has("modifier") && whole["modifier"].text("type", "") == scope) {
    take(whole["modifier"]["model"], nullptr);
    json description = json::parse(description_);
    description["electrostatics"] = electrostatics(whole, whole["modifier"]);
    description_ = description.dump(-1, ' ', false, json::error_handler_t::replace);
    return;
  }
  // The program is that of the whole model.
  if (root.has(kOperations)) {
    const Node stored = root[kOperations];
    take(whole, &stored);
  } else {
    take(whole, nullptr);
  }
  probes_ = probes_of(root, model_->output());
}

/**
 * Read one of the two models of a sum over fragments, or, without a scope, what is known of it.
 *
 * The sum itself is made by the core, which opens the file for each of them.
 */
void Program::read_pairwise(const Node& root, const std::string& scope) {
  const Node whole = root["model"];
  const auto read_part = [&](const std::string& name) {
    if (root.has(kOperations) && root[kOperations].has(name)) {
      const Node stored = root[kOperations][name];
      take(whole[name], &stored);
    } else {
      take(whole[name], nullptr);
    }
    return json::parse(description_);
  };
  if (!scope.empty()) {
    if (scope != "qm_model" && scope != "qmmm_model") whole.fail("has no part " + scope);
    (void)read_part(scope);
    return;
  }
  const json qm = read_part("qm_model");
  json all = read_part("qmmm_model");
  all["rcut"] = std::max(qm.at("rcut").get<double>(), all.at("rcut").get<double>());
  if (qm.at("precision") != "float64") all["precision"] = qm.at("precision");
  if (qm.at("message_passing").get<bool>()) {
    for (const char* key : {"message_passing", "interaction_range", "message_range"}) {
      all[key] = qm.at(key);
    }
  }
  all["inputs"].push_back({{"name", "aparam"}, {"level", "atom"}, {"size", 1}, {"default", json()}});
  all["regions"] = true;
  all["region_bias"] = whole.variable("out_bias", all.at("type_map").size());
  description_ = all.dump(-1, ' ', false, json::error_handler_t::replace);
  probes_ = probes_of(root, model_->output());
}

void Program::describe(const Node& model, const Packings& packings) {
  const OutputFacts output = model_->output();
  const Reach reach = model_->reach();
  std::vector<bool> contributing;
  for (int64_t t = 0; t < model_->ntypes(); ++t) contributing.push_back(!model_->hidden(t));
  const json all = {
      {"schema", 1},
      {"type_map", model["type_map"].json()},
      {"rcut", reach.rcut},
      {"interaction_range", reach.rcut},
      {"sel", reach.sel},
      {"inputs", json_of(model_->inputs())},
      {"outputs", json::array({{{"name", output.name},
                                {"level", "atom"},
                                {"size", output.size},
                                {"differentiable", output.differentiable},
                                {"intensive", output.intensive},
                                {"magnetic", false}}})},
      {"packings", json_of(packings)},
      {"core_types", model_->ntypes()},
      {"contributing_types", contributing},
      {"selected_types", model_->selected_types()},
      {"use_spin", json::array()},
      {"spin_scale", json::array()},
      {"precision", model_->single_precision() ? "float32" : "float64"},
      {"message_passing", false},
      {"mixed_types", reach.mixed_types},
  };
  description_ = all.dump(-1, ' ', false, json::error_handler_t::replace);
}

/** Change the description of atoms and partners to that of atoms with spins. */
void Program::describe_spins(const Node& spin) {
  json all = json::parse(description_);
  const auto scale = spin.numbers("virtual_scale");
  std::vector<bool> used;
  for (const auto& one : spin["use_spin"].json()) used.push_back(one.get<bool>());
  json& types = all["type_map"];
  const auto n = static_cast<int64_t>(used.size());
  if (model_->ntypes() != 2 * n || scale.size() != used.size()) {
    spin.fail("does not fit the types of the model");
  }
  types.erase(types.begin() + n, types.end());
  all["use_spin"] = used;
  all["spin_scale"] = scale;
  for (auto& output : all["outputs"]) output["magnetic"] = output["differentiable"];
  json selected = json::array();
  for (const int64_t t : model_->selected_types()) {
    if (t < n) selected.push_back(t);
  }
  all["selected_types"] = selected;
  description_ = all.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::unique_ptr<Work> Program::take_work() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (spare_.empty()) return model_->work();
  std::unique_ptr<Work> work = std::move(spare_.back());
  spare_.pop_back();
  return work;
}

void Program::give_work(std::unique_ptr<Work> work) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  spare_.push_back(std::move(work));
}

void Program::evaluate(const deepmd_edges_request& request) const {
  Chunk chunk = chunk_of(request);
  if (request.n_results < 1) return;
  const deepmd_result result = backend::element(request.results, 0);
  auto* values = backend::numbers<double>(result.value, "a result");
  auto* gradient = backend::numbers<double>(result.gradient, "a result");
  const auto* cotangent = backend::numbers<double>(result.cotangent, "a cotangent");
  const int64_t size = model_->output().size;
  std::vector<double> unwanted;
  if (!values) values = sized(unwanted, chunk.n_atoms * size);
  if (gradient) std::fill_n(gradient, chunk.n_edges * (cotangent ? 1 : size) * 3, 0.0);
  if (model_->takes_cotangents()) chunk.cotangent = cotangent;
  deepmd_exchange exchange{};
  if (request.exchange && chunk.n_owned > 0 && model_->exchanges()) {
    exchange = backend::read(request.exchange);
    chunk.exchange = &exchange;
  }
  std::unique_ptr<Work> work = take_work();
  model_->evaluate(chunk, values, gradient, *work);
  give_work(std::move(work));
  if (!cotangent || !gradient || chunk.cotangent) return;
  // An energy per atom: what its own edges have, times a factor.
  for (int64_t e = 0; e < chunk.n_edges; ++e) {
    for (int64_t a = 0; a < 3; ++a) gradient[3 * e + a] *= cotangent[chunk.i[e]];
  }
}

const char* engine_name() {
  static const std::string name = std::string("native (") + Kernels<double>::get().name + ")";
  return name.c_str();
}

}  // namespace deepmd::native
