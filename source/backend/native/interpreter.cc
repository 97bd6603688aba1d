// SPDX-License-Identifier: LGPL-3.0-or-later
#include "interpreter.h"

#include <algorithm>
#include <utility>

namespace deepmd::native::traced {

namespace {

/** Bytes that a program may take for each unit of the sizes of its inputs, and for all. */
constexpr int64_t kMemoryPerSize = int64_t{1} << 18, kMemory = int64_t{1} << 27;

[[noreturn]] void refuse(const std::string& name) {
  throw Failure("the program got an array \"" + name + "\" of another shape than it declares");
}

}  // namespace

/** One evaluation. */
class Evaluation {
 public:
  Evaluation(const Interpreter& interpreter, Memory& memory, int threads, int64_t most,
             const Ranks& ranks)
      : interpreter_(interpreter),
        operations_(interpreter.operations()),
        memory_(memory),
        parallel_(threads),
        most_(most),
        ranks_(ranks) {}

  void run() {
    for (size_t k = 0; ranks_.exchange && k < operations_.inputs().size(); ++k) {
      transfer(static_cast<ValueId>(k));
    }
    for (const Step& step : interpreter_.plan().steps()) {
      own_ = ranks_.exchange && !interpreter_.exchange_plan().for_ghosts(step.result);
      if (step.chain >= 0) {
        chain(step);
      } else {
        operation(step.result, *operations_.operation(step.result));
      }
      if (ranks_.exchange) transfer(step.result);
      for (const ValueId id : step.released) release(id);
    }
  }

  /** An output as dense numbers. */
  View output(ValueId id) {
    const View view = memory_.held_[id].view;
    return view.contiguous() ? view : copied(view).first;
  }

 private:
  using Held = Memory::Held;

  /** An array whose rows are those of the result. */
  View view(ValueId id) const { return own_ ? of_own_atoms(id) : source(id); }
  /** An array with all rows that there are. */
  const View& source(ValueId id) const { return memory_.held_[id].view; }
  View of_own_atoms(ValueId id) const {
    View view = source(id);
    if (ranks_.exchange && interpreter_.exchange_plan().has_rows(id)) {
      view.shape[0] = operations_.facts(id).shape[0].value(memory_.own_sizes_);
    }
    return view;
  }
  int64_t value(const Size& size) const {
    return size.value(own_ ? memory_.own_sizes_ : memory_.sizes_);
  }

  /** Exchange rows of a result, if it is one that ranks exchange. */
  void transfer(ValueId id) {
    const Transfer transfer = interpreter_.exchange_plan().transfer(id);
    if (transfer == Transfer::none) return;
    Held& held = memory_.held_[id];
    if (transfer == Transfer::to_owners) {
      exchange_rows(*ranks_.exchange, transfer, held.view);
      held.view.shape[0] = ranks_.n_owned;
      return;
    }
    const View own = of_own_atoms(id);
    Block* const before = held.block;
    own_ = false;
    const View all = made(id, own.type, with_ghosts(own), own.rank);
    View part = all;
    part.shape[0] = own.shape[0];
    copy(own, part, parallel_);
    const int64_t bytes = part.size() * width_of(own.type);
    std::fill_n(all.data + bytes, all.size() * width_of(own.type) - bytes, '\0');
    if (before) memory_.pool_.give(before);
    exchange_rows(*ranks_.exchange, transfer, all);
  }

  Dims with_ghosts(const View& own) const {
    Dims shape = own.shape;
    shape[0] = memory_.sizes_[interpreter_.exchange_plan().atoms()];
    return shape;
  }

  void release(ValueId id) {
    Held& held = memory_.held_[id];
    if (held.block) memory_.pool_.give(held.block);
    held.block = nullptr;
  }

  /** A place for the result of an operation. */
  View made(ValueId id, const Operation& operation) {
    Dims shape{};
    const auto rank = static_cast<int>(operation.shape.size());
    for (int k = 0; k < rank; ++k) shape[k] = value(operation.shape[k]);
    return made(id, operation.type, shape, rank);
  }

