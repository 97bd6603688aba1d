// SPDX-License-Identifier: LGPL-3.0-or-later
/** The steps of a program: chains of functions of elements as one, arrays released after their last use. */
#pragma once

#include <cstdint>
#include <vector>

#include "operations.h"

namespace deepmd::native::traced {

/** A function of elements within a chain; places are operands, then registers. */
struct Link {
  Op op;
  int32_t function;
  Type from;  ///< type of the arguments; of where, of the second one
  Type to;
  int32_t args[3];
  int32_t result;
};

/** Functions of elements that are evaluated together, a few hundred elements at a time. */
struct Chain {
  std::vector<ValueId> operands;
  std::vector<Type> operand_types;
  std::vector<Link> links;  ///< the last one gives the result
  int32_t registers = 0;
};

/** An operation that is carried out, or a chain that ends with it. */
struct Step {
  ValueId result;
  int32_t chain = -1;
  std::vector<ValueId> released;
};

class Plan {
 public:
  /** Of those operations that some results need. */
  Plan(const Operations& operations, const std::vector<ValueId>& outputs);

  const std::vector<Step>& steps() const { return steps_; }
  const Chain& chain(int32_t k) const { return chains_[k]; }

 private:
  void find_users(const Operations& operations, const std::vector<ValueId>& outputs);
  void form_chains(const Operations& operations);
  void add_chain(const Operations& operations, ValueId result,
                 const std::vector<ValueId>& members);
  void release(const Operations& operations, const std::vector<ValueId>& outputs);

  std::vector<std::vector<ValueId>> users_;
  std::vector<ValueId> end_;  ///< of the chain of a value
  std::vector<Chain> chains_;
  std::vector<Step> steps_;
};

}  // namespace deepmd::native::traced
