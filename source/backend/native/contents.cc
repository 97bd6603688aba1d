// SPDX-License-Identifier: LGPL-3.0-or-later
#include "contents.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "../graph_digest.h"
#include "../protobuf.h"
#include "../sha256.h"
#include "hdf5.h"

namespace deepmd::native {

namespace {

constexpr const char* kPrefix = "/variable_";

/** The checksum of a text and arrays, see deepmd/io/digest.py. */
std::string digest_of(const std::string& text, const std::vector<const Array*>& arrays) {
  backend::Sha256 total;
  total.update(text);
  for (const Array* array : arrays) {
    std::string head = array->dtype + "[";
    bool first = true;
    for (const int64_t n : array->shape) {
      if (n == 1) continue;
      head += (first ? "" : ", ") + std::to_string(n);
      first = false;
    }
    total.update(head + "]");
    total.update(array->data, static_cast<size_t>(array->size()) * array->item);
  }
  return "sha256:" + total.digits();
}

/** Arrays that a tree names, which are numbered in the order of the tree. */
std::vector<const Array*> in_order(const Hdf5& file) {
  std::vector<std::pair<long, const Array*>> numbered;
  for (const auto& [name, array] : file.arrays()) {
    if (name.rfind(kPrefix, 0) != 0) continue;
    numbered.emplace_back(std::strtol(name.c_str() + std::string(kPrefix).size(), nullptr, 10),
                          &array);
  }
  std::sort(numbered.begin(), numbered.end());
  std::vector<const Array*> arrays;
  arrays.reserve(numbered.size());
  for (const auto& item : numbered) arrays.push_back(item.second);
  return arrays;
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file.tellg();
  if (!file || size < 0) throw Failure("the file cannot be read; check the path and permissions");
  std::string bytes(static_cast<size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(bytes.data(), size)) throw Failure("the file cannot be read to its end");
  return bytes;
}

/** Refuse a model beside a program that is not the one it was written with. */
void check_program(const std::string& program, const Contents& contents) {
  const auto tree = nlohmann::json::parse(contents.json);
  const auto about = tree.find("program");
  backend::Sha256 hash;
  hash.update(program.data(), program.size());
  if (about != tree.end() && about->is_object() &&
      about->value("digest", "") == "sha256:" + hash.digits()) {
    return;
  }
  throw Failure("saved_model.pb does not belong to the model beside it; copy or freeze it again");
}

/** A SavedModel, which is a folder. */
void read_saved(std::string path, Contents& contents) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::string model = path + "/assets.extra/model.dp";
  if (!std::ifstream(model)) {
    throw Failure("the SavedModel holds a program and no neutral model, and " +
                  std::string("is not known to the native engine"));
  }
  contents.memory.push_back(bytes_of(model));
  read_hdf5(contents.memory.back(), contents);
  check_program(bytes_of(path + "/saved_model.pb"), contents);
}

/** The text of a constant of a graph, of its node. */
std::string_view text_of(std::string_view node) {
  return backend::bytes_of(backend::bytes_of(backend::entry_of(node, 5, "value"), 8), 8);
}

}  // namespace

Contents read_contents(const deepmd_source& source) {
  Contents contents;
  std::string path = source.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (ends_with(path, ".savedmodel") || ends_with(path, ".savedmodeltf")) {
    read_saved(path, contents);
    return contents;
  }
  std::string_view bytes;
  if (source.content) {
    bytes = {static_cast<const char*>(source.content), source.content_size};
  } else {
    contents.memory.push_back(bytes_of(path));
    bytes = contents.memory.back();
  }
  if (ends_with(path, ".pth")) {
    read_archive(bytes, contents);
  } else if (ends_with(path, ".pb")) {
    read_graph(bytes, contents);
  } else if (ends_with(path, ".yaml") || ends_with(path, ".yml")) {
    read_text(bytes, contents);
  } else {
    read_hdf5(bytes, contents);
  }
  return contents;
}

void read_hdf5(std::string_view bytes, Contents& contents) {
  const Hdf5 file(bytes);
  const std::string* text = file.text("json");
  if (!text) throw Failure("this HDF5 file holds no model: it has no attribute \"json\"");
  const std::string* digest = file.text("digest");
  if (digest && *digest != digest_of(*text, in_order(file))) {
    throw Failure(
        "the file does not hold what was written: its checksum differs, it is damaged or was "
        "edited; copy or freeze it again");
  }
  contents.json = *text;
  contents.arrays = file.arrays();
}

void read_graph(std::string_view bytes, Contents& contents) {
  std::string_view text, arrays;
  for (const std::string_view node : backend::all_of(bytes, 1)) {
    const std::string_view name = backend::bytes_of(node, 1);
    if (name == "deepmd/model") text = text_of(node);
    if (name == "deepmd/arrays") arrays = text_of(node);
  }
  if (text.empty() || arrays.empty()) {
    throw Failure("a graph without a neutral model is not known to the native engine");
  }
  backend::check_digest(bytes);
  contents.json = text;
  read_npz(arrays, contents);
}

}  // namespace deepmd::native
