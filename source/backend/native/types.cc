// SPDX-License-Identifier: LGPL-3.0-or-later
#include "types.h"

namespace deepmd::native {

template <class T>
Rows outputs(const Network<T>& network, const Rows& inputs) {
  Rows rows;
  Tape<T> tape;
  for (const std::vector<double>& input : inputs) {
    const std::vector<T> x(input.begin(), input.end());
    const T* y = network.forward(1, x.data(), network.n_in(), tape, false);
    rows.emplace_back(y, y + network.n_out());
  }
  return rows;
}

template <class T>
Rows embedded_types(const Node& node, int64_t ntypes) {
  if (node.flag("use_econf_tebd", false)) node.unknown("an embedding of electronic configurations");
  const Network<T> network(node["embedding"]);
  if (network.n_in() != ntypes) node.fail("has another number of types");
  Rows types;
  for (int64_t t = 0; t < ntypes; ++t) {
    types.emplace_back(static_cast<size_t>(ntypes), 0.0);
    types.back()[t] = 1.0;
  }
  Rows rows = outputs(network, types);
  rows.emplace_back(network.n_out(), 0.0);
  return rows;
}

template Rows outputs(const Network<double>&, const Rows&);
template Rows outputs(const Network<float>&, const Rows&);
template Rows embedded_types<double>(const Node&, int64_t);
template Rows embedded_types<float>(const Node&, int64_t);

}  // namespace deepmd::native
