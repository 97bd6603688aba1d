// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Functions of a SavedModel, read from saved_model.pb.
 *
 * Nothing of such a file is run when it is opened. The functions that are needed, after a look at
 * their operators, are put into a graph of their own, in which a node calls each of them.
 */
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deepmd::tensorflow_backend {

/** An argument or result of a function. */
struct Argument {
  std::string name;
  uint64_t type = 0;
};

/** A function that a SavedModel offers under a name. */
struct Function {
  std::string name;  ///< of the traced function
  std::vector<Argument> inputs, outputs;
  std::map<std::string, int64_t> components;  ///< of outputs: numbers per row, by key
  std::vector<std::string> keys;              ///< of outputs, in their order
};

/** The messages of a SavedModel that matter here; views of its content. */
class Contents {
 public:
  /** @param content of saved_model.pb, which must live as long; throws Failure */
  explicit Contents(std::string_view content);

  bool has(std::string_view name) const { return offered_.count(name) > 0; }
  /** Throws Failure if there is none. */
  Function function(std::string_view name) const;
  /** Functions that some call, themselves included; their operators are checked. */
  std::set<std::string_view> called_by(const std::vector<Function>& some) const;
  /** Whether functions are compiled for the sizes of their arguments. */
  bool compiles(const std::set<std::string_view>& names) const;
  /** A graph with placeholders "f/x" for arguments x and a node "f" for every function f. */
  std::string graph_of(const std::vector<std::pair<std::string, Function>>& wanted,
                       const std::set<std::string_view>& called) const;

 private:
  std::string_view versions_;
  std::map<std::string_view, std::string_view> functions_;  ///< by the name of the traced function
  std::map<std::string_view, std::string_view> offered_;  ///< traced functions by their names here
  std::map<std::string_view, std::string_view> concrete_;
};

}  // namespace deepmd::tensorflow_backend
