// SPDX-License-Identifier: LGPL-3.0-or-later
/** Rows of an array, exchanged between ranks. */
#pragma once

#include "../backend.h"
#include "exchange_plan.h"
#include "view.h"

namespace deepmd::native::traced {

/** Ranks that evaluate a program together. */
struct Ranks {
  const deepmd_exchange* exchange = nullptr;  ///< null: there is one rank
  int64_t n_owned = 0;                        ///< rows of atoms of this rank, which come first
};

/**
 * Exchange rows of a dense array of floating-point numbers, (atoms, ...), ghosts included.
 *
 * Throws Failure with the message of the exchange.
 */
void exchange_rows(const deepmd_exchange& exchange, Transfer transfer, const View& rows);

}  // namespace deepmd::native::traced
