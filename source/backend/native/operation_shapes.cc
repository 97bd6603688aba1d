// SPDX-License-Identifier: LGPL-3.0-or-later
/** Types and shapes of the results of operations, for all sizes at once. */
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/kernels.h"
#include "operations.h"

namespace deepmd::native::traced {

namespace {

constexpr size_t kMostAxes = 8;

/** One operation while its result is found. */
class Inference {
 public:
  Inference(Operation& operation, const std::vector<ArrayFacts>& args, const Node& node,
            SizeNames& names)
      : operation_(operation), args_(args), node_(node), names_(names) {}

  void run() {
    switch (operation_.op) {
      case Op::number:
        return number();
      case Op::size:
        need(0);
        operation_.start = size("value");
        operation_.type = type_of(node_, "type");
        return check(operation_.type != Type::boolean);
      case Op::arange:
        need(0);
        operation_.shape = {size("length")};
        operation_.type = Type::i64;
        return;
      case Op::reshape:
        need(1);
        same_type();
        operation_.shape = shape();
        return check(elements(operation_.shape) == elements(args_[0].shape));
      case Op::broadcast:
        return broadcast();
      case Op::permute:
        return permute();
      case Op::slice:
        need(1);
        same_type();
        operation_.axis = axis();
        operation_.start = size("start");
        operation_.shape = with_axis(size("length"));
        return;
      case Op::pad:
        need(1);
        same_type();
        operation_.axis = axis();
        operation_.start = size("before");
        operation_.shape = with_axis(size("total"));
        return;
      case Op::concat:
        return concat();
      case Op::take:
        return take();
      case Op::scatter:
        need(3);
        same_type();
        check_index(1);
        check(args_[2].type == args_[0].type && rank(0) > 0);
        operation_.shape = args_[0].shape;
        return check(args_[2].shape == with_first(args_[0].shape, args_[1].shape[0]));
      case Op::segment_sum:
        need(2);
        same_type();
        check_index(1);
        check(rank(0) > 0 && args_[0].type != Type::boolean);
        check(args_[0].shape[0] == args_[1].shape[0]);
        operation_.shape = with_first(args_[0].shape, size("length"));
        return;
      case Op::sum:
      case Op::max:
        return reduce();
      case Op::matmul:
        return matmul();
      default:
        return elementwise();
    }
  }

 private:
  void check(bool fits) const {
    if (!fits) node_.fail("is an operation whose arguments do not fit");
  }
  void need(size_t count) const { check(args_.size() == count); }
  size_t rank(size_t k) const { return args_[k].shape.size(); }
  void same_type() { operation_.type = args_[0].type; }
  Size size(const char* key) const { return Size::read(node_[key].json(), names_); }

  Shape shape() const {
    const Node sizes = node_["shape"];
    check(sizes.size() <= kMostAxes);
    Shape found;
    for (size_t k = 0; k < sizes.size(); ++k) found.push_back(Size::read(sizes[k].json(), names_));
    return found;
  }

  int64_t axis() const {
    const int64_t found = node_.integer("axis");
    check(found >= 0 && found < static_cast<int64_t>(rank(0)));
    return found;
  }

  /** Distinct axes of the first argument. */
  std::vector<int64_t> axes() const {
    std::vector<int64_t> found = node_.integers("axes");
    std::vector<char> seen(rank(0), 0);
    for (const int64_t a : found) {
      check(a >= 0 && a < static_cast<int64_t>(rank(0)) && !seen[a]);
      seen[a] = 1;
    }
    return found;
  }

  Shape with_axis(const Size& length) const {
    Shape shape = args_[0].shape;
    shape[operation_.axis] = length;
    return shape;
  }
  static Shape with_first(Shape shape, const Size& length) {
    shape[0] = length;
    return shape;
  }
  void check_index(size_t k) const { check(args_[k].type == Type::i64 && rank(k) == 1); }

  void number() {
    need(0);
    operation_.type = type_of(node_, "type");
    const nlohmann::json& value = node_["value"].json();
    if (value.is_boolean()) {
      operation_.value = value.get<bool>() ? 1.0 : 0.0;
    } else if (value.is_string()) {
      const std::string text = value.get<std::string>();
      check(text == "inf" || text == "-inf" || text == "nan");
      operation_.value = text == "nan" ? std::numeric_limits<double>::quiet_NaN()
                                       : std::numeric_limits<double>::infinity();
      if (text == "-inf") operation_.value = -operation_.value;
    } else {
      operation_.value = value.get<double>();
    }
    const bool whole = std::abs(operation_.value) < 9e15;
    check(whole || operation_.type == Type::f64 || operation_.type == Type::f32);
  }

