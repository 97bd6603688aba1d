// SPDX-License-Identifier: LGPL-3.0-or-later
/** Whether a model gives here what it gave where it was made. */
#pragma once

#include <vector>

#include "library.h"
#include "model.h"

namespace deepmd::core {

/** Evaluate small frames whose results are known; throws deepmd_exception if they differ. */
void check_probes(Model& model, const std::vector<Probe>& probes);

}  // namespace deepmd::core
