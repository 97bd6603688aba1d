// SPDX-License-Identifier: LGPL-3.0-or-later
/** Evaluation: tensors are views of the caller's memory. */
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "program.h"

namespace deepmd::torch_backend {
namespace {

using torch::jit::IValue;

/** A tensor in the memory of an array; throws std::invalid_argument for what is not taken here. */
template <class T>
at::Tensor view(const deepmd_array& array, const char* name) {
  T* data = backend::numbers<T>(array, name);
  return at::from_blob(data, at::IntArrayRef(array.shape, array.n_dims),
                       at::TensorOptions(c10::CppTypeToScalarType<T>::value));
}

/** Write a tensor, of any device and precision, to the caller's memory. */
void write(const deepmd_array& target, const at::Tensor& from) {
  if (target.data == nullptr) return;
  const at::Tensor to = view<double>(target, "a result");
  to.copy_(from.detach().reshape(to.sizes()));
}

}  // namespace

// torch keeps this number per thread, and one more for threads to come.
Threads::Threads(int wanted) : before_(at::get_num_threads()) {
  if (wanted > 0 && wanted != before_) at::set_num_threads(wanted);
}

Threads::~Threads() {
  if (at::get_num_threads() != before_) at::set_num_threads(before_);
}

/** Name under which programs take the cotangent of an output (deepmd/pt/torchscript/script.py). */
std::string cotangent_name(const deepmd_result& result) {
  return std::string(result.name) + "_cotangent";
}

void evaluate_edges(const Program& program, const deepmd_edges_request& q) {
  const at::AutoGradMode gradients(program.differentiates);
  std::optional<c10::InferenceMode> inference;
  if (!program.differentiates) inference.emplace();
  const Threads threads(q.threads);
  // Specializing for shapes takes longer than it saves, because they change with every call.
  const torch::jit::GraphOptimizerEnabledGuard generic(false);
  const auto put = [&](const at::Tensor& x) { return x.to(program.device); };
  c10::List<at::Tensor> slots;
  slots.reserve(q.n_slots);
  for (int32_t k = 0; k < q.n_slots; ++k) slots.push_back(put(view<int64_t>(q.slots[k], "a slot")));
  c10::Dict<std::string, at::Tensor> frame_inputs, atom_inputs;
  for (int32_t k = 0; k < q.n_inputs; ++k) {
    const deepmd_input input = backend::element(q.inputs, k);
    auto& inputs = input.level == DEEPMD_ATOM ? atom_inputs : frame_inputs;
    inputs.insert(input.name, put(view<double>(input.data, input.name)));
  }
  for (int32_t k = 0; k < q.n_results; ++k) {
    const deepmd_result result = backend::element(q.results, k);
    if (result.cotangent.data == nullptr) continue;
    atom_inputs.insert(cotangent_name(result), put(view<double>(result.cotangent, "a cotangent")));
  }
  std::vector<IValue> inputs = {
      put(view<double>(q.vec, "vec")),
      put(view<int64_t>(q.i, "i")),
      put(view<int64_t>(q.j, "j")),
      put(view<int64_t>(q.atype, "atype")),
      put(view<int64_t>(q.frame, "frame")),
      std::move(frame_inputs),
      std::move(atom_inputs),
      std::move(slots),
  };
  const auto results =
      program.module.get_method("forward_edges")(std::move(inputs)).toGenericDict();
  for (int32_t k = 0; k < q.n_results; ++k) {
    const deepmd_result result = backend::element(q.results, k);
    const std::string name = result.name;
    write(result.value, results.at(name).toTensor());
    if (result.gradient.data == nullptr) continue;
    const at::Tensor gradient = results.at(name + "_grad").toTensor();
    write(result.gradient, result.cotangent.data ? gradient.sum(1, true) : gradient);
  }
}

c10::Dict<std::string, at::Tensor> call_extended(const Program& program,
                                                 const deepmd_extended_request& q,
                                                 bool atom_virial) {
  // These programs differentiate inside; views of the caller's memory are not written to.
  const at::AutoGradMode gradients(true);
  const torch::jit::GraphOptimizerEnabledGuard generic(false);
  const auto method = program.module.get_method("forward_lower");
  // All arrays are those of one frame.
  const auto put = [&](const at::Tensor& x) { return IValue(x.unsqueeze(0).to(program.device)); };
  std::unordered_map<std::string, IValue> arguments = {
      {"extended_coord", put(view<double>(q.coord, "coord"))},
      {"extended_atype", put(view<int64_t>(q.atype, "atype"))},
      {"nlist", put(view<int64_t>(q.nlist, "nlist"))},
      {"do_atomic_virial", atom_virial},
  };
  if (program.has_spin) {
    if (q.spin.data == nullptr) {
      throw Failure(program.path + ": the model needs the spins of the atoms");
    }
    arguments["extended_spin"] = put(view<double>(q.spin, "spin"));
  }
  if (q.mapping.data != nullptr) arguments["mapping"] = put(view<int64_t>(q.mapping, "mapping"));
  for (int32_t k = 0; k < q.n_inputs; ++k) {
    const deepmd_input input = backend::element(q.inputs, k);
    const at::Tensor value = view<double>(input.data, input.name);
    arguments[input.name] = put(input.level == DEEPMD_ATOM ? value : value.reshape(-1));
  }
  c10::Dict<std::string, at::Tensor> cotangents;
  for (int32_t k = 0; k < q.n_results; ++k) {
    const deepmd_result result = backend::element(q.results, k);
    if (result.cotangent.data == nullptr) continue;
    cotangents.insert(
        cotangent_name(result),
        view<double>(result.cotangent, "a cotangent").unsqueeze(0).to(program.device));
  }
  if (!cotangents.empty()) arguments["cotangents"] = cotangents;
  c10::Dict<std::string, at::Tensor> out;
  for (const auto& item : method({}, arguments).toGenericDict()) {
    if (item.value().isTensor()) out.insert(item.key().toStringRef(), item.value().toTensor());
  }
  return out;
}

void evaluate_extended(const Program& program, const deepmd_extended_request& q) {
  const Threads threads(q.threads);
  std::vector<deepmd_result> wanted;
  for (int32_t k = 0; k < q.n_results; ++k) wanted.push_back(backend::element(q.results, k));
  const bool atom_virial =
      std::any_of(wanted.begin(), wanted.end(),
                  [](const deepmd_result& result) { return result.atom_virial.data != nullptr; });
  const auto results = call_extended(program, q, atom_virial);
  const at::NoGradGuard no_gradients;
  for (const deepmd_result& result : wanted) {
    const std::string name = result.name;
    const std::string key = results.contains("atom_" + name) ? "atom_" + name : name;
    write(result.value, results.at(key));
    // The files put atoms first: (1, nall, [size,] 3).
    const auto derivative = [&](const deepmd_array& to, const char* from, int64_t width) {
      if (to.data == nullptr) return;
      write(to, results.at(from).reshape({q.nall, to.shape[0], width}).transpose(0, 1));
    };
    derivative(result.force, "extended_force", 3);
    derivative(result.atom_virial, "extended_virial", 9);
    derivative(result.force_mag, "extended_force_mag", 3);
    if (result.virial.data != nullptr) write(result.virial, results.at("virial"));
  }
}

}  // namespace deepmd::torch_backend
