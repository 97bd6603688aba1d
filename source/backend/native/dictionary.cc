// SPDX-License-Identifier: LGPL-3.0-or-later
#include "dictionary.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "../sha256.h"

namespace deepmd::native {

namespace {

constexpr const char* kArrays = "@variables";
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

/** Value of a node; throws Failure if it is of another kind. */
template <class T>
T get(const Node& node) {
  try {
    return node.json().get<T>();
  } catch (const nlohmann::json::exception&) {
    node.fail("has an unexpected value, " + node.json().dump().substr(0, 60));
  }
}

}  // namespace

Node::Node(const nlohmann::json& json, const Hdf5& file, std::string place)
    : json_(&json), file_(&file), place_(std::move(place)) {}

bool Node::has(const std::string& key) const {
  const auto found = json_->find(key);
  return found != json_->end() && !found->is_null();
}

bool Node::is_null() const { return json_->is_null(); }

bool Node::is_list() const { return json_->is_array(); }

size_t Node::size() const { return json_->size(); }

Node Node::operator[](const std::string& key) const {
  const auto found = json_->find(key);
  if (found == json_->end()) fail("has no \"" + key + "\"");
  return {*found, *file_, place_.empty() ? key : place_ + "/" + key};
}

Node Node::operator[](size_t k) const {
  if (!json_->is_array() || k >= json_->size()) fail("is no list, or too short");
  return {(*json_)[k], *file_, place_ + "[" + std::to_string(k) + "]"};
}

int64_t Node::integer(const std::string& key) const { return get<int64_t>((*this)[key]); }

int64_t Node::integer(const std::string& key, int64_t otherwise) const {
  return has(key) ? integer(key) : otherwise;
}

double Node::number(const std::string& key) const { return get<double>((*this)[key]); }

double Node::number(const std::string& key, double otherwise) const {
  return has(key) ? number(key) : otherwise;
}

bool Node::flag(const std::string& key, bool otherwise) const {
  return has(key) ? get<bool>((*this)[key]) : otherwise;
}

std::string Node::text(const std::string& key) const { return get<std::string>((*this)[key]); }

std::string Node::text(const std::string& key, const std::string& otherwise) const {
  return has(key) ? text(key) : otherwise;
}

std::vector<int64_t> Node::integers(const std::string& key) const {
  const Node value = (*this)[key];
  if (!value.is_list()) return {get<int64_t>(value)};
  return get<std::vector<int64_t>>(value);
}

std::vector<double> Node::numbers(const std::string& key) const {
  return get<std::vector<double>>((*this)[key]);
}

std::vector<std::string> Node::texts(const std::string& key) const {
  return get<std::vector<std::string>>((*this)[key]);
}

std::vector<std::pair<int64_t, int64_t>> Node::pairs(const std::string& key) const {
  if (!has(key)) return {};
  return get<std::vector<std::pair<int64_t, int64_t>>>((*this)[key]);
}

std::vector<char> Node::given(const std::string& key) const {
  std::vector<char> found;
  if (!has(key)) return found;
  for (const auto& item : (*json_)[key]) found.push_back(item.is_null() ? 0 : 1);
  return found;
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

Dictionary::Dictionary(std::string bytes) : file_(std::make_unique<Hdf5>(std::move(bytes))) {
  const std::string* text = file_->text("json");
  if (!text) throw Failure("this HDF5 file holds no model: it has no attribute \"json\"");
  const std::string* digest = file_->text("digest");
  if (digest && *digest != digest_of(*text, in_order(*file_))) {
    throw Failure(
        "the file does not hold what was written: its checksum differs, it is damaged or was "
        "edited; copy or freeze it again");
  }
  try {
    tree_ = std::make_unique<nlohmann::json>(nlohmann::json::parse(*text));
  } catch (const nlohmann::json::exception& error) {
    throw Failure(std::string("the model in the file cannot be read (") + error.what() + ")");
  }
  if (!tree_->is_object()) throw Failure("the file holds no model");
}

Dictionary::~Dictionary() = default;

}  // namespace deepmd::native