  View made(ValueId id, Type type, const Dims& shape, int rank) {
    Held& held = memory_.held_[id];
    held.view = dense(type, shape.data(), rank, nullptr);
    checked(held.view);
    held.block = memory_.pool_.take(held.view.size() * width_of(type));
    held.view.data = held.block->data;
    return held.view;
  }

  /** Throw if an array, which may repeat numbers, is larger than any that a model needs. */
  void checked(const View& view) const {
    int64_t size = 1;
    for (int k = 0; k < view.rank; ++k) {
      size *= view.shape[k];
      if (size > most_) {
        throw Failure("the program makes an array larger than a model needs; write the file again");
      }
    }
  }

  /** A dense copy, in a block of its own. */
  std::pair<View, Block*> copied(const View& from) {
    checked(from);
    Block* block = memory_.pool_.take(from.size() * width_of(from.type));
    const View to = dense(from.type, from.shape.data(), from.rank, block->data);
    copy(from, to, parallel_);
    return {to, block};
  }

  /** Let a value see the numbers of another one. */
  void share(ValueId id, ValueId from, const View& seen) {
    Held& held = memory_.held_[id];
    const Held& source = memory_.held_[from];
    held.view = seen;
    checked(seen);
    held.block = source.block;
    if (held.block) ++held.block->users;
  }

  void chain(const Step& step) {
    const Chain& chain = interpreter_.plan().chain(step.chain);
    const View to = made(step.result, *operations_.operation(step.result));
    std::vector<View> operands;
    operands.reserve(chain.operands.size());
    for (const ValueId id : chain.operands) operands.push_back(view(id));
    run_chain(chain, operands, to, parallel_);
  }

  void operation(ValueId id, const Operation& op) {
    switch (op.op) {
      case Op::number:
      case Op::size:
        return number(id, op);
      case Op::arange: {
        const View to = made(id, op);
        for (int64_t k = 0; k < to.shape[0]; ++k) to.as<int64_t>()[k] = k;
        return;
      }
      case Op::reshape:
        return reshaped(id, op);
      case Op::broadcast:
      case Op::permute:
      case Op::slice:
        return share(id, op.args[0], seen(op));
      case Op::pad:
        return pad(id, op);
      case Op::concat:
        return concat(id, op);
      case Op::take:
        return take(source(op.args[0]), view(op.args[1]), static_cast<int>(op.axis), made(id, op),
                    parallel_);
      case Op::scatter: {
        const View to = made(id, op);
        copy(view(op.args[0]), to, parallel_);
        return scatter(view(op.args[1]), view(op.args[2]), to, parallel_);
      }
      case Op::argsort:
        return argsort(view(op.args[0]), made(id, op));
      case Op::gather:
        return gather(view(op.args[0]), view(op.args[1]), made(id, op));
      case Op::segment_sum:
        return sum_segments(id, op);
      case Op::sum:
      case Op::max:
        return reduce(op.op, view(op.args[0]), op.axes, made(id, op), parallel_);
      case Op::matmul:
        if (op.type == Type::f64) return matmul<double>(id, op, memory_.packed_f64_);
        return matmul<float>(id, op, memory_.packed_f32_);
      default:
        throw Failure("the program is damaged; write the file again");
    }
  }

  void number(ValueId id, const Operation& op) {
    Held& held = memory_.held_[id];
    const bool sized = op.op == Op::size;
    const double number = sized ? static_cast<double>(op.start.value(memory_.sizes_)) : op.value;
    held.view = dense(op.type, nullptr, 0, reinterpret_cast<char*>(&held.number));
    switch (op.type) {
      case Type::f64:
        *held.view.as<double>() = number;
        return;
      case Type::f32:
        *held.view.as<float>() = static_cast<float>(number);
        return;
      case Type::i64:
        held.number = static_cast<int64_t>(number);
        return;
      case Type::boolean:
        *held.view.data = number != 0.0;
    }
  }

  void reshaped(ValueId id, const Operation& op) {
    Dims shape{};
    const auto rank = static_cast<int>(op.shape.size());
    for (int k = 0; k < rank; ++k) shape[k] = value(op.shape[k]);
    View to;
    const View from = view(op.args[0]);
    if (reshape(from, shape.data(), rank, to)) return share(id, op.args[0], to);
    to = made(id, op.type, shape, rank);
    copy(from, dense(op.type, from.shape.data(), from.rank, to.data), parallel_);
  }

