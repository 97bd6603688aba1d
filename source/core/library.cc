// SPDX-License-Identifier: LGPL-3.0-or-later
#include "library.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <exception>

#include "backend/arrays.h"
#include "error.h"
#include "inputs.h"

namespace deepmd::core {

namespace {

bool exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
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

/** Throw an error together with that of another backend for the same file. */
[[noreturn]] void add_reason(const std::exception_ptr& before, const deepmd_exception& error) {
  const auto plain = [](const std::string& text) { return text.substr(text.find(": ") + 2); };
  try {
    std::rethrow_exception(before);
  } catch (const deepmd_exception& other) {
    throw deepmd_exception(plain(error.what()) + "; " + plain(other.what()));
  }
}

}  // namespace

BackendModel::BackendModel(const std::string& path, const OpenOptions& options) {
  // A file that is not there is named before a backend is missed.
  if (options.content.empty() && !exists(path)) {
    fail(path, "there is no such model file", "check the path");
  }
  std::exception_ptr first;  // what the one before complained about
  for (const Opener opener : openers(path, choice_of(options.engine))) {
    try {
      open(path, options, opener);
      return;
    } catch (const deepmd_exception& error) {
      close();
      // What a framework says about its own files comes first, unless there is no framework.
      const bool is_framework = opener == Opener::framework;
      if (!first || (is_framework && functions_.open)) {
        first = std::current_exception();
      } else if (is_framework) {
        add_reason(first, error);
      }
    }
  }
  std::rethrow_exception(first);
}

BackendModel::~BackendModel() { close(); }

void BackendModel::close() {
  if (model_) functions_.close(model_);
  model_ = nullptr;
}

void BackendModel::open(const std::string& path, const OpenOptions& options, Opener opener) {
  functions_ = {};
  functions_ = backend_for(path, opener);
  deepmd_source source{};
  source.struct_size = sizeof(source);
  source.path = path.c_str();
  source.content = options.content.empty() ? nullptr : options.content.data();
  source.content_size = options.content.size();
  source.gpu_rank = options.gpu_rank;
  source.scope = options.scope.c_str();
  call(path, functions_.open, &source, &model_);
  const deepmd_info* given = nullptr;
  call(path, functions_.query, model_, &given);
  if (!given) fail(path, "the backend does not say what is in the file", "reinstall the backend");
  read(backend::read(given), path);
}

void BackendModel::read(const deepmd_info& from, const std::string& path) {
  entries_ = from.entries;
  if (!functions_.evaluate_extended) entries_ &= ~static_cast<uint32_t>(DEEPMD_EXTENDED);
  if (!from.description || !(entries_ & (DEEPMD_EDGES | DEEPMD_EXTENDED))) {
    fail(path, "the backend does not say what is in the file, or how to evaluate it",
         "install both libraries from one release of deepmd-kit");
  }
  info_ = read_description(from.description, path, has_edges());
  if (info_.has_spin && (entries_ & DEEPMD_EXTENDED)) {
    entries_ &= ~static_cast<uint32_t>(DEEPMD_EDGES);
  }
  info_.exchanges =
      info_.message_passing && has_edges() && (entries_ & DEEPMD_EXCHANGES) && has_cotangents();
  check_inputs(info_);
  if (from.probes) probes_ = read_probes(from.probes, info_);
  info_.framework = from.framework ? from.framework : functions_.name ? functions_.name : "";
  chunk_edges_ = std::max<int64_t>(from.chunk_edges, 0);
  least_edges_ = std::max<int64_t>(from.least_edges, 0);
}

void BackendModel::evaluate(const deepmd_edges_request& request) const {
  call(info_.path, functions_.evaluate, model_, &request);
}

void BackendModel::evaluate(const deepmd_extended_request& request) const {
  call(info_.path, functions_.evaluate_extended, model_, &request);
}

}  // namespace deepmd::core
