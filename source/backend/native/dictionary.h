// SPDX-License-Identifier: LGPL-3.0-or-later
/** The neutral dictionary of a model, read from a .dp file (deepmd/io/dp.py). */
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hdf5.h"

namespace deepmd::native {

/** A part of a dictionary, with the arrays of the file; copies share them. */
class Node {
 public:
  Node(const nlohmann::json& json, const Hdf5& file, std::string place)
      : json_(&json), file_(&file), place_(std::move(place)) {}

  const std::string& place() const { return place_; }
  bool has(const std::string& key) const;
  Node operator[](const std::string& key) const;
  Node operator[](size_t k) const;
  size_t size() const { return json_->size(); }
  bool is_null() const { return json_->is_null(); }
  const nlohmann::json& json() const { return *json_; }

  /** Value of a key that must be there; throws Failure with the place. */
  template <class T>
  T get(const std::string& key) const {
    const Node value = (*this)[key];
    try {
      return value.json_->get<T>();
    } catch (const nlohmann::json::exception&) {
      value.fail("has an unexpected value, " + value.json_->dump().substr(0, 60));
    }
  }
  template <class T>
  T get(const std::string& key, T otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }

  /** The array that this node names. */
  const Array& array() const;
  /** Numbers of @variables/name; empty if null or absent. */
  std::vector<double> variable(const std::string& name) const;
  /** The same with a number of entries that must be right. */
  std::vector<double> variable(const std::string& name, size_t count) const;

  [[noreturn]] void fail(const std::string& what) const;
  /** Throw that a part is not known to this engine. */
  [[noreturn]] void unknown(const std::string& what) const;

 private:
  const nlohmann::json* json_;
  const Hdf5* file_;
  std::string place_;
};

/** A dictionary and what it points to. */
struct Dictionary {
  std::unique_ptr<Hdf5> file;
  nlohmann::json tree;

  Node root() const { return {tree, *file, ""}; }
};

/** Read a file; throws Failure if it is damaged. The checksum is compared if there is one. */
Dictionary read_dictionary(std::string bytes);

}  // namespace deepmd::native
