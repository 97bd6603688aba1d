// SPDX-License-Identifier: LGPL-3.0-or-later
/** Finding the shared libraries of frameworks, `libdeepmd_backend_<key>`. */
#pragma once

#include <string>

#include "backend/backend.h"

namespace deepmd::core {

/**
 * Functions of the backend that opens a file of this name; its library stays loaded.
 *
 * Libraries are looked for in the folders of DP_BACKEND_PLUGIN_PATH, in that of this library and in
 * those where the dynamic loader looks; each states the suffixes that it opens.
 *
 * @throws deepmd::deepmd_exception if there is none, or if it cannot be loaded
 */
deepmd_backend_functions backend_for(const std::string& path);

}  // namespace deepmd::core
