// SPDX-License-Identifier: LGPL-3.0-or-later
#include "library.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>

#include "error.h"

namespace deepmd::core {

namespace {

/** A backend that may be on this machine. */
struct Known {
  const char* key;
  const char* name;
  const char* package;  ///< what provides its framework
  std::vector<const char*> suffixes;
};

const std::vector<Known>& known_backends() {
  static const std::vector<Known> all = {
      {"torch", "PyTorch", "torch", {".pth", ".pt2"}},
      {"tf", "TensorFlow", "tensorflow", {".savedmodel", ".savedmodeltf", ".pb"}},
  };
  return all;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

const Known& known_backend(const std::string& path) {
  std::string name = path;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  std::string suffixes;
  for (const Known& backend : known_backends()) {
    for (const char* suffix : backend.suffixes) {
      if (ends_with(name, suffix)) return backend;
      suffixes += std::string(suffixes.empty() ? "" : ", ") + suffix;
    }
  }
  fail(path, "Unsupported model file format",
       "known suffixes are " + suffixes +
           "; `dp freeze` makes one of these of checkpoints, `dp convert-backend` of model files");
}

std::string library_name(const Known& backend) {
#ifdef __APPLE__
  const char* suffix = ".dylib";
#else
  const char* suffix = ".so";
#endif
  return std::string("libdeepmd_backend_") + backend.key + suffix;
}

/** Folders that are searched before the dynamic loader searches its own. */
std::vector<std::string> folders() {
  std::vector<std::string> found;
  if (const char* list = std::getenv("DP_BACKEND_PLUGIN_PATH")) {
    std::string folder;
    for (const char* c = list;; ++c) {
      if (*c != '\0' && *c != ':' && *c != ';') {
        folder += *c;
        continue;
      }
      if (!folder.empty()) found.push_back(folder);
      folder.clear();
      if (*c == '\0') break;
    }
  }
  Dl_info here;
  if (dladdr(reinterpret_cast<void*>(&backend_for), &here) && here.dli_fname) {
    const std::string path = here.dli_fname;
    const size_t slash = path.rfind('/');
    found.push_back(slash == std::string::npos ? "." : path.substr(0, slash));
  }
  return found;
}

bool exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

/** Open the library of a backend, or throw what is missing. */
void* open_library(const Known& backend, std::string& where) {
  const std::string name = library_name(backend);
  std::string searched;
  for (const std::string& folder : folders()) {
    where = folder + "/" + name;
    searched += folder + ", ";
    if (!exists(where)) continue;
    // Frameworks must not see each other's symbols.
    if (void* handle = dlopen(where.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    const char* reason = dlerror();
    fail(where,
         std::string("Unable to load the ") + backend.name +
             " backend plugin: " + (reason ? reason : "unknown error"),
         std::string("install the package ") + backend.package + " (pip install " +
             backend.package +
             ") where the plugin finds it, or add its libraries to "
             "LD_LIBRARY_PATH");
  }
  where = name;
  if (void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  const char* reason = dlerror();
  fail(name,
       std::string("Unable to load the ") + backend.name + " backend plugin: it is not in " +
           searched + "and the dynamic loader says: " + (reason ? reason : "unknown error"),
       std::string("install deepmd-kit with ") + backend.name +
           ", or set DP_BACKEND_PLUGIN_PATH to the folder of " + name);
}

const deepmd_backend_functions& functions_of(void* handle, const std::string& where) {
  const auto entry = reinterpret_cast<deepmd_backend_entry>(dlsym(handle, DEEPMD_BACKEND_ENTRY));
  if (!entry) fail(where, "this library has no function " DEEPMD_BACKEND_ENTRY, "reinstall it");
  const deepmd_backend_functions* functions = entry();
  // The version and the size come first in every version: these may always be read.
  if (!functions || functions->version != DEEPMD_BACKEND_VERSION ||
      functions->struct_size < sizeof(deepmd_backend_functions)) {
    const std::string other = functions ? std::to_string(functions->version) : "none";
    fail(where,
         "it speaks version " + other + " of the backend interface, this library version " +
             std::to_string(DEEPMD_BACKEND_VERSION),
         "install both from one release of deepmd-kit");
  }
  return *functions;
}

/** The entry k of an array whose entries may be longer than we know. */
template <class T>
const T& element(const T* array, int32_t k, const std::string& where) {
  if (array->struct_size < sizeof(T)) {
    fail(where, "the backend returned a structure that is too short",
         "install both libraries from one release of deepmd-kit");
  }
  const char* bytes = reinterpret_cast<const char*>(array);
  return *reinterpret_cast<const T*>(bytes + static_cast<size_t>(k) * array->struct_size);
}

template <class T>
std::vector<T> copy(const T* from, int64_t n) {
  return from ? std::vector<T>(from, from + n) : std::vector<T>();
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

std::string backend_of(const std::string& path) { return known_backend(path).key; }

const deepmd_backend_functions& backend_for(const std::string& path) {
  const Known& backend = known_backend(path);
  std::string where;
  // Never closed: frameworks do not survive it. Opening it again gives what is loaded.
  void* handle = open_library(backend, where);
  return functions_of(handle, where);
}

/** Return the path of a model: a file that is not there is named before a backend is missed. */
static const std::string& checked(const std::string& path, const OpenOptions& options) {
  known_backend(path);
  if (options.content.empty() && !exists(path)) {
    fail(path, "there is no such model file", "check the path");
  }
  return path;
}

std::vector<std::string> describe_backends() {
  std::vector<std::string> lines;
  for (const Known& backend : known_backends()) {
    std::string line = std::string(backend.name) + " (";
    for (const char* suffix : backend.suffixes) {
      line += std::string(suffix == backend.suffixes.front() ? "" : " ") + suffix;
    }
    line += "): ";
    try {
      line += backend_for(backend.suffixes.front()).framework();
    } catch (const deepmd_exception& error) {
      line += std::string("not available: ") + error.what();
    }
    lines.push_back(line);
  }
  return lines;
}

BackendModel::BackendModel(const std::string& path, const OpenOptions& options)
    : functions_(backend_for(checked(path, options))) {
  info_.path = path;
  try {
    open(path, options);
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
  const deepmd_info* from = nullptr;
  call(path, functions_.query, model_, &from);
  // What comes from chunk_edges on was appended later.
  if (!from || from->struct_size < offsetof(deepmd_info, chunk_edges)) {
    fail(path, "the backend returned a structure that is too short",
         "install both libraries from one release of deepmd-kit");
  }
  copy_info(*from);
  copy_packings(*from);
  copy_probes(*from);
}

void BackendModel::copy_info(const deepmd_info& from) {
  entries_ = from.entries;
  mixed_types_ = from.mixed_types != 0;
  if (from.struct_size > offsetof(deepmd_info, chunk_edges)) {
    chunk_edges_ = std::max<int64_t>(from.chunk_edges, 0);
  }
  info_.framework = from.framework ? from.framework : functions_.name;
  info_.type_map.assign(from.type_map, from.type_map + from.ntypes);
  info_.rcut = from.rcut;
  info_.sel = copy(from.sel, from.n_sel);
  for (int32_t k = 0; k < from.n_outputs; ++k) {
    const deepmd_output& o = element(from.outputs, k, info_.path);
    info_.outputs.push_back({o.name, o.size, o.differentiable != 0, o.intensive != 0});
  }
  info_.sel_type = copy<int>(from.sel_type, from.n_sel_type);
  info_.dim_fparam = from.dim_fparam;
  info_.dim_aparam = from.dim_aparam;
  info_.dim_chg_spin = from.dim_chg_spin;
  if (from.has_default_fparam) {
    info_.default_fparam = copy(from.default_fparam, from.dim_fparam);
  }
  if (from.has_default_chg_spin) {
    info_.default_chg_spin = copy(from.default_chg_spin, from.dim_chg_spin);
  }
  info_.message_passing = from.message_passing != 0;
  info_.has_spin = from.has_spin != 0;
  if (info_.has_spin) copy_spins(from);
  info_.counted.assign(info_.type_map.size(), true);
  if (from.struct_size > offsetof(deepmd_info, counted) && from.counted) {
    info_.counted.assign(from.counted, from.counted + from.ntypes);
  }
  info_.single_precision = from.single_precision != 0;
  if (info_.outputs.empty() || !(info_.rcut > 0.0) || info_.type_map.empty() ||
      !(entries_ & (DEEPMD_EDGES | DEEPMD_EXTENDED))) {
    fail(info_.path, "the model has no types, no cutoff, no output or no entry",
         "freeze or convert it again");
  }
}

void BackendModel::copy_spins(const deepmd_info& from) {
  if (from.struct_size <= offsetof(deepmd_info, spin_scale) || !from.use_spin || !from.spin_scale ||
      !(entries_ & DEEPMD_EXTENDED)) {
    fail(info_.path, "the backend does not say how to evaluate a model with spins",
         "install both libraries from one release of deepmd-kit");
  }
  entries_ = DEEPMD_EXTENDED;
  info_.use_spin.assign(from.use_spin, from.use_spin + from.ntypes);
  info_.spin_scale = copy(from.spin_scale, from.ntypes);
}

void BackendModel::copy_packings(const deepmd_info& from) {
  for (int32_t k = 0; k < from.n_packings; ++k) {
    const deepmd_packing& p = element(from.packings, k, info_.path);
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
    const deepmd_probe& p = element(from.probes, k, info_.path);
    Probe probe;
    probe.natoms = p.natoms;
    probe.coord = copy(p.coord, 3 * p.natoms);
    probe.atype = copy<int>(p.atype, p.natoms);
    probe.cell = copy(p.cell, 9);
    probe.fparam = copy(p.fparam, info_.dim_fparam + info_.dim_chg_spin);
    probe.aparam = copy(p.aparam, p.natoms * info_.dim_aparam);
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
