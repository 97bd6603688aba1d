// SPDX-License-Identifier: LGPL-3.0-or-later
/** The torch side of an open file. */
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <functional>

#include "model.h"

namespace deepmd::torch_backend {

struct Program {
  torch::jit::Module module;
  at::Device device{at::kCPU};
  std::string path;
  bool has_spin = false;
  bool differentiates = false;      ///< by itself
  std::string description, probes;  ///< JSON
  deepmd_info info{};               ///< points to them
};

/**
 * Load the libraries of operators that DP_PLUGIN_PATH names, once in a process; throws Failure.
 *
 * Programs may use the operators that they register, and no others beside those of PyTorch.
 */
void load_plugins();

/** Whether a library that DP_PLUGIN_PATH names registered an operator, such as "toy::pairs". */
bool is_of_plugin(const std::string& name);

/** Refuse a program with operators that are not allowed; throws Failure. Runs nothing of it. */
void check_operators(const torch::jit::Module& module);

/** Whether a program differentiates by itself, which inference mode forbids. */
bool differentiates(const torch::jit::Module& module);

/** Call a function with each constant of a program. */
void visit_constants(const torch::jit::Module& module,
                     const std::function<void(const torch::jit::IValue&)>& visit);

/** Fill the description: of our own files, which hold it, or of files of DeePMD-kit. */
void describe_own(Program& program, const std::string& metadata);
void describe_foreign(Program& program);

/** The number of threads that torch uses in calls from this thread, until the end of the scope. */
class Threads {
 public:
  explicit Threads(int wanted);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

/** Results of forward_lower for one frame. */
c10::Dict<std::string, at::Tensor> call_extended(const Program& program,
                                                 const deepmd_extended_request& request,
                                                 bool atom_virial);

}  // namespace deepmd::torch_backend
