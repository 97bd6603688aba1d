// SPDX-License-Identifier: LGPL-3.0-or-later
/** Models that are evaluated by the program in their file. */
#pragma once

#include <memory>
#include <string>

#include "model.h"

namespace deepmd::native {

/** Key of the program in a file; see docs/development/programs.md. */
inline constexpr const char* kOperations = "operations";

/**
 * Read the program of a model.
 *
 * `stored` is the program, `whole` the dictionary of the model, in which arrays are found, and
 * `atomic` the part of it that has the types of the evaluation.
 */
std::unique_ptr<AtomicModel> read_traced(const Node& stored, const Node& whole, const Node& atomic,
                                         Packings& packings);

}  // namespace deepmd::native
