// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * A stored program: the evaluation of a model as a list of operations on arrays.
 *
 * The format is described in docs/development/programs.md. Everything is checked when a program is
 * read: operations are known, refer to earlier arrays, and have shapes that fit for all sizes.
 */
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "dictionary.h"
#include "size.h"

namespace deepmd::native::traced {

/** Types of numbers. */
enum class Type : uint8_t { f64, f32, i64, boolean };

/** Bytes of a number. */
constexpr int64_t width_of(Type type) {
  return type == Type::boolean ? 1 : type == Type::f32 ? 4 : 8;
}

enum class Op : uint8_t {
  // Of no arrays.
  number,
  size,
  arange,
  // The same numbers, seen differently.
  reshape,
  broadcast,
  permute,
  slice,
  // Copies.
  pad,
  concat,
  take,
  scatter,
  segment_sum,
  // Reductions and products.
  sum,
  max,
  matmul,
  // Of elements; from here on.
  cast,
  where,
  map,      ///< `function` is a deepmd_map
  compare,  ///< `function` is a deepmd_compare
  logical,  ///< `function` is a Logical
};
enum Logical { kAnd, kOr, kNot };

/** Number of an array: inputs, constants and results of operations, in this order. */
using ValueId = int32_t;

struct Operation {
  Op op = Op::number;
  int32_t function = 0;
  std::vector<ValueId> args;
  Type type = Type::f64;      ///< of the result
  Shape shape;                ///< of the result
  int64_t axis = 0;           ///< of slice, pad, concat, take
  std::vector<int64_t> axes;  ///< of permute, sum, max
  Size start;                 ///< of slice, pad; the value of size
  double value = 0.0;         ///< of number

  bool is_elementwise() const { return op >= Op::cast; }
  bool is_view() const { return op >= Op::reshape && op <= Op::slice; }
};

/** Type and shape of an array. */
struct ArrayFacts {
  Type type;
  Shape shape;
};

struct ProgramInput {
  std::string name;
  ArrayFacts facts;
};

/** A constant array, which owns its numbers. */
struct ConstantArray {
  ArrayFacts facts;
  std::vector<int64_t> shape;
  std::vector<char> bytes;
};

class Operations {
 public:
  /** Read a program; arrays may be in the dictionary of the model. Throws Failure. */
  Operations(const Node& stored, const Node& model);

  const SizeNames& names() const { return names_; }
  const std::vector<ProgramInput>& inputs() const { return inputs_; }
  const std::vector<ConstantArray>& constants() const { return constants_; }
  const std::vector<Operation>& operations() const { return operations_; }
  const std::vector<std::pair<std::string, ValueId>>& outputs() const { return outputs_; }
  ValueId first_constant() const { return static_cast<ValueId>(inputs_.size()); }
  ValueId first_operation() const {
    return static_cast<ValueId>(inputs_.size() + constants_.size());
  }
  ValueId count() const {
    return first_operation() + static_cast<ValueId>(operations_.size());
  }
  /** The operation of a value, null for inputs and constants. */
  const Operation* operation(ValueId id) const {
    return id < first_operation() ? nullptr : &operations_[id - first_operation()];
  }
  ArrayFacts facts(ValueId id) const;
  /** The value of an output; -1: there is none of that name. */
  ValueId output(const std::string& name) const;

 private:
  void read_inputs(const Node& node);
  void read_constants(const Node& node, const Node& own, const Node& model);
  void read_operations(const Node& node);
  void read_outputs(const Node& node);

  SizeNames names_;
  std::vector<ProgramInput> inputs_;
  std::vector<ConstantArray> constants_;
  std::vector<Operation> operations_;
  std::vector<std::pair<std::string, ValueId>> outputs_;
};

/** Find type and shape of the result of an operation; throws Failure if arguments do not fit. */
void infer(Operation& operation, const std::vector<ArrayFacts>& args, const Node& node,
           SizeNames& names);

/** The type of a name. */
Type type_of(const Node& node, const std::string& key);

}  // namespace deepmd::native::traced
