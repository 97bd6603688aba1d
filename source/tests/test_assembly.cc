// SPDX-License-Identifier: LGPL-3.0-or-later
// Sums of edge gradients against the definition, written out.
#include <gtest/gtest.h>

#include <vector>

#include "core/assembly.h"

namespace {

TEST(Assembly, OfTensorsFollowsTheDefinition) {
  const int64_t n_atoms = 4, size = 2, n_edges = 5;
  const std::vector<int64_t> i = {0, 0, 1, 2, 2}, j = {1, 3, 0, 2, 3};
  std::vector<double> g(n_edges * size * 3), vec(n_edges * 3);
  for (size_t k = 0; k < g.size(); ++k) g[k] = 0.3 * static_cast<double>(k) - 2.0;
  for (size_t k = 0; k < vec.size(); ++k) vec[k] = 1.0 + 0.7 * static_cast<double>(k % 7);
  std::vector<double> force(size * n_atoms * 3, 1.0), virial(size * 9, 2.0);
  std::vector<double> atom_virial(size * n_atoms * 9, 3.0);
  deepmd::core::add_derivatives(g.data(), vec.data(), i.data(), j.data(), n_edges, size,
                                {n_atoms, force.data(), virial.data(), atom_virial.data()});
  for (int64_t c = 0; c < size; ++c) {
    std::vector<double> f(n_atoms * 3, 1.0), w(9, 2.0), aw(n_atoms * 9, 3.0);
    for (int64_t e = 0; e < n_edges; ++e) {
      for (int a = 0; a < 3; ++a) {
        const double ga = g[(e * size + c) * 3 + a];
        f[3 * i[e] + a] += ga;
        f[3 * j[e] + a] -= ga;
        for (int b = 0; b < 3; ++b) {
          w[3 * a + b] -= ga * vec[3 * e + b];
          aw[9 * j[e] + 3 * a + b] -= ga * vec[3 * e + b];
        }
      }
    }
    for (int64_t k = 0; k < n_atoms * 3; ++k) EXPECT_NEAR(force[c * n_atoms * 3 + k], f[k], 1e-12);
    for (int k = 0; k < 9; ++k) EXPECT_NEAR(virial[c * 9 + k], w[k], 1e-12);
    for (int64_t k = 0; k < n_atoms * 9; ++k) {
      EXPECT_NEAR(atom_virial[c * n_atoms * 9 + k], aw[k], 1e-12);
    }
  }
}

}  // namespace
