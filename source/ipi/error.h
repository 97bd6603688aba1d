// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <stdexcept>

namespace deepmd::ipi {

/** Something the user can mend: the message says what, where, and how. */
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace deepmd::ipi
