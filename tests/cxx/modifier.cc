// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Forces of Wannier centroids, of one process: modifier MODEL < SITES
 *
 * Built twice: with the C++ library and, if HEADER_ONLY is defined, with deepmd.hpp. SITES holds
 * the numbers of sites, ghosts and pairs; a line "x y z type owner" for every site; the pairs; the
 * force on every local site; and for every local site the number of its neighbors and these. Prints
 * the forces and the virial, in double precision and then in single.
 */
#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef HEADER_ONLY
#include "deepmd/deepmd.hpp"
namespace api = deepmd::hpp;
#else
#include "deepmd/DataModifier.h"
namespace api = deepmd;
#endif

namespace {

struct Sites {
  int ghosts = 0;
  std::vector<double> coord, force;
  std::vector<int> types, owner;
  std::vector<std::pair<int, int>> pairs;
  std::vector<std::vector<int>> rows;
};

Sites read(std::istream& in) {
  Sites sites;
  int n = 0, pairs = 0;
  in >> n >> sites.ghosts >> pairs;
  sites.coord.resize(3 * n);
  sites.types.resize(n);
  sites.owner.resize(n);
  for (int i = 0; i < n; ++i) {
    in >> sites.coord[3 * i] >> sites.coord[3 * i + 1] >> sites.coord[3 * i + 2];
    in >> sites.types[i] >> sites.owner[i];
  }
  sites.pairs.resize(pairs);
  for (auto& pair : sites.pairs) in >> pair.first >> pair.second;
  sites.force.resize(3 * (n - sites.ghosts));
  for (double& f : sites.force) in >> f;
  sites.rows.resize(n - sites.ghosts);
  for (auto& row : sites.rows) {
    int count = 0;
    in >> count;
    row.resize(count);
    for (int& j : row) in >> j;
  }
  if (!in) throw std::runtime_error("the sites are not complete");
  return sites;
}

template <typename T>
void print(api::DipoleChargeModifier& modifier, Sites& sites) {
  const size_t nloc = sites.rows.size();
  std::vector<int> ilist(nloc), counts(nloc);
  std::vector<int*> first(nloc);
  api::InputNlist list(static_cast<int>(nloc), ilist.data(), counts.data(), first.data());
  api::convert_nlist(list, sites.rows);
  list.set_mapping(sites.owner.data());
  const std::vector<T> coord(sites.coord.begin(), sites.coord.end());
  const std::vector<T> given(sites.force.begin(), sites.force.end());
  std::vector<T> force, virial;
  modifier.compute(force, virial, coord, sites.types, std::vector<T>(), sites.pairs, given,
                   sites.ghosts, list);
  for (const T x : force) std::printf("%.17g\n", static_cast<double>(x));
  for (const T x : virial) std::printf("%.17g\n", static_cast<double>(x));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: modifier MODEL < SITES\n";
    return 2;
  }
  try {
    api::DipoleChargeModifier modifier(argv[1], 0, "dipole_charge");
    Sites sites = read(std::cin);
    print<double>(modifier, sites);
    print<float>(modifier, sites);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