  void broadcast() {
    need(1);
    same_type();
    operation_.shape = shape();
    check(operation_.shape.size() >= rank(0));
    const size_t more = operation_.shape.size() - rank(0);
    for (size_t k = 0; k < rank(0); ++k) {
      const Size& n = args_[0].shape[k];
      check(n.is(1) || n == operation_.shape[more + k]);
    }
  }

  void permute() {
    need(1);
    same_type();
    operation_.axes = axes();
    check(operation_.axes.size() == rank(0));
    for (const int64_t a : operation_.axes) operation_.shape.push_back(args_[0].shape[a]);
  }

  void concat() {
    check(!args_.empty() && args_.size() < 4096);
    same_type();
    operation_.axis = axis();
    Size total(0);
    for (const ArrayFacts& one : args_) {
      check(one.type == operation_.type && one.shape.size() == rank(0));
      total = total + one.shape[operation_.axis];
    }
    operation_.shape = with_axis(total);
    for (const ArrayFacts& one : args_) {
      Shape shape = one.shape;
      shape[operation_.axis] = total;
      check(shape == operation_.shape);
    }
  }

  void take() {
    need(2);
    same_type();
    check_index(1);
    operation_.axis = axis();
    operation_.shape = with_axis(args_[1].shape[0]);
  }

  void reduce() {
    need(1);
    same_type();
    check(operation_.type == Type::f64 || operation_.type == Type::f32 ||
          (operation_.type == Type::i64 && operation_.op == Op::sum));
    operation_.axes = axes();
    for (size_t k = 0; k < rank(0); ++k) {
      const auto& all = operation_.axes;
      if (std::find(all.begin(), all.end(), static_cast<int64_t>(k)) == all.end()) {
        operation_.shape.push_back(args_[0].shape[k]);
      }
    }
  }

  void matmul() {
    need(2);
    same_type();
    check(operation_.type == Type::f64 || operation_.type == Type::f32);
    check(args_[1].type == operation_.type && rank(0) == rank(1));
    check(rank(0) == 2 || rank(0) == 3);
    const Shape &a = args_[0].shape, &b = args_[1].shape;
    const size_t last = rank(0) - 1;
    check(a[last] == b[last - 1] && (last == 1 || a[0] == b[0]));
    operation_.shape = a;
    operation_.shape[last] = b[last];
  }

  void elementwise() {
    check(!args_.empty() && args_.size() <= 3);
    for (const ArrayFacts& one : args_) join(one.shape);
    const Type first = args_[0].type;
    const bool real = first == Type::f64 || first == Type::f32;
    switch (operation_.op) {
      case Op::cast:
        need(1);
        operation_.type = type_of(node_, "type");
        return;
      case Op::where:
        need(3);
        operation_.type = args_[1].type;
        return check(first == Type::boolean && args_[2].type == operation_.type);
      case Op::logical:
        need(operation_.function == kNot ? 1 : 2);
        operation_.type = Type::boolean;
        return check(first == Type::boolean && args_.back().type == Type::boolean);
      case Op::compare:
        need(2);
        operation_.type = Type::boolean;
        return check(args_[1].type == first && first != Type::boolean);
      default:
        break;
    }
    const bool pair = operation_.function <= DEEPMD_MAP_POW;
    need(pair ? 2 : 1);
    operation_.type = first;
    const bool of_whole = operation_.function <= DEEPMD_MAP_MUL ||
                          operation_.function == DEEPMD_MAP_MAXIMUM ||
                          operation_.function == DEEPMD_MAP_MINIMUM ||
                          operation_.function == DEEPMD_MAP_NEG;
    check(args_.back().type == first && (real || (first == Type::i64 && of_whole)));
  }

  /** Repeat along axes of length 1. */
  void join(const Shape& other) {
    Shape& shape = operation_.shape;
    while (shape.size() < other.size()) shape.insert(shape.begin(), Size(1));
    const size_t more = shape.size() - other.size();
    for (size_t k = 0; k < other.size(); ++k) {
      if (shape[more + k].is(1)) {
        shape[more + k] = other[k];
      } else {
        check(other[k].is(1) || other[k] == shape[more + k]);
      }
    }
  }

  Operation& operation_;
  const std::vector<ArrayFacts>& args_;
  const Node& node_;
  SizeNames& names_;
};

}  // namespace

void infer(Operation& operation, const std::vector<ArrayFacts>& args, const Node& node,
           SizeNames& names) {
  Inference(operation, args, node, names).run();
}

}  // namespace deepmd::native::traced