  /** The argument of an operation as its result sees it. */
  View seen(const Operation& op) const {
    const View from = view(op.args[0]);
    View to = from;
    if (op.op == Op::permute) {
      for (size_t k = 0; k < op.axes.size(); ++k) {
        to.shape[k] = from.shape[op.axes[k]];
        to.stride[k] = from.stride[op.axes[k]];
      }
      return to;
    }
    if (op.op == Op::broadcast) {
      Dims shape{};
      for (size_t k = 0; k < op.shape.size(); ++k) shape[k] = value(op.shape[k]);
      return repeated(to, shape.data(), static_cast<int>(op.shape.size()));
    }
    const auto axis = static_cast<int>(op.axis);
    const int64_t start = value(op.start), length = value(op.shape[axis]);
    if (start + length > to.shape[axis]) outside();
    to = to.moved(axis, start);
    to.shape[axis] = length;
    return to;
  }

  [[noreturn]] static void outside() {
    throw Failure("the program takes a part that an array does not have; write the file again");
  }

  void pad(ValueId id, const Operation& op) {
    const View from = view(op.args[0]);
    const auto axis = static_cast<int>(op.axis);
    const int64_t before = value(op.start), total = value(op.shape[axis]);
    if (before + from.shape[axis] > total) outside();
    const View to = made(id, op);
    View part = to.moved(axis, before), zeros = to, rest = to;
    part.shape[axis] = from.shape[axis];
    zeros.shape[axis] = before;
    rest = to.moved(axis, before + from.shape[axis]);
    rest.shape[axis] = total - before - from.shape[axis];
    static const int64_t zero = 0;
    for (const View& empty : {zeros, rest}) {
      View nothing = empty;
      nothing.data = const_cast<char*>(reinterpret_cast<const char*>(&zero));
      nothing.stride.fill(0);
      copy(nothing, empty, parallel_);
    }
    copy(from, part, parallel_);
  }

  void concat(ValueId id, const Operation& op) {
    const View to = made(id, op);
    const auto axis = static_cast<int>(op.axis);
    int64_t start = 0;
    for (const ValueId arg : op.args) {
      const View from = view(arg);
      View part = to.moved(axis, start);
      part.shape[axis] = from.shape[axis];
      copy(from, part, parallel_);
      start += part.shape[axis];
    }
  }

  void sum_segments(ValueId id, const Operation& op) {
    const View to = made(id, op);
    const ValueId index = op.args[1];
    auto found = memory_.segments_.find(index);
    const auto count = static_cast<size_t>(to.shape[0]) + 1;
    if (found == memory_.segments_.end() || found->second.starts.size() != count) {
      found = memory_.segments_.insert_or_assign(index, Segments{}).first;
      found->second.find(of_own_atoms(index), to.shape[0]);
    }
    // What is summed belongs to edges or centers, whichever rows the sums have.
    View from = of_own_atoms(op.args[0]);
    View row = from.moved(0, 0);
    row.shape[0] = 1;
    Block* block = nullptr;
    if (!row.contiguous()) std::tie(from, block) = copied(from);
    segment_sum(from, found->second, to, parallel_);
    if (block) memory_.pool_.give(block);
  }

  template <class T>
  void matmul(ValueId id, const Operation& op, std::map<ValueId, Packed<T>>& kept) {
    const View a = view(op.args[0]), b = view(op.args[1]), to = made(id, op);
    if (a.rank == 3) return multiply_stacks<T>(a, b, to, parallel_);
    // Weights are packed once.
    if (!interpreter_.fixed(op.args[1])) {
      Packed<T>& packed = kept[-1];
      packed.pack(b);
      return multiply<T>(a, packed.data.data(), to, parallel_);
    }
    Packed<T>& packed = kept[op.args[1]];
    if (packed.data.empty()) packed.pack(b);
    multiply<T>(a, packed.data.data(), to, parallel_);
  }

