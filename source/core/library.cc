// SPDX-License-Identifier: LGPL-3.0-or-later
#include "library.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "backend/arrays.h"
#include "error.h"
#include "inputs.h"

namespace deepmd::core {

namespace {

using backend::element;

template <class T>
std::vector<T> copy(const T* from, int64_t n) {
  return from ? std::vector<T>(from, from + n) : std::vector<T>();
}

bool exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

/** Return the path of a model: a file that is not there is named before a backend is missed. */
std::string checked(const std::string& path, const OpenOptions& options) {
  if (options.content.empty() && !exists(path)) {
    fail(path, "there is no such model file", "check the path");
  }
  return path;
}

/** Call a function of a backend, and throw what it complains about. */
template <class Function, class... Arguments>
void call(const std::string& where, Function function, Arguments... arguments) {
  char message[4096] = "";
  if (function(arguments..., message, sizeof(message)) == 0) return;
  message[sizeof(message) - 1] = '\0';
  const std::string text = message[0] ? message : "the backend failed without a message";
  // A backend usually names the file itself.
  fail(text.find(where) == std::string::npos ? where : "", text);
}

}  // namespace

BackendModel::BackendModel(const std::string& path, const OpenOptions& options)
    : functions_(backend_for(checked(path, options))) {
  info_.path = path;
  try {
    open(path, options);
  } catch (const std::invalid_argument& problem) {
    if (model_) functions_.close(model_);
    fail(path, problem.what(), "install both libraries from one release of deepmd-kit");
  } catch (...) {
    if (model_) functions_.close(model_);
    throw;
  }
}

BackendModel::~BackendModel() { functions_.close(model_); }

void BackendModel::open(const std::string& path, const OpenOptions& options) {
  deepmd_source source{};
  source.struct_size = sizeof(source);
  source.path = path.c_str();
  source.content = options.content.empty() ? nullptr : options.content.data();
  source.content_size = options.content.size();
  source.gpu_rank = options.gpu_rank;
  call(path, functions_.open, &source, &model_);
  const deepmd_info* given = nullptr;
  call(path, functions_.query, model_, &given);
  if (!given) fail(path, "the backend does not say what is in the file", "reinstall the backend");
  const deepmd_info info = backend::read(given);
  copy_info(info);
  copy_packings(info);
  copy_probes(info);
}

void BackendModel::copy_info(const deepmd_info& from) {
  entries_ = from.entries;
  if (!functions_.evaluate_extended) entries_ &= ~static_cast<uint32_t>(DEEPMD_EXTENDED);
  if (!from.type_map || from.ntypes < 1 || !from.outputs || from.n_outputs < 1 ||
      !(from.rcut > 0.0) || !(entries_ & (DEEPMD_EDGES | DEEPMD_EXTENDED))) {
    fail(info_.path, "the model has no types, no cutoff, no output or no entry",
         "freeze or convert it again");
  }
  mixed_types_ = from.mixed_types != 0;
  chunk_edges_ = std::max<int64_t>(from.chunk_edges, 0);
  info_.framework = from.framework ? from.framework : functions_.name ? functions_.name : "";
  info_.type_map.assign(from.type_map, from.type_map + from.ntypes);
  info_.rcut = from.rcut;
  info_.sel = copy(from.sel, from.n_sel);
  for (int32_t k = 0; k < from.n_outputs; ++k) {
    const deepmd_output o = element(from.outputs, k);
    info_.outputs.push_back({o.name, o.size, o.differentiable != 0, o.intensive != 0});
  }
  for (int32_t k = 0; k < from.n_inputs; ++k) {
    const deepmd_input_info i = element(from.inputs, k);
    info_.inputs.push_back({i.name, i.level == DEEPMD_ATOM, i.size, copy(i.default_value, i.size)});
  }
  check_inputs(info_);
  info_.sel_type = copy<int>(from.sel_type, from.n_sel_type);
  info_.message_passing = from.message_passing != 0;
  info_.has_spin = from.has_spin != 0;
  if (info_.has_spin) copy_spins(from);
  info_.counted.assign(info_.type_map.size(), true);
  if (from.counted) info_.counted.assign(from.counted, from.counted + from.ntypes);
  info_.single_precision = from.single_precision != 0;
}

void BackendModel::copy_spins(const deepmd_info& from) {
  if (!from.use_spin || !from.spin_scale || !(entries_ & DEEPMD_EXTENDED)) {
    fail(info_.path, "the backend does not say how to evaluate a model with spins",
         "install both libraries from one release of deepmd-kit");
  }
  entries_ = DEEPMD_EXTENDED;
  info_.use_spin.assign(from.use_spin, from.use_spin + from.ntypes);
  info_.spin_scale = copy(from.spin_scale, from.ntypes);
}

void BackendModel::copy_packings(const deepmd_info& from) {
  for (int32_t k = 0; k < from.n_packings; ++k) {
    const deepmd_packing p = element(from.packings, k);
    if (p.layout < DEEPMD_TYPED || p.layout > DEEPMD_FIRST_TYPE ||
        (p.layout == DEEPMD_TYPED && p.n_sel != from.ntypes)) {
      fail(info_.path, "a packing of the model is not understood",
           "install both libraries from one release of deepmd-kit");
    }
    Packing copied;
    copied.layout = static_cast<Layout>(p.layout);
    copied.ntypes = from.ntypes;
    copied.rcut = p.rcut;
    copied.sel = copy(p.sel, p.n_sel);
    copied.by_centre = p.by_centre != 0;
    for (int32_t e = 0; e < p.n_exclude; ++e) {
      const int a = p.exclude[2 * e], b = p.exclude[2 * e + 1];
      if (a < 0 || b < 0 || a >= from.ntypes || b >= from.ntypes) {
        fail(info_.path, "a pair of excluded types is out of range", "freeze it again");
      }
      copied.exclude.emplace_back(a, b);
    }
    copied.nearest = p.nearest;
    copied.edge_rcut = p.edge_rcut;
    copied.edge_sel = p.edge_sel;
    packings_.push_back(copied);
  }
}

void BackendModel::copy_probes(const deepmd_info& from) {
  const int64_t size = info_.outputs.front().size;
  for (int32_t k = 0; k < from.n_probes; ++k) {
    const deepmd_probe p = element(from.probes, k);
    Probe probe;
    probe.natoms = p.natoms;
    probe.coord = copy(p.coord, 3 * p.natoms);
    probe.atype = copy<int>(p.atype, p.natoms);
    probe.cell = copy(p.cell, 9);
    for (int32_t n = 0; n < p.n_inputs; ++n) {
      const deepmd_input i = element(p.inputs, n);
      const int64_t rows = i.level == DEEPMD_ATOM ? p.natoms : 1;
      probe.inputs[i.name] =
          copy<double>(backend::numbers<double>(i.data, i.name), rows * info_.size_of(i.name));
    }
    probe.value = copy(p.value, size);
    probe.force = copy(p.force, size * p.natoms * 3);
    probe.virial = copy(p.virial, size * 9);
    probes_.push_back(probe);
  }
}

void BackendModel::evaluate(const deepmd_edges_request& request) const {
  call(info_.path, functions_.evaluate, model_, &request);
}

void BackendModel::evaluate(const deepmd_extended_request& request) const {
  call(info_.path, functions_.evaluate_extended, model_, &request);
}

}  // namespace deepmd::core
