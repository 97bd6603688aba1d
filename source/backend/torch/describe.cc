// SPDX-License-Identifier: LGPL-3.0-or-later
/** Description of a program as backend.h has it: stored in our files, asked of DeePMD-kit's. */
#include <ATen/Functions.h>

#include <algorithm>

#include "../description.h"
#include "program.h"

namespace deepmd::torch_backend {
namespace {

/** Version of the evaluation entry, deepmd/pt/torchscript/export.py. */
constexpr int64_t kEntryVersion = 2;

using nlohmann::json;
using torch::jit::IValue;
using Module = torch::jit::Module;
using Results = c10::Dict<std::string, at::Tensor>;

std::vector<std::string> strings(const IValue& value) {
  std::vector<std::string> out;
  for (const IValue& item : value.toListRef()) out.push_back(item.toStringRef());
  return out;
}

/** Numbers of a list or tensor; none of None. */
std::vector<double> reals(const IValue& value) {
  if (value.isNone()) return {};
  if (!value.isTensor()) return value.toDoubleVector();
  const at::Tensor x = value.toTensor().to(at::kCPU, at::kDouble).contiguous();
  return std::vector<double>(x.data_ptr<double>(), x.data_ptr<double>() + x.numel());
}

/** Call a method without arguments, or return the default if there is no such method. */
IValue ask(const Module& module, const char* name, const IValue& otherwise) {
  const auto method = module.find_method(name);
  return method ? (*method)({}) : otherwise;
}

// -- our own files --------------------------------------------------------------------------------

/** The frames in the file with their results, as JSON. */
std::string probes_of(const Module& module) {
  json frames = json::array();
  if (!module.hasattr("probes")) return frames.dump();
  for (const IValue& item : module.attr("probes").toListRef()) {
    json frame;
    for (const auto& entry : item.toGenericDict()) {
      const at::Tensor value = entry.value().toTensor();
      const std::string& name = entry.key().toStringRef();
      if (at::isFloatingType(value.scalar_type())) {
        frame[name] = reals(value);
      } else {
        const at::Tensor whole = value.to(at::kCPU, at::kLong).contiguous();
        const auto* data = whole.data_ptr<int64_t>();
        frame[name] = std::vector<int64_t>(data, data + whole.numel());
      }
    }
    frames.push_back(std::move(frame));
  }
  return frames.dump();
}

// -- files of DeePMD-kit --------------------------------------------------------------------------

/** Default frame parameters: of a method or of a buffer. */
std::vector<double> default_fparam(const Module& module) {
  if (!ask(module, "has_default_fparam", false).toBool()) return {};
  const std::string buffer_name = "fitting_net.default_fparam_tensor";
  if (!module.find_method("get_default_fparam")) {
    for (const auto& buffer : module.named_buffers()) {
      const size_t size = buffer.name.size();
      if (size >= buffer_name.size() &&
          buffer.name.compare(size - buffer_name.size(), buffer_name.size(), buffer_name) == 0) {
        return reals(buffer.value);
      }
    }
  }
  return reals(ask(module, "get_default_fparam", IValue()));
}

/** Description of everything but the outputs. */
backend::Description answers_of(const Module& module) {
  backend::Description answers;
  answers.type_map = strings(module.get_method("get_type_map")({}));
  answers.rcut = module.get_method("get_rcut")({}).toDouble();
  answers.sel = module.find_method("get_sel")
                    ? module.get_method("get_sel")({}).toIntVector()
                    : std::vector<int64_t>{module.get_method("get_nnei")({}).toInt()};
  std::vector<double> chg_spin;
  if (ask(module, "has_default_chg_spin", false).toBool()) {
    chg_spin = reals(ask(module, "get_default_chg_spin", IValue()));
  }
  const auto size = [&](const char* name) { return ask(module, name, 0).toInt(); };
  answers.add_input("fparam", false, size("get_dim_fparam"), default_fparam(module));
  answers.add_input("charge_spin", false, size("get_dim_chg_spin"), chg_spin);
  answers.add_input("aparam", true, size("get_dim_aparam"));
  answers.message_passing = ask(module, "has_message_passing", false).toBool();
  answers.mixed_types = ask(module, "mixed_types", true).toBool();
  if (ask(module, "has_spin", false).toBool()) {
    for (const double x : reals(module.attr("spin_mask"))) answers.use_spin.push_back(x != 0.0);
    answers.spin_scale = reals(module.attr("virtual_scale_mask"));
  }
  answers.sel_type = module.get_method("get_sel_type")({}).toIntVector();
  return answers;
}

/** Results for one lonely atom. */
Results results_of_one(const Program& program, const backend::Description& answers) {
  using backend::array_of;
  int64_t most = 1;
  for (const auto& input : answers.inputs) most = std::max(most, input.size);
  const std::vector<double> origin(3, 0.0), one(static_cast<size_t>(most), 1.0);
  const int64_t zero = 0;
  const int64_t nnei = std::max<int64_t>(1, ask(program.module, "get_nnei", 1).toInt());
  const std::vector<int64_t> nobody(static_cast<size_t>(nnei), -1);
  std::vector<deepmd_input> inputs;
  for (const auto& input : answers.inputs) {
    deepmd_input value{};
    value.struct_size = sizeof(value);
    value.name = input.name.c_str();
    value.level = input.per_atom ? DEEPMD_ATOM : DEEPMD_FRAME;
    value.data = array_of(one.data(), {1, input.size});
    inputs.push_back(value);
  }
  deepmd_extended_request request{};
  request.struct_size = sizeof(request);
  request.nloc = request.nall = 1;
  request.nnei = nnei;
  request.coord = request.spin = array_of(origin.data(), {1, 3});
  request.atype = request.mapping = array_of(&zero, {1});
  request.nlist = array_of(nobody.data(), {1, request.nnei});
  request.inputs = inputs.data();
  request.n_inputs = static_cast<int32_t>(inputs.size());
  return call_extended(program, request, false);
}

/** Name under which forward_lower puts the values of atoms. */
std::string atomic_key(const Results& results, const std::string& name) {
  return results.contains("atom_" + name) ? "atom_" + name : name;
}

/** Name of an output here; files of DeePMD-kit announce "polar" by another one. */
std::string output_name(const std::string& name) {
  return name == "polarizability" ? "polar" : name;
}

void set_info(Program& program, uint32_t entries) {
  deepmd_info& info = program.info;
  info.struct_size = sizeof(info);
  info.description = program.description.c_str();
  info.entries = entries;
  info.framework = framework_name().c_str();
  info.probes = program.probes.empty() ? nullptr : program.probes.c_str();
  info.chunk_edges = program.device.is_cpu() ? 0 : int64_t{1} << 20;
}

}  // namespace

void describe_own(Program& program, const std::string& metadata) {
  const Module& module = program.module;
  const int64_t version =
      module.hasattr("entry_version") ? module.attr("entry_version").toInt() : 1;
  if (version != kEntryVersion) {
    throw Failure("the program has entry version " + std::to_string(version) + "; " +
                  std::to_string(kEntryVersion) +
                  " is read here; convert the file with dp convert-backend, or freeze it again");
  }
  if (metadata.empty()) {
    throw Failure(
        "the file has no description of the model (metadata.json); copy or freeze it "
        "again");
  }
  program.description = metadata;
  program.has_spin = ask(module, "has_spin", false).toBool();
  // Atoms with partners are the program's business: its core sees more than the atoms.
  if (!program.has_spin) program.probes = probes_of(module);
  // Files of earlier releases take none.
  const bool cotangents =
      module.hasattr("takes_cotangents") && module.attr("takes_cotangents").toBool();
  set_info(program, (program.has_spin ? DEEPMD_EXTENDED : DEEPMD_EDGES) |
                        (cotangents ? DEEPMD_COTANGENTS : 0));
}

void describe_foreign(Program& program) {
  const Module& module = program.module;
  if (!module.find_method("forward_lower") || !module.find_method("get_type_map")) {
    throw Failure("this TorchScript file holds no model; give one written by dp freeze");
  }
  backend::Description answers = answers_of(module);
  program.has_spin = !answers.use_spin.empty();
  // The files do not tell the sizes of what they predict: one lonely atom does.
  const Results results = results_of_one(program, answers);
  const bool intensive = ask(module, "get_intensive", false).toBool();
  const bool forces = results.contains("extended_force");
  for (const std::string& announced : strings(module.get_method("model_output_type")({}))) {
    const std::string name = output_name(announced);
    const std::string key = atomic_key(results, name);
    if (name == "mask" || !results.contains(key)) continue;
    answers.outputs.push_back({name, results.at(key).numel(), forces, intensive});
  }
  if (answers.outputs.empty()) throw Failure("the model predicts nothing that is known here");
  program.description = answers.to_json();
  set_info(program, DEEPMD_EXTENDED);
}

}  // namespace deepmd::torch_backend
