// SPDX-License-Identifier: LGPL-3.0-or-later
/** Libraries of operators of plugins, named by the environment variable DP_PLUGIN_PATH. */
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <set>
#include <sstream>
#include <string>

#include "program.h"

namespace deepmd::torch_backend {
namespace {

/** Qualified names of all operators that PyTorch knows. */
std::set<std::string> operators() {
  std::set<std::string> names;
  for (const auto& one : c10::Dispatcher::singleton().getAllOpNames()) names.insert(one.name);
  return names;
}

/** What has been loaded so far. */
struct Plugins {
  std::mutex mutex;
  std::set<std::string> paths, operators;
};

Plugins& plugins() {
  static Plugins all;
  return all;
}

/** Load a library, and note which operators it registered. */
void load(const std::string& path, Plugins& all) {
  const std::set<std::string> before = operators();
  // Its operators are referred to as long as the process lives: it is never closed.
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) {
    const char* reason = dlerror();
    throw Failure("DP_PLUGIN_PATH: " + path + " cannot be loaded (" +
                  (reason ? reason : "no reason given") +
                  "); correct the path, or build the library for this PyTorch");
  }
  for (const std::string& name : operators()) {
    if (!before.count(name)) all.operators.insert(name);
  }
  all.paths.insert(path);
}

}  // namespace

void load_plugins() {
  const char* named = std::getenv("DP_PLUGIN_PATH");
  if (named == nullptr) return;
  Plugins& all = plugins();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::string list = named;
  for (char& c : list) c = c == ';' ? ':' : c;
  std::istringstream stream(list);
  for (std::string path; std::getline(stream, path, ':');) {
    if (!path.empty() && !all.paths.count(path)) load(path, all);
  }
}

bool is_of_plugin(const std::string& name) {
  Plugins& all = plugins();
  const std::lock_guard<std::mutex> lock(all.mutex);
  return all.operators.count(name) > 0;
}

}  // namespace deepmd::torch_backend
