// SPDX-License-Identifier: LGPL-3.0-or-later
/** Model files as text: deepmd/io/yaml.py. */
#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "../sha256.h"
#include "contents.h"
#include "yaml.h"

namespace deepmd::native {

namespace {

using nlohmann::json;

constexpr const char* kAgain = "; copy, freeze or convert the model again";

/** Refuse a text that is not the one whose checksum its last line has. */
void check_digest(std::string_view text) {
  const std::string_view mark = "\n# digest: ";
  const size_t place = text.rfind(mark);
  if (place == std::string_view::npos) return;
  std::string_view stored = text.substr(place + mark.size());
  while (!stored.empty() && std::strchr(" \r\n\t", stored.back())) stored.remove_suffix(1);
  backend::Sha256 hash;
  for (std::string_view rest = text.substr(0, place + 1); !rest.empty();) {
    const size_t n = std::min(rest.find('\r'), rest.size());
    hash.update(rest.data(), n);
    rest.remove_prefix(std::min(n + 1, rest.size()));
  }
  if (stored == "sha256:" + hash.digits()) return;
  throw Failure(
      "the file does not hold what was written: its checksum differs, it is damaged or was edited; "
      "copy or freeze it again, or delete its last line and the key \"probes\" after an edit on "
      "purpose");
}

/** Puts arrays in place of their texts. */
class ArrayMaker {
 public:
  explicit ArrayMaker(Contents& contents) : contents_(contents) {}

  /** Replace all arrays below a node; `inside` @variables numbers are arrays, too. */
  void replace(json& node, bool inside) {
    if (node.is_object()) {
      const auto kind = node.find("@class");
      if (kind != node.end() && *kind == "np.ndarray") {
        node = array(node);
        return;
      }
      for (auto& [key, value] : node.items()) replace(value, inside || key == "@variables");
    } else if (node.is_array()) {
      for (json& one : node) replace(one, inside);
    } else if (inside && (node.is_number() || node.is_boolean())) {
      const char* type = node.is_boolean() ? "bool" : node.is_number_float() ? "float64" : "int64";
      node = array({{"dtype", type}, {"value", node}});
    }
  }

 private:
  /** An object that names a new array. */
  json array(const json& node) {
    const std::string type = node.value("dtype", "");
    const auto value = node.find("value");
    if (value == node.end()) throw Failure(std::string("an array has no \"value\"") + kAgain);
    Array made;
    for (const json* level = &*value; level->is_array(); level = &level->front()) {
      made.shape.push_back(static_cast<int64_t>(level->size()));
      if (level->empty()) break;
    }
    std::string& bytes = contents_.memory.emplace_back();
    if (type == "float64") {
      fill<double>(*value, "<f8", made, bytes);
    } else if (type == "float32") {
      fill<float>(*value, "<f4", made, bytes);
    } else if (type == "int64") {
      fill<int64_t>(*value, "<i8", made, bytes);
    } else if (type == "int32") {
      fill<int32_t>(*value, "<i4", made, bytes);
    } else if (type == "uint8") {
      fill<uint8_t>(*value, "|u1", made, bytes);
    } else if (type == "bool") {
      fill<bool>(*value, "|b1", made, bytes);
    } else {
      throw Failure("an array has numbers of type \"" + type.substr(0, 20) +
                    "\", which the native engine does not read from a text");
    }
    if (node.contains("shape")) made.shape = shape(node["shape"], made.size());
    made.data = reinterpret_cast<const unsigned char*>(bytes.data());
    std::string name = "text_" + std::to_string(contents_.memory.size());
    contents_.arrays[name] = std::move(made);
    return {{kArrayKey, std::move(name)}};
  }

  /** The shape of an array without elements, of which lists say nothing. */
  static std::vector<int64_t> shape(const json& stored, int64_t size) {
    auto found = stored.get<std::vector<int64_t>>();
    const bool fits =
        size == 0 && found.size() < 9 && std::count(found.begin(), found.end(), 0) &&
        std::all_of(
            found.begin(), found.end(),
            [](int64_t n) { return n >= 0 && n <= std::numeric_limits<int32_t>::max(); });
    if (!fits)
      throw Failure(std::string("the shape of an array does not fit its numbers") + kAgain);
    return found;
  }

  template <class T>
  static void fill(const json& value, const char* type, Array& made, std::string& bytes) {
    made.dtype = type;
    made.item = sizeof(T);
    append<T>(value, made.shape, 0, bytes);
  }

  template <class T>
  static void append(const json& value, const std::vector<int64_t>& shape, size_t level,
                     std::string& bytes) {
    if (level < shape.size()) {
      if (!value.is_array() || static_cast<int64_t>(value.size()) != shape[level]) {
        throw Failure(std::string("the rows of an array are not equally long") + kAgain);
      }
      for (const json& one : value) append<T>(one, shape, level + 1, bytes);
      return;
    }
    const T number = number_of<T>(value);
    bytes.append(reinterpret_cast<const char*>(&number), sizeof(T));
  }

  template <class T>
  static T number_of(const json& value) {
    // Truth values are numbers for NumPy, too; real ones do not become whole ones.
    constexpr bool whole = std::is_integral_v<T> && !std::is_same_v<T, bool>;
    if (value.is_boolean()) return static_cast<T>(value.get<bool>());
    bool fits = value.is_number() && !(whole && value.is_number_float());
    if constexpr (whole) {
      const auto number = fits ? value.get<int64_t>() : 0;
      fits = fits && number >= std::numeric_limits<T>::min() &&
             number <= std::numeric_limits<T>::max();
    }
    if (!fits) {
      const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
      throw Failure("an array has " + text.substr(0, 40) + " in the place of a number" + kAgain);
    }
    if constexpr (std::is_same_v<T, bool>) return value.get<double>() != 0.0;
    return value.get<T>();
  }

  Contents& contents_;
};

}  // namespace

void read_text(std::string_view text, Contents& contents) {
  check_digest(text);
  json tree = parse_yaml(text);
  if (!tree.is_object()) throw Failure("the file holds no dictionary, and no model");
  ArrayMaker(contents).replace(tree, false);
  contents.json = tree.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace deepmd::native
