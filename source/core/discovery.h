// SPDX-License-Identifier: LGPL-3.0-or-later
/** Finding the shared libraries of frameworks, `libdeepmd_backend_<key>`. */
#pragma once

#include <string>
#include <vector>

#include "backend/backend.h"

namespace deepmd::core {

/** Who evaluates a model. */
enum class Choice {
  automatic,  ///< the native engine where it knows all parts of the model, otherwise the framework
  native,     ///< the native engine, or an error
  framework,  ///< the framework of the file, or an error
};

/** "auto", "native" or "framework"; throws deepmd::deepmd_exception for anything else. */
Choice choice_of(const std::string& engine);

/** One of the two ways to evaluate a file. */
enum class Opener { native, framework };

/** Who may open a file of this name, the first to try first; never empty. */
std::vector<Opener> openers(const std::string& path, Choice choice);

/**
 * Functions of the backend that opens a file of this name; its library stays loaded.
 *
 * Libraries are looked for in the folders of DP_BACKEND_PLUGIN_PATH, in that of this library and in
 * those where the dynamic loader looks; each states the suffixes that it opens.
 *
 * @throws deepmd::deepmd_exception if there is none, or if it cannot be loaded
 */
deepmd_backend_functions backend_for(const std::string& path, Opener opener);

}  // namespace deepmd::core
