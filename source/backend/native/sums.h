// SPDX-License-Identifier: LGPL-3.0-or-later
/** Models made of pair tables and of other models. */
#pragma once

#include "model.h"

namespace deepmd::native {

/** Read a pair table, a weighted sum or an interpolation; null: it is of another type. */
std::unique_ptr<AtomicModel> read_sum(const Node& node, const std::string& type,
                                      Packings& packings);

}  // namespace deepmd::native
