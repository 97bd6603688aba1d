// SPDX-License-Identifier: LGPL-3.0-or-later
#include "chunk.h"

#include <algorithm>
#include <iterator>

namespace deepmd::native {

size_t Packings::append(const Packing& packing) {
  all_.push_back(packing);
  first_.push_back(slots_);
  slots_ += packing.layout == "typed" ? static_cast<size_t>(ntypes_) : 1;
  return first_.back();
}

size_t Packings::add(Packing packing) {
  packing.exclude.insert(packing.exclude.end(), exclude_.begin(), exclude_.end());
  const auto found = std::find(all_.begin(), all_.end(), packing);
  return found == all_.end() ? append(packing) : first_[found - all_.begin()];
}

size_t Packings::merge(const Packings& component, const std::vector<int64_t>& types) {
  const size_t first = slots_;
  for (Packing packing : component.all_) {
    Pairs pairs = exclude_;
    for (const auto& [a, b] : packing.exclude) {
      const auto x = std::find(types.begin(), types.end(), a);
      const auto y = std::find(types.begin(), types.end(), b);
      if (x != types.end() && y != types.end()) {
        pairs.emplace_back(x - types.begin(), y - types.begin());
      }
    }
    packing.exclude = pairs;
    append(packing);
  }
  return first;
}

}  // namespace deepmd::native
