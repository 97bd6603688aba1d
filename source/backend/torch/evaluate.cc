// SPDX-License-Identifier: LGPL-3.0-or-later
/** Evaluation: tensors are views of the caller's memory. */
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <cstddef>

#include "program.h"

namespace deepmd::torch_backend {
namespace {

using torch::jit::IValue;

at::Tensor view(const double* data, at::IntArrayRef sizes) {
  return at::from_blob(const_cast<double*>(data), sizes, at::TensorOptions(at::kDouble));
}

at::Tensor view(const int64_t* data, at::IntArrayRef sizes) {
  return at::from_blob(const_cast<int64_t*>(data), sizes, at::TensorOptions(at::kLong));
}

/** Write a tensor, of any device and precision, to the caller's memory. */
void write(double* target, at::IntArrayRef sizes, const at::Tensor& from) {
  if (target != nullptr) view(target, sizes).copy_(from.reshape(sizes));
}

}  // namespace

// torch keeps this number per thread, and one more for threads to come.
Threads::Threads(int wanted) : before_(at::get_num_threads()) {
  if (wanted > 0 && wanted != before_) at::set_num_threads(wanted);
}

Threads::~Threads() {
  if (at::get_num_threads() != before_) at::set_num_threads(before_);
}

void evaluate_edges(const Program& program, const deepmd_edges_request& q) {
  const c10::InferenceMode inference;
  const Threads threads(q.threads);
  // Specialising for shapes takes longer than it saves, because they change with every call.
  const torch::jit::GraphOptimizerEnabledGuard generic(false);
  const auto put = [&](const at::Tensor& x) { return x.to(program.device); };
  c10::List<at::Tensor> slots;
  slots.reserve(q.n_slots);
  for (int32_t k = 0; k < q.n_slots; ++k) {
    const deepmd_slot& s = q.slots[k];
    slots.push_back(
        put(s.columns < 0 ? view(s.data, {s.rows}) : view(s.data, {s.rows, s.columns})));
  }
  const auto& info = program.facts.info;
  c10::Dict<std::string, at::Tensor> frame_inputs, atom_inputs;
  if (program.frame_columns > 0) {
    // Charge and multiplicity are the last columns of the request.
    const at::Tensor all = put(view(q.fparam, {q.n_frames, program.frame_columns}));
    if (info.dim_fparam > 0) frame_inputs.insert("fparam", all.narrow(1, 0, info.dim_fparam));
    if (info.dim_chg_spin > 0) {
      frame_inputs.insert("charge_spin", all.narrow(1, info.dim_fparam, info.dim_chg_spin));
    }
  }
  if (program.atom_columns > 0) {
    atom_inputs.insert("aparam", put(view(q.aparam, {q.n_atoms, program.atom_columns})));
  }
  std::vector<IValue> inputs = {
      put(view(q.vec, {q.n_edges, 3})),
      put(view(q.i, {q.n_edges})),
      put(view(q.j, {q.n_edges})),
      put(view(q.atype, {q.n_atoms})),
      put(view(q.frame, {q.n_atoms})),
      std::move(frame_inputs),
      std::move(atom_inputs),
      std::move(slots),
  };
  const auto results =
      program.module.get_method("forward_edges")(std::move(inputs)).toGenericDict();
  for (size_t k = 0; k < program.facts.outputs.size(); ++k) {
    const deepmd_output& output = program.facts.outputs[k];
    const std::string name = output.name;
    write(q.results[k].value, {q.n_atoms, output.size}, results.at(name).toTensor());
    if (output.differentiable && q.results[k].gradient != nullptr) {
      write(q.results[k].gradient, {q.n_edges, output.size, 3},
            results.at(name + "_grad").toTensor());
    }
  }
}

c10::Dict<std::string, at::Tensor> call_extended(const Program& program,
                                                 const deepmd_extended_request& q,
                                                 bool atom_virial) {
  // These programs differentiate inside; views of the caller's memory are not written to.
  const at::AutoGradMode gradients(true);
  const torch::jit::GraphOptimizerEnabledGuard generic(false);
  const auto method = program.module.get_method("forward_lower");
  const auto put = [&](const at::Tensor& x) { return IValue(x.to(program.device)); };
  std::unordered_map<std::string, IValue> arguments = {
      {"extended_coord", put(view(q.coord, {1, q.nall, 3}))},
      {"extended_atype", put(view(q.atype, {1, q.nall}))},
      {"nlist", put(view(q.nlist, {1, q.nloc, q.nnei}))},
      {"do_atomic_virial", atom_virial},
  };
  if (program.facts.info.has_spin) {
    const bool given = q.struct_size > offsetof(deepmd_extended_request, spin) && q.spin != nullptr;
    if (!given) throw Failure(program.path + ": the model needs the spins of the atoms");
    arguments["extended_spin"] = put(view(q.spin, {1, q.nall, 3}));
  }
  if (q.mapping != nullptr) arguments["mapping"] = put(view(q.mapping, {1, q.nall}));
  if (program.frame_columns > 0 && q.fparam != nullptr) {
    arguments["fparam"] = put(view(q.fparam, {1, program.frame_columns}));
  }
  if (program.atom_columns > 0 && q.aparam != nullptr) {
    arguments["aparam"] = put(view(q.aparam, {1, q.nloc, program.atom_columns}));
  }
  const int64_t dim_chg_spin = program.facts.info.dim_chg_spin;
  if (dim_chg_spin > 0 && q.chg_spin != nullptr) {
    arguments["charge_spin"] = put(view(q.chg_spin, {1, dim_chg_spin}));
  }
  c10::Dict<std::string, at::Tensor> out;
  for (const auto& item : method({}, arguments).toGenericDict()) {
    if (item.value().isTensor()) out.insert(item.key().toStringRef(), item.value().toTensor());
  }
  return out;
}

void evaluate_extended(const Program& program, const deepmd_extended_request& q) {
  const Threads threads(q.threads);
  const auto& outputs = program.facts.outputs;
  const auto target = [](double* const* list, size_t k) { return list ? list[k] : nullptr; };
  bool atom_virial = false;
  for (size_t k = 0; k < outputs.size(); ++k) {
    atom_virial = atom_virial || target(q.atom_virial, k) != nullptr;
  }
  const auto results = call_extended(program, q, atom_virial);
  const at::NoGradGuard no_gradients;
  for (size_t k = 0; k < outputs.size(); ++k) {
    const int64_t size = outputs[k].size;
    const std::string name = outputs[k].name;
    const std::string key = results.contains("atom_" + name) ? "atom_" + name : name;
    write(target(q.value, k), {q.nloc, size}, results.at(key));
    if (!outputs[k].differentiable) continue;
    // The files put atoms first: (1, nall, [size,] 3).
    const auto derivative = [&](double* to, const char* from, int64_t width) {
      if (to == nullptr) return;
      const at::Tensor x = results.at(from).reshape({q.nall, size, width}).transpose(0, 1);
      write(to, {size, q.nall, width}, x);
    };
    derivative(target(q.force, k), "extended_force", 3);
    derivative(target(q.atom_virial, k), "extended_virial", 9);
    if (program.facts.info.has_spin) {
      derivative(target(q.force_mag, k), "extended_force_mag", 3);
    }
    if (target(q.virial, k) != nullptr) {
      write(q.virial[k], {size, 9}, results.at("virial"));
    }
  }
}

}  // namespace deepmd::torch_backend
