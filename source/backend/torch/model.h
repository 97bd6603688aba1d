// SPDX-License-Identifier: LGPL-3.0-or-later
/** An open TorchScript file, and what is said about it. Nothing of torch is seen here. */
#pragma once

#include <memory>
#include <string>

#include "../entry.h"

namespace deepmd::torch_backend {

using backend::Failure;

/** The program of a file on its device. */
struct Program;

/** Open a file; throws Failure. */
std::shared_ptr<Program> open_program(const deepmd_source& source);

/** Evaluate; may be called from several threads at once. */
void evaluate_edges(const Program& program, const deepmd_edges_request& request);
void evaluate_extended(const Program& program, const deepmd_extended_request& request);

/** What is in the file. */
const deepmd_info& info_of(const Program& program);

/** "PyTorch 2.13.0 (CPU)" */
const std::string& framework_name();

/** Let PyTorch use its own BLAS, whatever the main program exports; the number of corrections. */
int use_own_blas();

/** What a torch exception says, without its traceback. */
std::string first_words(const std::string& message);

}  // namespace deepmd::torch_backend
