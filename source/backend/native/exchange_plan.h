// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Evaluation of a program by several ranks: rows that a rank has, and what ranks exchange.
 *
 * A rank has atoms of its own, the edges of which they are the centers, and rows for the ghosts among
 * their neighbors. Arrays of edges are complete. Arrays of atoms are evaluated for the rank's own
 * atoms; before rows are taken by the numbers of neighbors, ghosts get theirs from their owners.
 * Sums by the numbers of neighbors, in derivatives, have parts on all ranks, which go to the owners.
 */
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "operations.h"

namespace deepmd::native::traced {

/** What ranks exchange after a step. */
enum class Transfer : uint8_t { none, to_ghosts, to_owners };

class ExchangePlan {
 public:
  /** Of those operations that some results need. */
  ExchangePlan(const Operations& operations, const std::vector<ValueId>& outputs);

  /** Why ranks cannot evaluate the program together; empty: they can. */
  const std::string& obstacle() const { return obstacle_; }
  /** Number of the size that is the number of atoms. */
  int64_t atoms() const { return atoms_; }
  /** Whether the first axis of an array is one of atoms, or of several rows for each of them. */
  bool has_rows(ValueId id) const { return facts_[id].rows; }
  /** Whether an array is evaluated for ghosts, too. */
  bool for_ghosts(ValueId id) const;
  Transfer transfer(ValueId id) const { return facts_[id].transfer; }
  /** Exchanges of an evaluation. */
  int64_t transfers() const;

 private:
  /** What the numbers of an index are those of. */
  enum class Meaning : uint8_t { other, edges, own, atoms };
  struct Facts {
    bool used = false;
    bool rows = false;        ///< the first axis is one of atoms
    bool everywhere = false;  ///< all rows follow from types alone, without an exchange
    bool needed = false;      ///< for ghosts
    bool partial = false;     ///< a sum that has parts on other ranks
    Meaning meaning = Meaning::other;
    Transfer transfer = Transfer::none;
    std::vector<ValueId> users;
  };

  void find_used(const std::vector<ValueId>& outputs);
  void describe_inputs();
  void describe(ValueId id);
  void check_shape(ValueId id);
  void check(const Operation& op, ValueId id);
  void check_take(const Operation& op);
  void check_sum(const Operation& op, ValueId id);
  Meaning meaning(const Operation& op) const;
  bool is_atoms(ValueId id) const;
  bool is_product_by_weights(ValueId id) const;
  int64_t width(ValueId id) const;
  void add_partial(ValueId id);
  void need(ValueId id);
  void need_one(ValueId id, std::vector<ValueId>& others);
  void refuse(const std::string& what);

  const Operations& operations_;
  int64_t atoms_ = -1;
  std::vector<Facts> facts_;
  std::string obstacle_;
};

}  // namespace deepmd::native::traced
