// SPDX-License-Identifier: LGPL-3.0-or-later
/** An open model of the native engine. */
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model.h"

namespace deepmd::native {

class Program {
 public:
  /** Open a file; throws Failure that names it. */
  explicit Program(const deepmd_source& source);

  const deepmd_info& info() const { return info_; }
  /** Evaluate; may be called from several threads at once. */
  void evaluate(const deepmd_edges_request& request) const;

 private:
  void read(Contents contents, const std::string& scope);
  void take(const Node& model, const Node* stored);
  void read_single(const Node& root, const std::string& scope);
  void read_pairwise(const Node& root, const std::string& scope);
  void describe(const Node& model, const Packings& packings);
  void describe_spins(const Node& spin);
  std::unique_ptr<Work> take_work() const;
  void give_work(std::unique_ptr<Work> work) const;

  std::unique_ptr<AtomicModel> model_;
  std::string description_, probes_;
  deepmd_info info_{};
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Work>> spare_;
};

/** "native (avx2)": the engine and the instruction set. */
const char* engine_name();

}  // namespace deepmd::native