  const Interpreter& interpreter_;
  const Operations& operations_;
  Memory& memory_;
  Parallel parallel_;
  int64_t most_;
  Ranks ranks_;
  bool own_ = false;  ///< the result has rows for this rank's atoms only
};

namespace {

std::vector<ValueId> ids(const Operations& operations, const std::vector<std::string>& names) {
  std::vector<ValueId> found;
  for (const std::string& name : names) {
    found.push_back(operations.output(name));
    if (found.back() < 0) throw Failure("the program does not give \"" + name + "\"");
  }
  return found;
}

}  // namespace

Interpreter::Interpreter(std::shared_ptr<const Operations> operations,
                         const std::vector<std::string>& outputs)
    : operations_(std::move(operations)),
      outputs_(ids(*operations_, outputs)),
      plan_(*operations_, outputs_),
      exchange_plan_(*operations_, outputs_) {
  fixed_.assign(static_cast<size_t>(operations_->count()), 0);
  for (ValueId id = operations_->first_constant(); id < operations_->count(); ++id) {
    const Operation* operation = operations_->operation(id);
    if (!operation) {
      fixed_[id] = 1;
      continue;
    }
    const bool sized = operation->op == Op::size || operation->op == Op::arange;
    const bool shaped = std::all_of(operation->shape.begin(), operation->shape.end(),
                                    [](const Size& n) { return n.is_fixed(); });
    const bool placed = operation->start.is_fixed();
    fixed_[id] = !sized && shaped && placed &&
                 std::all_of(operation->args.begin(), operation->args.end(),
                             [this](ValueId arg) { return fixed_[arg]; });
  }
}

void Interpreter::bind(const std::vector<Given>& inputs, Memory& memory) const {
  const std::vector<ProgramInput>& declared = operations_->inputs();
  if (inputs.size() != declared.size()) refuse("of another number");
  memory.sizes_.assign(operations_->names().count(), -1);
  // A size is that of the first axis that has its name alone; all others must agree.
  for (int round = 0; round < 2; ++round) {
    for (size_t k = 0; k < inputs.size(); ++k) {
      const Shape& shape = declared[k].facts.shape;
      if (shape.size() != inputs[k].shape.size()) refuse(declared[k].name);
      for (size_t a = 0; a < shape.size(); ++a) {
        const int64_t name = shape[a].name();
        if (round == 0 && name >= 0 && memory.sizes_[name] < 0) {
          memory.sizes_[name] = inputs[k].shape[a];
        }
        if (round == 1 && shape[a].value(memory.sizes_) != inputs[k].shape[a]) {
          refuse(declared[k].name);
        }
      }
    }
    for (const int64_t n : memory.sizes_) {
      if (n < 0) refuse("that has a size of the program");
    }
  }
}

std::vector<View> Interpreter::run(const std::vector<Given>& inputs, int threads, Memory& memory,
                                   const Ranks& ranks) const {
  bind(inputs, memory);
  memory.own_sizes_ = memory.sizes_;
  if (ranks.exchange) memory.own_sizes_[exchange_plan_.atoms()] = ranks.n_owned;
  int64_t total = 0;
  for (const int64_t n : memory.sizes_) total += n;
  const int64_t most = kMemory + kMemoryPerSize * total;
  memory.pool_.limit(most);
  memory.pool_.give_all();
  memory.segments_.clear();
  memory.held_.assign(static_cast<size_t>(operations_->count()), {});
  const auto hold = [&](ValueId id, Type type, const std::vector<int64_t>& shape,
                        const void* data) {
    memory.held_[id].view = dense(type, shape.data(), static_cast<int>(shape.size()),
                                  static_cast<char*>(const_cast<void*>(data)));
  };
  for (size_t k = 0; k < inputs.size(); ++k) {
    hold(static_cast<ValueId>(k), operations_->inputs()[k].facts.type, inputs[k].shape,
         inputs[k].data);
  }
  for (size_t k = 0; k < operations_->constants().size(); ++k) {
    const ConstantArray& constant = operations_->constants()[k];
    hold(operations_->first_constant() + static_cast<ValueId>(k), constant.facts.type,
         constant.shape, constant.bytes.data());
  }
  Evaluation evaluation(*this, memory, threads, most, ranks);
  evaluation.run();
  std::vector<View> outputs;
  outputs.reserve(outputs_.size());
  for (const ValueId id : outputs_) outputs.push_back(evaluation.output(id));
  return outputs;
}

}  // namespace deepmd::native::traced
