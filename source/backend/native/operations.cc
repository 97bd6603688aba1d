// SPDX-License-Identifier: LGPL-3.0-or-later
#include "operations.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "kernels/kernels.h"

namespace deepmd::native::traced {

namespace {

constexpr int64_t kVersion = 1;
constexpr size_t kMostOperations = 100000, kMostAxes = 8;

struct Known {
  Op op;
  int32_t function;
};

const std::map<std::string, Known>& known_operations() {
  static const std::map<std::string, Known> all = {
      {"number", {Op::number, 0}},
      {"size", {Op::size, 0}},
      {"arange", {Op::arange, 0}},
      {"reshape", {Op::reshape, 0}},
      {"broadcast", {Op::broadcast, 0}},
      {"permute", {Op::permute, 0}},
      {"slice", {Op::slice, 0}},
      {"pad", {Op::pad, 0}},
      {"concat", {Op::concat, 0}},
      {"take", {Op::take, 0}},
      {"scatter", {Op::scatter, 0}},
      {"argsort", {Op::argsort, 0}},
      {"gather", {Op::gather, 0}},
      {"segment_sum", {Op::segment_sum, 0}},
      {"sum", {Op::sum, 0}},
      {"max", {Op::max, 0}},
      {"matmul", {Op::matmul, 0}},
      {"cast", {Op::cast, 0}},
      {"where", {Op::where, 0}},
      {"and", {Op::logical, kAnd}},
      {"or", {Op::logical, kOr}},
      {"not", {Op::logical, kNot}},
      {"lt", {Op::compare, DEEPMD_COMPARE_LT}},
      {"le", {Op::compare, DEEPMD_COMPARE_LE}},
      {"gt", {Op::compare, DEEPMD_COMPARE_GT}},
      {"ge", {Op::compare, DEEPMD_COMPARE_GE}},
      {"eq", {Op::compare, DEEPMD_COMPARE_EQ}},
      {"ne", {Op::compare, DEEPMD_COMPARE_NE}},
      {"add", {Op::map, DEEPMD_MAP_ADD}},
      {"sub", {Op::map, DEEPMD_MAP_SUB}},
      {"mul", {Op::map, DEEPMD_MAP_MUL}},
      {"div", {Op::map, DEEPMD_MAP_DIV}},
      {"maximum", {Op::map, DEEPMD_MAP_MAXIMUM}},
      {"minimum", {Op::map, DEEPMD_MAP_MINIMUM}},
      {"pow", {Op::map, DEEPMD_MAP_POW}},
      {"neg", {Op::map, DEEPMD_MAP_NEG}},
      {"abs", {Op::map, DEEPMD_MAP_ABS}},
      {"sign", {Op::map, DEEPMD_MAP_SIGN}},
      {"exp", {Op::map, DEEPMD_MAP_EXP}},
      {"expm1", {Op::map, DEEPMD_MAP_EXPM1}},
      {"log", {Op::map, DEEPMD_MAP_LOG}},
      {"log1p", {Op::map, DEEPMD_MAP_LOG1P}},
      {"sqrt", {Op::map, DEEPMD_MAP_SQRT}},
      {"tanh", {Op::map, DEEPMD_MAP_TANH}},
      {"sigmoid", {Op::map, DEEPMD_MAP_SIGMOID}},
      {"sin", {Op::map, DEEPMD_MAP_SIN}},
      {"cos", {Op::map, DEEPMD_MAP_COS}},
      {"floor", {Op::map, DEEPMD_MAP_FLOOR}},
      {"erf", {Op::map, DEEPMD_MAP_ERF}},
  };
  return all;
}

/** The number of an operation of a name. */
Known known(const std::string& name) {
  const auto found = known_operations().find(name);
  if (found != known_operations().end()) return found->second;
  throw Failure("the program has the operation \"" + name.substr(0, 40) +
                "\", which is not known to this release; write the file again, or use a later one");
}

Shape shape_of(const Node& node, SizeNames& names) {
  Shape shape;
  if (!node.is_list() || node.size() > kMostAxes) node.fail("is no shape");
  for (size_t k = 0; k < node.size(); ++k) shape.push_back(Size::read(node[k].json(), names));
  return shape;
}

/** An array of a file as numbers of a type that programs have. */
ConstantArray constant_of(const Array& array, Type type) {
  ConstantArray made;
  const std::map<Type, const char*> dtypes = {
      {Type::f64, "<f8"}, {Type::f32, "<f4"}, {Type::i64, "<i8"}, {Type::boolean, "|b1"}};
  if (array.dtype != dtypes.at(type) || array.shape.size() > kMostAxes) {
    throw Failure("a constant of the program is of another type than it should be");
  }
  made.facts.type = type;
  made.shape = array.shape;
  for (const int64_t n : array.shape) made.facts.shape.emplace_back(n);
  const char* bytes = reinterpret_cast<const char*>(array.data);
  made.bytes.assign(bytes, bytes + array.size() * width_of(type));
  if (type == Type::boolean) {
    for (char& c : made.bytes) c = c != 0;
  }
  return made;
}

}  // namespace

Type type_of(const Node& node, const std::string& key) {
  const std::string name = node.text(key);
  if (name == "float64") return Type::f64;
  if (name == "float32") return Type::f32;
  if (name == "int64") return Type::i64;
  if (name == "bool") return Type::boolean;
  node.fail("has numbers of a type that programs do not have");
}

Operations::Operations(const Node& stored, const Node& model) {
  if (stored.integer("@version") != kVersion) {
    stored.fail("is a program of version " + std::to_string(stored.integer("@version")) + ", " +
                std::to_string(kVersion) + " is read here; write the file again");
  }
  read_inputs(stored["inputs"]);
  read_constants(stored["constants"], stored, model);
  read_operations(stored["nodes"]);
  read_outputs(stored["outputs"]);
}

ArrayFacts Operations::facts(ValueId id) const {
  if (id < first_constant()) return inputs_[id].facts;
  if (id < first_operation()) return constants_[id - first_constant()].facts;
  const Operation& operation = operations_[id - first_operation()];
  return {operation.type, operation.shape};
}

ValueId Operations::output(const std::string& name) const {
  for (const auto& [other, id] : outputs_) {
    if (name == other) return id;
  }
  return -1;
}

void Operations::read_inputs(const Node& node) {
  if (node.size() > kMostOperations) node.fail("has too many inputs");
  for (size_t k = 0; k < node.size(); ++k) {
    const Node one = node[k];
    inputs_.push_back({one.text("name"), {type_of(one, "dtype"), shape_of(one["shape"], names_)}});
  }
}

void Operations::read_constants(const Node& node, const Node& own, const Node& model) {
  if (node.size() > kMostOperations) node.fail("has too many constants");
  for (size_t k = 0; k < node.size(); ++k) {
    const Node one = node[k], path = one["path"];
    Node place = path.size() == 1 ? own["@variables"] : model;
    for (size_t p = 0; p < path.size(); ++p) {
      const nlohmann::json& key = path[p].json();
      if (key.is_string()) {
        place = place[key.get<std::string>()];
      } else {
        place = place[key.get<size_t>()];
      }
    }
    // Own constants may be infinite, parameters of the model not.
    if (path.size() > 1 && place.array().dtype.compare(1, 1, "f") == 0) place.values();
    constants_.push_back(constant_of(place.array(), type_of(one, "dtype")));
    if (constants_.back().shape != one.integers("shape")) {
      one.fail("is a constant of another shape");
    }
  }
}

void Operations::read_operations(const Node& node) {
  if (node.size() > kMostOperations) node.fail("has too many operations");
  operations_.reserve(node.size());
  for (size_t k = 0; k < node.size(); ++k) {
    const Node one = node[k];
    const Known found = known(one.text("op"));
    Operation operation;
    operation.op = found.op;
    operation.function = found.function;
    std::vector<ArrayFacts> args;
    for (const int64_t arg : one.integers("args")) {
      if (arg < 0 || arg >= count()) one.fail("uses an array that is not there");
      operation.args.push_back(static_cast<ValueId>(arg));
      args.push_back(facts(static_cast<ValueId>(arg)));
    }
    infer(operation, args, one, names_);
    operations_.push_back(std::move(operation));
  }
}

void Operations::read_outputs(const Node& node) {
  for (const auto& [name, number] : node.json().items()) {
    const auto id = number.get<int64_t>();
    if (id < 0 || id >= count()) node.fail("names an array that is not there");
    outputs_.emplace_back(name, static_cast<ValueId>(id));
  }
}

}  // namespace deepmd::native::traced
