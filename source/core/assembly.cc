// SPDX-License-Identifier: LGPL-3.0-or-later
#include "assembly.h"

namespace deepmd::core {

void add_derivatives(const double* gradient, const double* vec, const int64_t* i, const int64_t* j,
                     int64_t n_edges, int64_t size, const Derivatives& out) {
  for (int64_t c = 0; c < size; ++c) {
    double* force = out.force + 3 * c * out.n_atoms;
    double* atom_virial = out.atom_virial ? out.atom_virial + 9 * c * out.n_atoms : nullptr;
    double virial[9] = {};
    for (int64_t e = 0; e < n_edges;) {
      const int64_t center = i[e];
      double total[3] = {};
      for (; e < n_edges && i[e] == center; ++e) {
        const double* g = gradient + 3 * (e * size + c);
        const double* d = vec + 3 * e;
        double* neighbor = force + 3 * j[e];
        for (int a = 0; a < 3; ++a) {
          total[a] += g[a];
          neighbor[a] -= g[a];
          for (int b = 0; b < 3; ++b) virial[3 * a + b] -= g[a] * d[b];
        }
        if (atom_virial) {
          double* w = atom_virial + 9 * j[e];
          for (int k = 0; k < 9; ++k) w[k] -= g[k / 3] * d[k % 3];
        }
      }
      for (int a = 0; a < 3; ++a) force[3 * center + a] += total[a];
    }
    for (int k = 0; k < 9; ++k) out.virial[9 * c + k] += virial[k];
  }
}

}  // namespace deepmd::core
