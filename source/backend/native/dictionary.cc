// SPDX-License-Identifier: LGPL-3.0-or-later
#include "dictionary.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace deepmd::native {

namespace {

constexpr const char* kArrays = "@variables";

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

Node::Node(const nlohmann::json& json, const Arrays& arrays, std::string place)
    : json_(&json), arrays_(&arrays), place_(std::move(place)) {}

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
  return {*found, *arrays_, place_.empty() ? key : place_ + "/" + key};
}

Node Node::operator[](size_t k) const {
  if (!json_->is_array() || k >= json_->size()) fail("is no list, or too short");
  return {(*json_)[k], *arrays_, place_ + "[" + std::to_string(k) + "]"};
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
  const auto named = json_->is_object() ? json_->find(kArrayKey) : json_->end();
  const nlohmann::json& name = named == json_->end() ? *json_ : *named;
  if (!name.is_string()) fail("is no array");
  const auto found = arrays_->find(name.get<std::string>());
  if (found == arrays_->end()) fail("is an array that is not in the file");
  return found->second;
}

std::vector<double> Node::values() const {
  std::vector<double> found = array().values();
  const auto bad = [](double x) { return !std::isfinite(x); };
  if (std::any_of(found.begin(), found.end(), bad)) fail("has numbers that are not finite");
  return found;
}

std::vector<double> Node::variable(const std::string& name) const {
  if (!has(kArrays)) return {};
  const Node all = (*this)[kArrays];
  return all.has(name) ? all[name].values() : std::vector<double>{};
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
  throw Failure(
      (place_.empty() ? "" : place_ + ": ") + what +
      " is not known to the native engine, and the file has no program; write it again with " +
      "dp convert-backend where PyTorch is installed, or convert the model to .pth");
}

Dictionary::Dictionary(Contents contents) : contents_(std::move(contents)) {
  try {
    tree_ = std::make_unique<nlohmann::json>(nlohmann::json::parse(contents_.json));
  } catch (const nlohmann::json::exception& error) {
    throw Failure(std::string("the model in the file cannot be read (") + error.what() + ")");
  }
  if (!tree_->is_object()) throw Failure("the file holds no model");
}

Dictionary::~Dictionary() = default;

}  // namespace deepmd::native
