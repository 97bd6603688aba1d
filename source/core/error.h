// SPDX-License-Identifier: LGPL-3.0-or-later
/** One way to say what is wrong: "where: what; how to mend it". */
#pragma once

#include <string>

#include "deepmd/errors.h"

namespace deepmd::core {

[[noreturn]] inline void fail(const std::string& where, const std::string& what,
                              const std::string& fix = "") {
  throw deepmd_exception((where.empty() ? "" : where + ": ") + what +
                         (fix.empty() ? "" : "; " + fix));
}

}  // namespace deepmd::core
