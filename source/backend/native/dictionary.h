// SPDX-License-Identifier: LGPL-3.0-or-later
/** The neutral dictionary of a model. */
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "contents.h"

namespace deepmd::native {

/** A part of a dictionary, with the arrays of the file; copies share them. */
class Node {
 public:
  Node(const nlohmann::json& json, const Arrays& arrays, std::string place);

  const std::string& place() const { return place_; }
  bool has(const std::string& key) const;
  bool is_null() const;
  bool is_list() const;
  size_t size() const;
  Node operator[](const std::string& key) const;
  Node operator[](size_t k) const;
  const nlohmann::json& json() const { return *json_; }

  /** Values of keys that must be there, unless there is a default; throw Failure with the place. */
  int64_t integer(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t otherwise) const;
  double number(const std::string& key) const;
  double number(const std::string& key, double otherwise) const;
  bool flag(const std::string& key, bool otherwise) const;
  std::string text(const std::string& key) const;
  std::string text(const std::string& key, const std::string& otherwise) const;
  /** A list, or one number. */
  std::vector<int64_t> integers(const std::string& key) const;
  std::vector<double> numbers(const std::string& key) const;
  std::vector<std::string> texts(const std::string& key) const;
  /** Pairs of types; none if the key is not there. */
  std::vector<std::pair<int64_t, int64_t>> pairs(const std::string& key) const;
  /** Which entries of a list are not null; none if the key is not there. */
  std::vector<char> given(const std::string& key) const;

  /** The array that this node names. */
  const Array& array() const;
  /** Its numbers; throws Failure, with the place, if one is not finite. */
  std::vector<double> values() const;
  /** Numbers of @variables/name; empty if null or absent. */
  std::vector<double> variable(const std::string& name) const;
  /** The same with a number of entries that must be right. */
  std::vector<double> variable(const std::string& name, size_t count) const;

  [[noreturn]] void fail(const std::string& what) const;
  /** Throw that a part is not known to this engine. */
  [[noreturn]] void unknown(const std::string& what) const;

 private:
  const nlohmann::json* json_;
  const Arrays* arrays_;
  std::string place_;
};

/** A dictionary and what it points to. */
class Dictionary {
 public:
  /** Parse what a file holds; throws Failure if it is no model. */
  explicit Dictionary(Contents contents);
  ~Dictionary();
  Node root() const { return {*tree_, contents_.arrays, ""}; }

 private:
  Contents contents_;
  std::unique_ptr<nlohmann::json> tree_;
};

}  // namespace deepmd::native
