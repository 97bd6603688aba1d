// SPDX-License-Identifier: LGPL-3.0-or-later
/** An open TorchScript file, and what is said about it. Nothing of torch is seen here. */
#pragma once

#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../arrays.h"

namespace deepmd::torch_backend {

/** A message for the user: what, where, how to mend it. */
struct Failure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** The facts of a model in the form of backend.h, and the memory that they point to. */
struct Facts {
  deepmd_info info{};
  std::vector<deepmd_output> outputs;
  std::vector<deepmd_input_info> inputs;
  std::vector<deepmd_packing> packings;
  std::vector<deepmd_probe> probes;

  /** Keep an array for as long as the facts live; null if it is empty. */
  const double* keep(std::vector<double> values);
  const int64_t* keep(std::vector<int64_t> values);
  const int32_t* keep(std::vector<int32_t> values);
  const char* keep(std::string text);
  const char* const* keep(const std::vector<std::string>& names);
  const deepmd_input* keep(std::vector<deepmd_input> inputs);

 private:
  // Deques do not move what they hold.
  std::deque<std::vector<double>> reals_;
  std::deque<std::vector<int64_t>> integers_;
  std::deque<std::vector<int32_t>> short_integers_;
  std::deque<std::string> texts_;
  std::deque<std::vector<const char*>> names_;
  std::deque<std::vector<deepmd_input>> probe_inputs_;
};

/** The program of a file on its device. */
struct Program;

/** Open a file; throws Failure. */
std::shared_ptr<Program> open_program(const deepmd_source& source);

/** Evaluate; may be called from several threads at once. */
void evaluate_edges(const Program& program, const deepmd_edges_request& request);
void evaluate_extended(const Program& program, const deepmd_extended_request& request);

/** What is in the file. */
const Facts& facts_of(const Program& program);

/** "PyTorch 2.13.0 (CPU)" */
const std::string& framework_name();

/** Let PyTorch use its own BLAS, whatever the main program exports; the number of corrections. */
int use_own_blas();

/** What a torch exception says, without its traceback. */
std::string first_words(const std::string& message);

}  // namespace deepmd::torch_backend
