// SPDX-License-Identifier: LGPL-3.0-or-later
/** Evaluation of a chain of functions of elements. */
#pragma once

#include <vector>

#include "plan.h"
#include "view.h"

namespace deepmd::native::traced {

/** Evaluate a chain; `operands` in its order, `to` dense. */
void run_chain(const Chain& chain, const std::vector<View>& operands, const View& to,
               const Parallel& parallel);

}  // namespace deepmd::native::traced
