// SPDX-License-Identifier: LGPL-3.0-or-later
/** Check of pickles before torch reads them. */
#pragma once

#include <string>

namespace deepmd::torch_backend {

/**
 * What is wrong with a pickle: nullptr, or words that follow "has a pickle".
 *
 * torch takes memory for the length that a text claims, and for all entries of the memo up to the
 * number of one, before it finds that the record is shorter.
 */
const char* pickle_fault(const std::string& code);

}  // namespace deepmd::torch_backend
