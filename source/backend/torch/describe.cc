// SPDX-License-Identifier: LGPL-3.0-or-later
/** What a program says about itself, in the form of backend.h. */
#include <ATen/Functions.h>

#include <algorithm>
#include <map>

#include "program.h"

namespace deepmd::torch_backend {
namespace {

/** Version of the evaluation entry, deepmd/pt/torchscript/export.py. */
constexpr int64_t kEntryVersion = 2;

using torch::jit::IValue;
using Module = torch::jit::Module;

template <class T>
const T* kept(std::deque<std::vector<T>>& store, std::vector<T> values) {
  if (values.empty()) return nullptr;
  store.push_back(std::move(values));
  return store.back().data();
}

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

std::vector<int32_t> shorter(const std::vector<int64_t>& values) {
  return std::vector<int32_t>(values.begin(), values.end());
}

/** Call a method without arguments, or return the default if there is no such method. */
IValue ask(const Module& module, const char* name, const IValue& otherwise) {
  const auto method = module.find_method(name);
  return method ? (*method)({}) : otherwise;
}

/** Default frame parameters: of a method or, in files of DeePMD-kit, of a buffer. */
IValue default_fparam(const Module& module) {
  const std::string buffer_name = "fitting_net.default_fparam_tensor";
  if (!module.find_method("get_default_fparam")) {
    for (const auto& buffer : module.named_buffers()) {
      const size_t size = buffer.name.size();
      if (size >= buffer_name.size() &&
          buffer.name.compare(size - buffer_name.size(), buffer_name.size(), buffer_name) == 0) {
        return buffer.value;
      }
    }
  }
  return ask(module, "get_default_fparam", IValue());
}

deepmd_output output_of(Facts& facts, const std::string& name, int64_t size, bool differentiable,
                        bool intensive) {
  return {sizeof(deepmd_output), facts.keep(name), size, differentiable, intensive};
}

const std::map<std::string, deepmd_layout>& layouts() {
  static const std::map<std::string, deepmd_layout> known = {
      {"typed", DEEPMD_TYPED},   {"mixed", DEEPMD_MIXED},     {"flat", DEEPMD_FLAT},
      {"angles", DEEPMD_ANGLES}, {"centres", DEEPMD_CENTRES}, {"first_type", DEEPMD_FIRST_TYPE},
  };
  return known;
}

void add_packings(Facts& facts, const Module& module) {
  const auto names = strings(module.attr("layouts"));
  const auto rcuts = module.attr("rcuts").toDoubleVector();
  const auto edge_rcuts = module.attr("edge_rcuts").toDoubleVector();
  const auto edge_sels = module.attr("edge_sels").toIntVector();
  const auto nearest = module.attr("nearest").toIntVector();
  const auto grouped = module.attr("grouped").toBoolList();
  const auto sels = module.attr("sels").toListRef();
  const auto excluded = module.attr("excluded").toListRef();
  for (size_t k = 0; k < names.size(); ++k) {
    const auto layout = layouts().find(names[k]);
    if (layout == layouts().end()) {
      throw Failure("neighbours are wanted in the form \"" + names[k] +
                    "\", which this library does not know; install a newer one");
    }
    const auto sel = sels[k].toIntVector();
    const auto pairs = shorter(excluded[k].toIntVector());
    deepmd_packing p{};
    p.struct_size = sizeof(p);
    p.layout = layout->second;
    p.by_centre = grouped[k];
    p.rcut = rcuts[k];
    p.nearest = nearest[k];
    p.n_sel = static_cast<int32_t>(sel.size());
    p.sel = facts.keep(sel);
    p.n_exclude = static_cast<int32_t>(pairs.size() / 2);
    p.exclude = facts.keep(pairs);
    p.edge_rcut = edge_rcuts[k];
    p.edge_sel = edge_sels[k];
    facts.packings.push_back(p);
  }
  facts.info.packings = facts.packings.data();
  facts.info.n_packings = static_cast<int32_t>(facts.packings.size());
}

/** Which types carry spins, and how far; files of DeePMD-kit say it by other names. */
void add_spins(Facts& facts, const Module& module) {
  const bool own = module.hasattr("use_spin");
  std::vector<int32_t> used;
  for (const double x : own ? std::vector<double>() : reals(module.attr("spin_mask"))) {
    used.push_back(x != 0.0);
  }
  if (own) {
    for (const bool x : module.attr("use_spin").toBoolList()) used.push_back(x);
  }
  facts.info.use_spin = facts.keep(used);
  facts.info.spin_scale = facts.keep(reals(module.attr(own ? "scale" : "virtual_scale_mask")));
}

/** Which types count in means; files of DeePMD-kit count all. */
void add_counted(Facts& facts, const Module& module) {
  if (!module.hasattr("counted")) return;
  std::vector<int32_t> counted;
  for (const bool x : module.attr("counted").toBoolList()) counted.push_back(x);
  facts.info.counted = facts.keep(counted);
}

/** Add an input unless its size is 0. */
void add_input(Facts& facts, const char* name, deepmd_level level, int64_t size,
               const std::vector<double>& default_value) {
  if (size <= 0) return;
  deepmd_input_info input{};
  input.struct_size = sizeof(input);
  input.name = name;
  input.level = level;
  input.size = size;
  // A file may have a default that it does not tell.
  const bool told = static_cast<int64_t>(default_value.size()) == size;
  input.default_value = told ? facts.keep(default_value) : nullptr;
  facts.inputs.push_back(input);
}

void add_inputs(Facts& facts, const Module& module) {
  std::vector<double> fparam, chg_spin;
  if (ask(module, "has_default_fparam", false).toBool()) fparam = reals(default_fparam(module));
  if (ask(module, "has_default_chg_spin", false).toBool()) {
    chg_spin = reals(ask(module, "get_default_chg_spin", IValue()));
  }
  const auto size = [&](const char* name) { return ask(module, name, 0).toInt(); };
  add_input(facts, "fparam", DEEPMD_FRAME, size("get_dim_fparam"), fparam);
  add_input(facts, "charge_spin", DEEPMD_FRAME, size("get_dim_chg_spin"), chg_spin);
  add_input(facts, "aparam", DEEPMD_ATOM, size("get_dim_aparam"), {});
  facts.info.inputs = facts.inputs.data();
  facts.info.n_inputs = static_cast<int32_t>(facts.inputs.size());
}

/** Values of all inputs of one frame, looked up by name; those that are null are left out. */
template <class Get>
std::vector<deepmd_input> values_of(const std::vector<deepmd_input_info>& inputs, int64_t natoms,
                                    const Get& get) {
  std::vector<deepmd_input> values;
  for (const deepmd_input_info& input : inputs) {
    const double* data = get(input);
    if (data == nullptr) continue;
    deepmd_input value{};
    value.struct_size = sizeof(value);
    value.name = input.name;
    value.level = input.level;
    value.data = backend::array_of(data, {input.level == DEEPMD_ATOM ? natoms : 1, input.size});
    values.push_back(value);
  }
  return values;
}

/** What both kinds of files answer alike. */
void add_common(Facts& facts, const Module& module) {
  deepmd_info& info = facts.info;
  info.struct_size = sizeof(info);
  const auto type_map = strings(module.get_method("get_type_map")({}));
  info.ntypes = static_cast<int32_t>(type_map.size());
  info.type_map = facts.keep(type_map);
  info.rcut = module.get_method("get_rcut")({}).toDouble();
  const auto sel = module.find_method("get_sel")
                       ? module.get_method("get_sel")({}).toIntVector()
                       : std::vector<int64_t>{module.get_method("get_nnei")({}).toInt()};
  info.n_sel = static_cast<int32_t>(sel.size());
  info.sel = facts.keep(sel);
  add_inputs(facts, module);
  info.message_passing = ask(module, "has_message_passing", false).toBool();
  info.mixed_types = ask(module, "mixed_types", true).toBool();
  info.has_spin = ask(module, "has_spin", false).toBool();
  if (info.has_spin) add_spins(facts, module);
  add_counted(facts, module);
  auto sel_type = shorter(module.get_method("get_sel_type")({}).toIntVector());
  // All of them is the same as none named.
  if (sel_type.size() == type_map.size()) sel_type.clear();
  info.n_sel_type = static_cast<int32_t>(sel_type.size());
  info.sel_type = facts.keep(sel_type);
}

/** The frames in the file with their results. */
void add_probes(Facts& facts, const Module& module) {
  if (!module.hasattr("probes")) return;
  for (const IValue& item : module.attr("probes").toListRef()) {
    const auto frame = item.toGenericDict();
    const auto array = [&](const char* key) {
      return frame.contains(key) ? facts.keep(reals(frame.at(key))) : nullptr;
    };
    deepmd_probe probe{};
    probe.struct_size = sizeof(probe);
    const at::Tensor types = frame.at("atype").toTensor().to(at::kCPU, at::kInt).contiguous();
    probe.natoms = types.numel();
    probe.atype = facts.keep(
        std::vector<int32_t>(types.data_ptr<int32_t>(), types.data_ptr<int32_t>() + types.numel()));
    probe.coord = array("coord");
    probe.cell = array("cell");
    auto inputs = values_of(facts.inputs, probe.natoms,
                            [&](const deepmd_input_info& input) { return array(input.name); });
    probe.n_inputs = static_cast<int32_t>(inputs.size());
    probe.inputs = facts.keep(std::move(inputs));
    probe.value = array("value");
    probe.force = array("force");
    probe.virial = array("virial");
    facts.probes.push_back(probe);
  }
  facts.info.probes = facts.probes.data();
  facts.info.n_probes = static_cast<int32_t>(facts.probes.size());
}

void set_outputs(Facts& facts) {
  facts.info.outputs = facts.outputs.data();
  facts.info.n_outputs = static_cast<int32_t>(facts.outputs.size());
}

/** Name under which forward_lower puts the values of atoms. */
std::string atomic_key(const c10::Dict<std::string, at::Tensor>& results, const std::string& name) {
  return results.contains("atom_" + name) ? "atom_" + name : name;
}

/** Name of an output here; files of DeePMD-kit announce "polar" by another one. */
std::string output_name(const std::string& name) {
  return name == "polarizability" ? "polar" : name;
}

}  // namespace

const double* Facts::keep(std::vector<double> x) { return kept(reals_, std::move(x)); }
const int64_t* Facts::keep(std::vector<int64_t> x) { return kept(integers_, std::move(x)); }
const int32_t* Facts::keep(std::vector<int32_t> x) { return kept(short_integers_, std::move(x)); }

const deepmd_input* Facts::keep(std::vector<deepmd_input> x) {
  return kept(probe_inputs_, std::move(x));
}

const char* Facts::keep(std::string text) {
  texts_.push_back(std::move(text));
  return texts_.back().c_str();
}

const char* const* Facts::keep(const std::vector<std::string>& names) {
  std::vector<const char*> pointers;
  for (const std::string& name : names) pointers.push_back(keep(name));
  names_.push_back(std::move(pointers));
  return names_.back().data();
}

void describe_own(Program& program) {
  Facts& facts = program.facts;
  const Module& module = program.module;
  const int64_t version =
      module.hasattr("entry_version") ? module.attr("entry_version").toInt() : 1;
  if (version != kEntryVersion) {
    throw Failure("the program has entry version " + std::to_string(version) + "; " +
                  std::to_string(kEntryVersion) +
                  " is read here; convert the file with dp convert-backend, or freeze it again");
  }
  add_common(facts, module);
  // Atoms with partners are the program's business: its core sees more than the atoms.
  facts.info.entries = facts.info.has_spin ? DEEPMD_EXTENDED : DEEPMD_EDGES;
  facts.info.single_precision =
      module.hasattr("precision") && module.attr("precision").toStringRef() != "float64";
  const auto names = strings(module.attr("names"));
  const auto sizes = module.attr("sizes").toIntVector();
  const auto differentiable = module.attr("differentiable").toBoolList();
  const auto intensive = module.attr("intensive").toBoolList();
  for (size_t k = 0; k < names.size(); ++k) {
    facts.outputs.push_back(output_of(facts, names[k], sizes[k], differentiable[k], intensive[k]));
  }
  set_outputs(facts);
  if (!facts.info.has_spin) {
    add_packings(facts, module);
    add_probes(facts, module);
  }
}

void describe_foreign(Program& program) {
  Facts& facts = program.facts;
  const Module& module = program.module;
  if (!module.find_method("forward_lower") || !module.find_method("get_type_map")) {
    throw Failure("this TorchScript file holds no model; give one written by dp freeze");
  }
  add_common(facts, module);
  facts.info.entries = DEEPMD_EXTENDED;
  // The files do not tell the sizes of what they predict: one lonely atom does.
  using backend::array_of;
  int64_t most = 1;
  for (const deepmd_input_info& input : facts.inputs) most = std::max(most, input.size);
  const std::vector<double> origin(3, 0.0), one(static_cast<size_t>(most), 1.0);
  const int64_t zero = 0;
  const std::vector<int64_t> nobody(std::max<int64_t>(1, ask(module, "get_nnei", 1).toInt()), -1);
  const auto inputs =
      values_of(facts.inputs, 1, [&](const deepmd_input_info&) { return one.data(); });
  deepmd_extended_request request{};
  request.struct_size = sizeof(request);
  request.nloc = request.nall = 1;
  request.nnei = static_cast<int64_t>(nobody.size());
  request.coord = request.spin = array_of(origin.data(), {1, 3});
  request.atype = request.mapping = array_of(&zero, {1});
  request.nlist = array_of(nobody.data(), {1, request.nnei});
  request.inputs = inputs.data();
  request.n_inputs = static_cast<int32_t>(inputs.size());
  const auto results = call_extended(program, request, false);
  const bool intensive = ask(module, "get_intensive", false).toBool();
  const bool forces = results.contains("extended_force");
  for (const std::string& announced : strings(module.get_method("model_output_type")({}))) {
    const std::string name = output_name(announced);
    const std::string key = atomic_key(results, name);
    if (name == "mask" || !results.contains(key)) continue;
    facts.outputs.push_back(output_of(facts, name, results.at(key).numel(), forces, intensive));
  }
  if (facts.outputs.empty()) throw Failure("the model predicts nothing that is known here");
  set_outputs(facts);
}

}  // namespace deepmd::torch_backend
