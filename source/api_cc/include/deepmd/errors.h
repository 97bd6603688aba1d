// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <stdexcept>
#include <string>

namespace deepmd {

/** Anything that goes wrong: the message says what, where, and how to mend it. */
struct deepmd_exception : public std::runtime_error {
  deepmd_exception() : std::runtime_error("DeePMD-kit Error") {}
  explicit deepmd_exception(const std::string& message)
      : std::runtime_error("DeePMD-kit Error: " + message) {}
};

/** Kept for programs that catch it by name. */
struct tf_exception : public deepmd_exception {
  using deepmd_exception::deepmd_exception;
};

}  // namespace deepmd
