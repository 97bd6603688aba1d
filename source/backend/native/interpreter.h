// SPDX-License-Identifier: LGPL-3.0-or-later
/** Evaluation of a stored program. */
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "array_operations.h"
#include "chain.h"
#include "exchange_plan.h"
#include "operations.h"
#include "plan.h"
#include "row_exchange.h"
#include "view.h"

namespace deepmd::native::traced {

/** Numbers of an input, in the order and of the type that the program declares. */
struct Given {
  const void* data = nullptr;
  std::vector<int64_t> shape;
};

/** Memory of one evaluation, which is used again by the next one. */
class Memory {
 private:
  friend class Interpreter;
  friend class Evaluation;
  /** An array that has been evaluated and not been released. */
  struct Held {
    View view;
    Block* block = nullptr;
    int64_t number = 0;  ///< of an array without axes, in place of a block
  };

  Pool pool_;
  std::vector<Held> held_;
  std::vector<int64_t> sizes_, own_sizes_;  ///< of all rows, and of those of this rank's atoms
  std::map<ValueId, Segments> segments_;
  std::map<ValueId, Packed<double>> packed_f64_;
  std::map<ValueId, Packed<float>> packed_f32_;
};

class Interpreter {
 public:
  /** Evaluates some of the outputs of a program, and what these need. */
  Interpreter(std::shared_ptr<const Operations> operations,
              const std::vector<std::string>& outputs);

  const Operations& operations() const { return *operations_; }
  const Plan& plan() const { return plan_; }
  const ExchangePlan& exchange_plan() const { return exchange_plan_; }
  /** Whether an array depends on no input. */
  bool fixed(ValueId id) const { return fixed_[id]; }

  /**
   * Evaluate; the outputs, dense, lie in the memory until the next evaluation. Throws Failure.
   *
   * Of several ranks, outputs of atoms have the rows of this rank's atoms only.
   */
  std::vector<View> run(const std::vector<Given>& inputs, int threads, Memory& memory,
                        const Ranks& ranks = {}) const;

 private:
  void bind(const std::vector<Given>& inputs, Memory& memory) const;

  std::shared_ptr<const Operations> operations_;
  std::vector<ValueId> outputs_;
  Plan plan_;
  ExchangePlan exchange_plan_;
  std::vector<char> fixed_;
};

}  // namespace deepmd::native::traced
