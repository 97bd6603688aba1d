// SPDX-License-Identifier: LGPL-3.0-or-later
#include "dictionary.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "sha256.h"

namespace deepmd::native {

namespace {

constexpr const char* kArrays = "@variables";
constexpr const char* kPrefix = "/variable_";

/** The checksum of a text and arrays, see deepmd/io/digest.py. */
std::string digest_of(const std::string& text, const std::vector<const Array*>& arrays) {
  Sha256 total;
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

}  // namespace

bool Node::has(const std::string& key) const {
  const auto found = json_->find(key);
  return found != json_->end() && !found->is_null();
}

Node Node::operator[](const std::string& key) const {
  const auto found = json_->find(key);
  if (found == json_->end()) fail("has no \"" + key + "\"");
  return {*found, *file_, place_.empty() ? key : place_ + "/" + key};
}

Node Node::operator[](size_t k) const {
  if (!json_->is_array() || k >= json_->size()) fail("is no list, or too short");
  return {(*json_)[k], *file_, place_ + "[" + std::to_string(k) + "]"};
}

const Array& Node::array() const {
  if (!json_->is_string()) fail("is no array");
  const auto found = file_->arrays().find(json_->get<std::string>());
  if (found == file_->arrays().end()) fail("is an array that is not in the file");
  return found->second;
}

std::vector<double> Node::variable(const std::string& name) const {
  if (!has(kArrays)) return {};
  const Node all = (*this)[kArrays];
  return all.has(name) ? all[name].array().values() : std::vector<double>{};
}

std::vector<double> Node::variable(const std::string& name, size_t count) const {
  std::vector<double> found = variable(name);
  if (found.size() != count) {
    fail("has " + std::to_string(found.size()) + " numbers in \"" + name + "\", not " +
         std::to_string(count));
  }
  return found;
}

void Node::fail(const std::string& what) const {
  throw Failure((place_.empty() ? "the model" : place_) + " " + what +
                "; copy, freeze or convert the model again");
}

void Node::unknown(const std::string& what) const {
  throw Failure((place_.empty() ? "" : place_ + ": ") + what +
                " is not known to the native engine; freeze or convert the model to .pth");
}

Dictionary read_dictionary(std::string bytes) {
  Dictionary dictionary;
  dictionary.file = std::make_unique<Hdf5>(std::move(bytes));
  const std::string* text = dictionary.file->text("json");
  if (!text) throw Failure("this HDF5 file holds no model: it has no attribute \"json\"");
  const std::string* digest = dictionary.file->text("digest");
  if (digest && *digest != digest_of(*text, in_order(*dictionary.file))) {
    throw Failure(
        "the file does not hold what was written: its checksum differs, it is damaged or was "
        "edited; copy or freeze it again");
  }
  try {
    dictionary.tree = nlohmann::json::parse(*text);
  } catch (const nlohmann::json::exception& error) {
    throw Failure(std::string("the model in the file cannot be read (") + error.what() + ")");
  }
  if (!dictionary.tree.is_object()) throw Failure("the file holds no model");
  return dictionary;
}

}  // namespace deepmd::native
