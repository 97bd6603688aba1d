// SPDX-License-Identifier: LGPL-3.0-or-later
/** The checksum at the end of frozen graphs, as deepmd/graphs/ours.py writes it. */
#pragma once

#include <string_view>

namespace deepmd::backend {

/**
 * Refuse a graph whose last node is not the checksum of what is before it.
 *
 * TensorFlow ends the program where nodes do not go together; damage must not get that far.
 * Throws Failure.
 */
void check_digest(std::string_view graph);

}  // namespace deepmd::backend
