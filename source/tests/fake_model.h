// SPDX-License-Identifier: LGPL-3.0-or-later
// Frames and files for tests with the backend that needs no framework (fake_backend).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/model.h"
#include "deepmd/errors.h"

namespace fake {

using namespace deepmd::core;

const Wanted kAll{true, true};

inline void use_backends(const std::string& folder) {
  const std::string path = std::string(DEEPMD_FAKE_BACKENDS) + "/" + folder;
  setenv("DP_BACKEND_PLUGIN_PATH", path.c_str(), 1);
}

inline std::shared_ptr<Model> open_text(const std::string& text,
                                        const std::string& name = "fake.pb") {
  use_backends("working");
  OpenOptions options;
  options.content = text;
  return Model::open(name, options);
}

/** Random atoms of two types, some of them virtual. */
struct Atoms {
  std::vector<double> coord, aparam;
  std::vector<int> atype;
  std::vector<double> cell;
  int64_t n;

  Atoms(unsigned seed, int64_t count, double edge, bool periodic = true, bool with_virtual = true)
      : n(count) {
    std::mt19937_64 generator(seed);
    std::uniform_real_distribution<double> u(0.0, 1.0);
    if (periodic) cell = {edge, 0.1 * edge, 0, 0, edge, -0.05 * edge, 0.2 * edge, 0, edge};
    for (int64_t a = 0; a < n; ++a) {
      for (int k = 0; k < 3; ++k) coord.push_back((3.0 * u(generator) - 1.0) * edge);
      atype.push_back(with_virtual && a % 7 == 3 ? (a % 2 ? -1 : 5) : int(a % 2));
      aparam.push_back(u(generator));
    }
    if (!periodic) {
      for (double& x : coord) x *= 0.4;
    }
  }

  Frame frame() const {
    Frame f;
    f.nall = n;
    f.coord = coord.data();
    f.atype = atype.data();
    f.cell = cell.empty() ? nullptr : cell.data();
    f.aparam = aparam.data();
    return f;
  }
};

/** A frame with ghosts, and a list with a skin, as a molecular dynamics program has them. */
struct Listed {
  std::vector<double> coord;
  std::vector<int> atype, mapping, ilist, numneigh;
  std::vector<std::vector<int>> rows;
  std::vector<const int*> firstneigh;
  NeighborList list;
  int64_t nloc;

  Listed(const Atoms& atoms, double rcut, double skin) : nloc(atoms.n) {
    coord = atoms.coord;
    atype = atoms.atype;
    for (int a = 0; a < nloc; ++a) mapping.push_back(a);
    for (int x = -4; x <= 4; ++x) {
      for (int y = -4; y <= 4; ++y) {
        for (int z = -4; z <= 4; ++z) {
          if (x == 0 && y == 0 && z == 0) continue;
          for (int a = 0; a < nloc; ++a) {
            for (int k = 0; k < 3; ++k) {
              coord.push_back(atoms.coord[3 * a + k] + x * atoms.cell[k] + y * atoms.cell[3 + k] +
                              z * atoms.cell[6 + k]);
            }
            atype.push_back(atoms.atype[a]);
            mapping.push_back(a);
          }
        }
      }
    }
    const auto nall = static_cast<int>(atype.size());
    for (int i = static_cast<int>(nloc) - 1; i >= 0; --i) {  // any order of centers
      ilist.push_back(i);
      rows.emplace_back();
      for (int j = nall - 1; j >= 0; --j) {
        double r2 = 0.0;
        for (int k = 0; k < 3; ++k) r2 += std::pow(coord[3 * j + k] - coord[3 * i + k], 2);
        if (j != i && r2 <= (rcut + skin) * (rcut + skin)) {
          rows.back().push_back(j | (j % 3 << 29));  // bits that are no number
        }
      }
    }
    for (const auto& row : rows) {
      numneigh.push_back(static_cast<int>(row.size()));
      firstneigh.push_back(row.data());
    }
    list.inum = static_cast<int>(nloc);
    list.ilist = ilist.data();
    list.numneigh = numneigh.data();
    list.firstneigh = firstneigh.data();
    list.mask = 0x1FFFFFFF;
    list.mapping = mapping.data();
  }
  Listed(const Listed&) = delete;

  Frame frame(const Atoms& atoms) const {
    Frame f = atoms.frame();
    f.nall = static_cast<int64_t>(atype.size());
    f.nghost = f.nall - nloc;
    f.coord = coord.data();
    f.atype = atype.data();
    f.list = &list;
    return f;
  }
};

template <class F>
void expect_error(const F& function, const std::vector<std::string>& parts) {
  try {
    function();
    FAIL() << "no error; expected: " << parts[0];
  } catch (const deepmd::deepmd_exception& error) {
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "\"" << part << "\" is not in: " << error.what();
    }
  }
}

}  // namespace fake
