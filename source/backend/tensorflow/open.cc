// SPDX-License-Identifier: LGPL-3.0-or-later
/** Opening files, and saying what is wrong with them. */
#include <tensorflow/c/c_api.h>

#include <fstream>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "../protobuf.h"
#include "model.h"

namespace deepmd::tensorflow_backend {

using backend::all_of;
using backend::bytes_of;
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& what, const std::string& fix) {
  throw Failure(path + ": " + what + "; " + fix);
}

bool starts(const std::string& text, const std::string& beginning) {
  return text.compare(0, beginning.size(), beginning) == 0;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path, "cannot be opened", "check the path");
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (content.empty()) fail(path, "is empty or a folder", "copy or freeze it again");
  return content;
}

/** Content of a file, empty if there is none. */
std::string content_if_any(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return file ? std::string{std::istreambuf_iterator<char>(file), {}} : std::string();
}

/** The program of a SavedModel: ours have their description beside it. */
std::shared_ptr<Program> saved_program(const std::string& path, const std::string& content) {
  const std::string beside = path + "/assets.extra/";
  const SavedTexts texts{content_if_any(beside + "metadata.json"),
                         content_if_any(beside + "probes.json")};
  return texts.description.empty() ? open_saved(content) : open_own_saved(content, texts);
}

/** Operators that compute and do nothing else; the list is that of Python. */
const std::unordered_set<std::string_view>& allowed() {
  static const std::unordered_set<std::string_view> names = {
#include "allowed_operators.inc"
  };
  return names;
}

}  // namespace

void check_operators(std::string_view message, uint32_t field) {
  for (const std::string_view node : all_of(message, field)) {
    const std::string_view name = bytes_of(node, 2);
    if (allowed().count(name)) continue;
    throw Failure("the program in the file uses the operator " + std::string(name) +
                  ", which no model needs and may do harm; freeze or convert the model again, or "
                  "do not open the file");
  }
}

void Program::set_info(uint32_t entries, int64_t chunk_edges) {
  info_.struct_size = sizeof(info_);
  info_.description = description_.c_str();
  info_.entries = entries;
  info_.framework = framework_name().c_str();
  info_.chunk_edges = chunk_edges;
  info_.probes = probes_.empty() ? nullptr : probes_.c_str();
}

void Program::evaluate(const deepmd_edges_request&) const {
  throw Failure("the file has no entry for edges");
}

void Program::evaluate(const deepmd_extended_request&) const {
  throw Failure("the file has no entry for lists of neighbors");
}

std::string first_words(const std::string& message) {
  return message.substr(0, message.find('\n')).substr(0, 400);
}

const std::string& framework_name() {
  static const std::string name = std::string("TensorFlow ") + TF_Version();
  return name;
}

std::shared_ptr<Program> open_program(const deepmd_source& source) {
  std::string path = source.path == nullptr ? "the given content" : source.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const auto ends = [&](const std::string& end) {
    return path.size() >= end.size() &&
           path.compare(path.size() - end.size(), end.size(), end) == 0;
  };
  const bool saved = ends(".savedmodel") || ends(".savedmodeltf");
  std::string content;
  if (source.content != nullptr) {
    content.assign(static_cast<const char*>(source.content), source.content_size);
  } else {
    content = content_of(saved ? path + "/saved_model.pb" : path);
  }
  if (starts(content, "\x89HDF")) {
    fail(path, "this is an HDF5 file, not a graph of TensorFlow", "convert it: dp convert-backend");
  }
  if (starts(content, "PK\x03\x04")) {
    fail(path, "this is an archive, perhaps of PyTorch, not a graph of TensorFlow",
         "give it its own suffix");
  }
  try {
    return saved ? saved_program(path, content) : open_frozen(std::move(content));
  } catch (const Failure& failure) {
    throw Failure(path + ": " + failure.what());
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail(path, "the file is not a model of this release (" + first_words(error.what()) + ")",
         "convert or freeze it again");
  }
}

}  // namespace deepmd::tensorflow_backend
