// SPDX-License-Identifier: LGPL-3.0-or-later
/** The one implementation of Model: neighbors, tables, framework, forces. */
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "exchange.h"
#include "extended.h"
#include "inputs.h"
#include "library.h"
#include "model.h"
#include "packing.h"
#include "partners.h"
#include "system.h"

namespace deepmd::core {

/** Edges in a chunk on a processor: large enough for full speed, small enough for its caches. */
constexpr int64_t kEdgesPerChunk = 1 << 14;

class Engine : public Model {
 public:
  explicit Engine(std::unique_ptr<BackendModel> backend) : backend_(std::move(backend)) {}

  const Info& info() const override { return backend_->info(); }
  std::vector<Prediction> evaluate(const Frame& frame, const Wanted& wanted) override;
  int64_t overflow() const override { return overflow_; }
  int64_t most_neighbors() const override { return most_; }
  void forget_overflow() { overflow_ = most_ = 0; }

 private:
  std::vector<Prediction> evaluate_components(const Frame& frame, const Wanted& wanted);
  void unfold(const Frame& frame, const std::vector<double>& weights, Prediction& found);
  void check_cotangent() const;

  /** Arrays of one chunk, kept from call to call. */
  struct Workspace {
    Pairs pairs;
    Packer packer;
    Overflow overflow;
    std::vector<int64_t> i, j, atype, frame, first_type;
    ChunkInputs inputs;
    Partners partners;
    RowExchange exchange;
    std::vector<std::vector<double>> values, gradients;
    std::vector<double> cotangent;
    std::vector<deepmd_array> slots;
    std::vector<deepmd_result> results;
    ExtendedChunk extended;
  };
  std::vector<Range> chunks(const System& system, Workspace& workspace) const;
  void run_chunk(const System& system, Range range, bool gradients, int threads,
                 Workspace& workspace) const;
  void prepare_results(const System& system, Range range, bool gradients, int64_t n_edges,
                       Workspace& workspace) const;
  void contract(int64_t n_edges, Workspace& workspace) const;
  void describe_atoms(const System& system, Range range, Workspace& workspace) const;
  void add_chunk(const System& system, Range range, bool gradients, const Workspace& workspace,
                 std::vector<Prediction>& predictions) const;
  void evaluate_chunks(const System& system, const Wanted& wanted,
                       std::vector<Prediction>& predictions);
  void note(const Overflow& overflow);

  std::unique_ptr<Workspace> take_workspace();
  void give_workspaces(std::vector<std::unique_ptr<Workspace>>& workspaces);

  std::unique_ptr<BackendModel> backend_;
  const int threads_ = number_of_threads();
  std::atomic<int64_t> overflow_{0}, most_{0};
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> spare_;
};

}  // namespace deepmd::core
