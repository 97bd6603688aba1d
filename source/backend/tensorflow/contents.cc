// SPDX-License-Identifier: LGPL-3.0-or-later
#include "contents.h"

#include <algorithm>

#include "../protobuf.h"
#include "model.h"

namespace deepmd::tensorflow_backend {

using backend::all_of;
using backend::bytes_of;
using backend::number_of;
using backend::put;
namespace {

std::vector<Argument> arguments(std::string_view signature, uint32_t field) {
  std::vector<Argument> found;
  for (const std::string_view one : all_of(signature, field)) {
    found.push_back({std::string(bytes_of(one, 1)), number_of(one, 3)});
  }
  return found;
}

/** Numbers per row of an output: the sizes behind the first two, which are not known. */
int64_t components_of(std::string_view spec) {
  int64_t product = 1;
  for (const std::string_view dim : all_of(bytes_of(bytes_of(spec, 33), 2), 2)) {
    const auto size = static_cast<int64_t>(number_of(dim, 1));
    if (size > 0 && size < (1 << 20)) product *= size;
  }
  return product;
}

void put_attribute(std::string& node, const std::string& key, const std::string& value) {
  std::string entry;
  put(entry, 1, key);
  put(entry, 2, value);
  put(node, 5, entry);
}

std::string placeholder(const std::string& name, uint64_t type) {
  std::string node, value;
  put(node, 1, name);
  put(node, 2, "Placeholder");
  put(value, 6, type);
  put_attribute(node, "dtype", value);
  return node;
}

std::string types_of(const std::vector<Argument>& arguments) {
  std::string list, value;
  for (const Argument& one : arguments) put(list, 6, one.type);
  put(value, 1, list);
  return value;
}

}  // namespace

Contents::Contents(std::string_view content) {
  const auto graphs = all_of(content, 2);
  if (graphs.empty()) throw Failure("it is no SavedModel; copy or freeze it again");
  const std::string_view graph = bytes_of(graphs.front(), 2);
  versions_ = bytes_of(graph, 4);
  for (const std::string_view one : all_of(bytes_of(graph, 2), 1)) {
    functions_[bytes_of(bytes_of(one, 1), 1)] = one;
  }
  const std::string_view objects = bytes_of(graphs.front(), 7);
  const auto nodes = all_of(objects, 1);
  for (const std::string_view child : nodes.empty() ? nodes : all_of(nodes.front(), 1)) {
    const uint64_t node = number_of(child, 1);
    if (node >= nodes.size()) continue;
    const auto traced = all_of(bytes_of(nodes[node], 6), 1);
    if (traced.size() == 1) offered_[bytes_of(child, 2)] = traced.front();
  }
  for (const std::string_view entry : all_of(objects, 2)) {
    concrete_[bytes_of(entry, 1)] = bytes_of(entry, 2);
  }
}

Function Contents::function(std::string_view name) const {
  const auto offered = offered_.find(name);
  if (offered == offered_.end() || !functions_.count(offered->second)) {
    throw Failure("this SavedModel has no function " + std::string(name) +
                  " and is no model; convert or freeze the model again");
  }
  const std::string_view traced = offered->second;
  const auto found = concrete_.find(traced);
  const std::string_view about = found == concrete_.end() ? "" : found->second;
  if (!bytes_of(about, 2).empty()) {
    throw Failure(
        "weights of this SavedModel are variables outside of its functions, which is "
        "not understood; convert the model again");
  }
  Function made;
  made.name = traced;
  const std::string_view signature = bytes_of(functions_.at(traced), 1);
  made.inputs = arguments(signature, 2);
  made.outputs = arguments(signature, 3);
  for (const std::string_view entry : all_of(bytes_of(bytes_of(about, 4), 53), 1)) {
    made.components[std::string(bytes_of(entry, 1))] = components_of(bytes_of(entry, 2));
  }
  // TensorFlow orders the values of a dictionary by their keys.
  for (const auto& [key, size] : made.components) made.keys.push_back(key);
  return made;
}

std::set<std::string_view> Contents::called_by(const std::vector<Function>& some) const {
  std::set<std::string_view> called;
  std::vector<std::string_view> todo;
  for (const Function& one : some) todo.push_back(functions_.find(one.name)->first);
  while (!todo.empty()) {
    const std::string_view name = todo.back();
    todo.pop_back();
    const auto found = functions_.find(name);
    if (found == functions_.end() || !called.insert(found->first).second) continue;
    check_operators(found->second, 3);
    for (const std::string_view node : all_of(found->second, 3)) {
      for (const std::string_view attribute : all_of(node, 5)) {
        const std::string_view value = bytes_of(attribute, 2);
        for (const auto one : all_of(value, 10)) todo.push_back(bytes_of(one, 1));
        for (const auto one : all_of(bytes_of(value, 1), 9)) todo.push_back(bytes_of(one, 1));
      }
    }
  }
  return called;
}

bool Contents::compiles(const std::set<std::string_view>& names) const {
  return std::any_of(names.begin(), names.end(), [&](std::string_view name) {
    const std::string_view function = functions_.at(name);
    return function.find("XlaCallModule") != std::string_view::npos ||
           function.find("_XlaMustCompile") != std::string_view::npos;
  });
}

std::string Contents::graph_of(const std::vector<std::pair<std::string, Function>>& wanted,
                               const std::set<std::string_view>& called) const {
  std::string graph, library;
  for (const std::string_view name : called) put(library, 1, functions_.at(name));
  for (const auto& [name, function] : wanted) {
    std::string call;
    put(call, 1, name);
    put(call, 2, "StatefulPartitionedCall");
    for (const Argument& input : function.inputs) {
      put(graph, 1, placeholder(name + "/" + input.name, input.type));
      put(call, 3, name + "/" + input.name);
    }
    put_attribute(call, "Tin", types_of(function.inputs));
    put_attribute(call, "Tout", types_of(function.outputs));
    std::string reference, value;
    put(reference, 1, function.name);
    put(value, 10, reference);
    put_attribute(call, "f", value);
    put(graph, 1, call);
  }
  put(graph, 2, library);
  put(graph, 4, versions_);
  return graph;
}

}  // namespace deepmd::tensorflow_backend
