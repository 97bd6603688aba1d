// SPDX-License-Identifier: LGPL-3.0-or-later
/** Embeddings of types, which are few: what networks make of them is computed once. */
#pragma once

#include <cstdint>
#include <vector>

#include "network.h"

namespace deepmd::native {

using Rows = std::vector<std::vector<double>>;

/** Embeddings of the types, and of an empty slot, which is the last. */
template <class T>
Rows embedded_types(const Node& node, int64_t ntypes);

/** Output of a network for some rows. */
template <class T>
Rows outputs(const Network<T>& network, const Rows& inputs);

}  // namespace deepmd::native
