// SPDX-License-Identifier: LGPL-3.0-or-later
#include "exchange_plan.h"

#include <algorithm>

namespace deepmd::native::traced {

ExchangePlan::ExchangePlan(const Operations& operations, const std::vector<ValueId>& outputs)
    : operations_(operations), facts_(static_cast<size_t>(operations.count())) {
  find_used(outputs);
  describe_inputs();
  const ValueId first = operations.first_operation(), n = operations.count();
  for (ValueId id = first; id < n && obstacle_.empty(); ++id) {
    if (facts_[id].used) describe(id);
  }
  for (ValueId id = first; id < n && obstacle_.empty(); ++id) {
    const Operation& op = *operations.operation(id);
    if (!facts_[id].used || op.args.size() < 2) continue;
    if (facts_[op.args[1]].meaning != Meaning::atoms) continue;
    if (op.op == Op::segment_sum && facts_[id].rows) add_partial(id);
  }
  for (ValueId id = first; id < n && obstacle_.empty(); ++id) {
    const Operation& op = *operations.operation(id);
    if (!facts_[id].used || op.op != Op::take || !facts_[op.args[0]].rows) continue;
    if (facts_[op.args[1]].meaning == Meaning::atoms) need(op.args[0]);
  }
}

bool ExchangePlan::for_ghosts(ValueId id) const {
  const Facts& facts = facts_[id];
  return facts.partial || (facts.needed && facts.transfer != Transfer::to_ghosts);
}

int64_t ExchangePlan::transfers() const {
  return std::count_if(facts_.begin(), facts_.end(),
                       [](const Facts& one) { return one.transfer != Transfer::none; });
}

void ExchangePlan::refuse(const std::string& what) {
  if (obstacle_.empty()) obstacle_ = what;
}

void ExchangePlan::find_used(const std::vector<ValueId>& outputs) {
  for (const ValueId id : outputs) facts_[id].used = true;
  for (ValueId id = operations_.count() - 1; id >= operations_.first_operation(); --id) {
    if (!facts_[id].used) continue;
    for (const ValueId arg : operations_.operation(id)->args) {
      facts_[arg].used = true;
      facts_[arg].users.push_back(id);
    }
  }
  // An output has a user that is no operation.
  for (const ValueId id : outputs) facts_[id].users.push_back(-1);
}

void ExchangePlan::describe_inputs() {
  const std::vector<ProgramInput>& inputs = operations_.inputs();
  for (const ProgramInput& input : inputs) {
    const Shape& shape = input.facts.shape;
    if (input.name == "atype" && shape.size() == 1) atoms_ = shape[0].name();
  }
  if (atoms_ < 0) return refuse("the program does not take the types of atoms");
  for (size_t k = 0; k < inputs.size(); ++k) {
    Facts& facts = facts_[k];
    const std::string& name = inputs[k].name;
    if (name == "i") facts.meaning = Meaning::own;
    if (name == "j") facts.meaning = Meaning::atoms;
    if (name.rfind("slot_", 0) == 0) facts.meaning = Meaning::edges;
    check_shape(static_cast<ValueId>(k));
    facts.everywhere = name == "atype" || name == "frame";
  }
}

/** The first axis alone may be one of atoms. */
void ExchangePlan::check_shape(ValueId id) {
  const Shape shape = operations_.facts(id).shape;
  for (size_t k = 0; k < shape.size(); ++k) {
    if (!shape[k].has(atoms_)) continue;
    if (k > 0 || !shape[k].is_multiple(atoms_)) refuse("an array has atoms beyond its first axis");
    facts_[id].rows = true;
  }
}

void ExchangePlan::describe(ValueId id) {
  const Operation& op = *operations_.operation(id);
  Facts& facts = facts_[id];
  check_shape(id);
  check(op, id);
  facts.meaning = meaning(op);
  facts.everywhere = op.op != Op::segment_sum &&
                     std::all_of(op.args.begin(), op.args.end(), [this](ValueId arg) {
                       return !facts_[arg].rows || facts_[arg].everywhere;
                     });
}

ExchangePlan::Meaning ExchangePlan::meaning(const Operation& op) const {
  if (op.type != Type::i64 || op.args.empty()) return Meaning::other;
  if (op.op == Op::take) return facts_[op.args[0]].meaning;
  if (!op.is_elementwise() && !op.is_view() && op.op != Op::concat) return Meaning::other;
  Meaning found = Meaning::other;
  for (const ValueId arg : op.args) found = std::max(found, facts_[arg].meaning);
  return found;
}

/** Refuse what puts atoms of different rows together in another way than by an index. */
void ExchangePlan::check(const Operation& op, ValueId id) {
  const bool rows = facts_[id].rows;
  const auto has_rows = [this](ValueId arg) { return facts_[arg].rows; };
  const bool any = std::any_of(op.args.begin(), op.args.end(), has_rows);
  const bool first = std::find(op.axes.begin(), op.axes.end(), 0) != op.axes.end();
  switch (op.op) {
    case Op::number:
      return;
    case Op::size:
      if (op.start.has(atoms_) && op.type != Type::i64) refuse("the number of atoms is used");
      return;
    case Op::take:
      return check_take(op);
    case Op::segment_sum:
      return check_sum(op, id);
    case Op::arange:
    case Op::scatter:
      if (any || rows) refuse("rows of atoms are numbered or written");
      return;
    case Op::slice:
    case Op::pad:
    case Op::concat:
      if (op.axis == 0 && (any || rows)) refuse("parts of an array of atoms are taken");
      return;
    case Op::sum:
    case Op::max:
      if (any && first) refuse("atoms are summed");
      return;
    case Op::argsort:
    case Op::gather:
      if (any && op.shape.size() < 2) refuse("atoms are sorted");
      return;
    case Op::matmul:
      if (op.shape.size() == 2 && facts_[op.args[1]].rows) refuse("atoms are summed by a product");
      return;
    default:
      if (any && !rows) refuse("an array of atoms becomes another one");
  }
}

bool ExchangePlan::is_atoms(ValueId id) const {
  const Shape shape = operations_.facts(id).shape;
  return !shape.empty() && shape[0].name() == atoms_;
}

void ExchangePlan::check_take(const Operation& op) {
  if (op.axis != 0 || !facts_[op.args[0]].rows) return;
  const Meaning meaning = facts_[op.args[1]].meaning;
  if (!is_atoms(op.args[0]) || meaning < Meaning::own) refuse("atoms are taken by other numbers");
}

void ExchangePlan::check_sum(const Operation& op, ValueId id) {
  const Meaning meaning = facts_[op.args[1]].meaning;
  if (facts_[id].rows && (!is_atoms(id) || meaning < Meaning::own)) {
    refuse("sums of atoms have other numbers");
  }
  if (!facts_[id].rows && facts_[op.args[0]].rows && meaning != Meaning::edges) {
    refuse("atoms are summed");
  }
}

/** Numbers of a row of an array; -1: not fixed. */
int64_t ExchangePlan::width(ValueId id) const {
  const Shape shape = operations_.facts(id).shape;
  int64_t total = 1;
  for (size_t k = 1; k < shape.size(); ++k) {
    if (!shape[k].is_fixed()) return -1;
    total *= shape[k].value({});
  }
  return total;
}

/** Whether an array is that of atoms times weights, which is linear, and no wider. */
bool ExchangePlan::is_product_by_weights(ValueId id) const {
  const Operation* op = operations_.operation(id);
  return op && op->op == Op::matmul && op->shape.size() == 2 && facts_[op->args[0]].rows &&
         !facts_[op->args[1]].rows && width(op->args[0]) >= 0 && width(id) >= 0;
}

/** Let the parts of a sum go to the owners, after a product that makes them narrower, if any. */
void ExchangePlan::add_partial(ValueId id) {
  const auto is_float = [](Type type) { return type == Type::f64 || type == Type::f32; };
  if (!is_float(operations_.facts(id).type)) return refuse("whole numbers are summed");
  ValueId last = id;
  facts_[id].partial = true;
  const std::vector<ValueId>& users = facts_[id].users;
  if (users.size() == 1 && users[0] >= 0 && is_product_by_weights(users[0]) &&
      width(users[0]) <= width(id)) {
    last = users[0];
    facts_[last].partial = true;
  }
  facts_[last].transfer = Transfer::to_owners;
}

/** Let ghosts have rows of an array. */
void ExchangePlan::need(ValueId id) {
  std::vector<ValueId> all = {id};
  while (!all.empty()) {
    const ValueId one = all.back();
    all.pop_back();
    if (facts_[one].needed) continue;
    facts_[one].needed = true;
    need_one(one, all);
  }
}

/** The same for one array; others that are needed for it are added to a list. */
void ExchangePlan::need_one(ValueId id, std::vector<ValueId>& others) {
  Facts& facts = facts_[id];
  if (facts.partial) return refuse("sums of neighbors are taken by neighbors");
  const Operation* op = operations_.operation(id);
  if (facts.everywhere) {
    for (size_t k = 0; op && k < op->args.size(); ++k) {
      if (facts_[op->args[k]].rows) others.push_back(op->args[k]);
    }
    return;
  }
  // Ghosts get what is narrower, and repeat the product.
  if (is_product_by_weights(id) && !facts_[op->args[0]].partial &&
      width(op->args[0]) <= width(id)) {
    others.push_back(op->args[0]);
    return;
  }
  const Type type = operations_.facts(id).type;
  if (type != Type::f64 && type != Type::f32) return refuse("whole numbers are exchanged");
  facts.transfer = Transfer::to_ghosts;
}

}  // namespace deepmd::native::traced
