// SPDX-License-Identifier: LGPL-3.0-or-later
// The pair search against a loop over all pairs and images, for cells of every kind.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/pairs.h"
#include "deepmd/errors.h"

namespace {

using deepmd::core::CellList;
using deepmd::core::find_pairs;
using deepmd::core::Pairs;

using Key = std::array<int64_t, 5>;  // i, j, shift

std::vector<Key> keys(const Pairs& pairs) {
  std::vector<Key> all;
  for (int64_t e = 0; e < pairs.size(); ++e) {
    const int32_t* s = &pairs.shift[3 * e];
    all.push_back({pairs.i[e], pairs.j[e], s[0], s[1], s[2]});
  }
  std::sort(all.begin(), all.end());
  return all;
}

/** Every atom with every image up to `reach` cells away; atoms may be `far` cells outside. */
std::vector<Key> brute_force(const std::vector<double>& coord, const double* cell, double rcut,
                             int reach) {
  const auto n = static_cast<int64_t>(coord.size() / 3);
  std::vector<Key> all;
  const int m = cell ? reach : 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int a = -m; a <= m; ++a) {
        for (int b = -m; b <= m; ++b) {
          for (int c = -m; c <= m; ++c) {
            double r2 = 0.0;
            for (int k = 0; k < 3; ++k) {
              double d = coord[3 * j + k] - coord[3 * i + k];
              if (cell) d += a * cell[k] + b * cell[3 + k] + c * cell[6 + k];
              r2 += d * d;
            }
            if (r2 > 0.0 && r2 <= rcut * rcut) all.push_back({i, j, a, b, c});
          }
        }
      }
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

struct Random {
  std::mt19937_64 generator;
  explicit Random(unsigned seed) : generator(seed) {}
  double operator()(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(generator);
  }
};

std::vector<double> cloud(Random& random, int64_t n, double size) {
  std::vector<double> coord(static_cast<size_t>(3 * n));
  for (double& x : coord) x = random(0.0, size);
  return coord;
}

TEST(Pairs, OfRandomCells) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const auto n = static_cast<int64_t>(random(1.0, 9.0));
    const double edge = random(2.0, 12.0), skew = seed % 2 ? 0.5 * edge : 0.0;
    double cell[9];
    for (int k = 0; k < 9; ++k) cell[k] = (k % 4 ? 0.0 : edge) + random(-skew, skew) * 0.5;
    std::vector<double> coord(static_cast<size_t>(3 * n));
    for (int64_t a = 0; a < n; ++a) {
      for (int k = 0; k < 3; ++k) {
        const double f = random(-1.5, 2.5);
        for (int c = 0; c < 3; ++c) coord[3 * a + c] += f * cell[3 * k + c];
      }
    }
    for (const double rcut : {1.5, 4.0}) {
      const Pairs pairs = find_pairs(coord.data(), n, cell, rcut);
      ASSERT_EQ(keys(pairs), brute_force(coord, cell, rcut, 13)) << "seed " << seed;
      EXPECT_TRUE(std::is_sorted(pairs.i.begin(), pairs.i.end()));
    }
  }
}

TEST(Pairs, OfOpenSystems) {
  for (unsigned seed = 0; seed < 10; ++seed) {
    Random random(seed);
    std::vector<double> coord = cloud(random, 60, seed % 2 ? 8.0 : 40.0);
    EXPECT_EQ(keys(find_pairs(coord.data(), 60, nullptr, 3.0)),
              brute_force(coord, nullptr, 3.0, 0));
    const double zero[9] = {};
    EXPECT_EQ(keys(find_pairs(coord.data(), 60, zero, 3.0)), brute_force(coord, nullptr, 3.0, 0));
  }
}

TEST(Pairs, OfManyAtomsInVacuum) {
  // A droplet in a large cell and one that crosses its faces: most bins are empty.
  Random random(7);
  std::vector<double> coord = cloud(random, 200, 9.0);
  for (int k = 0; k < 300; ++k) coord[k] -= 4.0;
  const double cell[9] = {500, 0, 0, 50, 600, 0, -30, 20, 700};
  EXPECT_EQ(keys(find_pairs(coord.data(), 200, cell, 2.5)), brute_force(coord, cell, 2.5, 1));
}

TEST(Pairs, OfFarFlungAtomsNeedNoLargeGrid) {
  Random random(3);
  std::vector<double> coord = cloud(random, 50, 6.0);
  for (const double far : {1e4, 1e8, -1e12}) coord.insert(coord.end(), {far, -far, 0.5 * far});
  coord.insert(coord.end(), {1e8 + 1.0, -1e8, 0.5e8});
  const auto n = static_cast<int64_t>(coord.size() / 3);
  EXPECT_EQ(keys(find_pairs(coord.data(), n, nullptr, 2.0)), brute_force(coord, nullptr, 2.0, 0));
}

TEST(Pairs, OfNeedles) {
  // Two vectors far shorter than the cutoff, and a flat sheet.
  const double needle[9] = {0.11, 0, 0, 0, 0.23, 0, 0.05, 0, 30.0};
  const double sheet[9] = {3.0, 0, 0, 0, 4.0, 0.0, 0.0, 0.0, 0.2};
  const std::vector<double> coord = {0, 0, 0, 0.02, 0.1, 1.3};
  EXPECT_EQ(keys(find_pairs(coord.data(), 2, needle, 2.0)), brute_force(coord, needle, 2.0, 22));
  EXPECT_EQ(keys(find_pairs(coord.data(), 2, sheet, 2.0)), brute_force(coord, sheet, 2.0, 20));
}

TEST(Pairs, AtExactlyTheCutoffAndOnTopOfEachOther) {
  const std::vector<double> coord = {0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0};
  const std::vector<Key> expected = {
      {0, 1, 0, 0, 0}, {1, 0, 0, 0, 0}, {1, 3, 0, 0, 0}, {3, 1, 0, 0, 0}};
  EXPECT_EQ(keys(find_pairs(coord.data(), 4, nullptr, 3.0)), expected);
  const double cell[9] = {3, 0, 0, 0, 3, 0, 0, 0, 3};
  EXPECT_EQ(find_pairs(coord.data(), 1, cell, 3.0).size(), 6);
}

TEST(Pairs, BothDirectionsAreExactlyOpposite) {
  Random random(5);
  const double cell[9] = {9.1, 0.3, 0, -0.2, 8.7, 0.1, 0.4, 0.2, 9.3};
  const std::vector<double> coord = cloud(random, 100, 30.0);
  const Pairs pairs = find_pairs(coord.data(), 100, cell, 5.0);
  std::vector<std::array<double, 5>> there, back;
  for (int64_t e = 0; e < pairs.size(); ++e) {
    const double* d = &pairs.vec[3 * e];
    const auto i = static_cast<double>(pairs.i[e]), j = static_cast<double>(pairs.j[e]);
    there.push_back({i, j, d[0], d[1], d[2]});
    back.push_back({j, i, -d[0], -d[1], -d[2]});
    EXPECT_LE(pairs.r2[e], 25.0);
    EXPECT_DOUBLE_EQ(pairs.r2[e], d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  }
  std::sort(there.begin(), there.end());
  std::sort(back.begin(), back.end());
  EXPECT_EQ(there, back);
}

TEST(Pairs, OfASubsetOfAtomsAndARangeOfCenters) {
  Random random(6);
  const double cell[9] = {7, 0, 0, 0, 7, 0, 0, 0, 7};
  const std::vector<double> coord = cloud(random, 40, 7.0);
  const std::vector<int64_t> chosen = {3, 30, 4, 17, 22, 9};
  const CellList list(coord.data(), chosen, cell, 3.5);
  Pairs part;
  list.find(2, 5, part);
  std::vector<Key> expected;
  for (const Key& k : brute_force(coord, cell, 3.5, 1)) {
    const auto has = [](auto first, auto last, int64_t a) {
      return std::find(first, last, a) != last;
    };
    if (has(chosen.begin() + 2, chosen.begin() + 5, k[0]) &&
        has(chosen.begin(), chosen.end(), k[1])) {
      expected.push_back(k);
    }
  }
  EXPECT_EQ(keys(part), expected);
  EXPECT_EQ(part.i.front(), 4);
  EXPECT_EQ(part.i.back(), 22);
}

TEST(Pairs, OfNothing) {
  const double cell[9] = {3, 0, 0, 0, 3, 0, 0, 0, 3};
  EXPECT_EQ(find_pairs(nullptr, 0, cell, 5.0).size(), 0);
  EXPECT_EQ(find_pairs(nullptr, 0, nullptr, 5.0).size(), 0);
  const double one[3] = {1, 2, 3};
  EXPECT_EQ(find_pairs(one, 1, nullptr, 5.0).size(), 0);
}

void expect_refusal(const std::vector<double>& coord, const double* cell, const char* reason) {
  try {
    find_pairs(coord.data(), static_cast<int64_t>(coord.size() / 3), cell, 3.0);
    FAIL() << "accepted; expected: " << reason;
  } catch (const deepmd::deepmd_exception& error) {
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
  }
}

TEST(Pairs, OfBadInputAreRefused) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const double flat[9] = {1, 0, 0, 2, 0, 0, 0, 0, 1}, bad[9] = {nan, 0, 0, 0, 1, 0, 0, 0, 1};
  const double tiny[9] = {1e-3, 0, 0, 0, 1e-3, 0, 0, 0, 1e-3};
  const double cell[9] = {3, 0, 0, 0, 3, 0, 0, 0, 3};
  expect_refusal({0, 0, nan}, nullptr, "NaN");
  expect_refusal({0, 0, 0, inf, 0, 0}, cell, "atom 1");
  expect_refusal({0, 0, 0}, flat, "no volume");
  expect_refusal({0, 0, 0}, bad, "no volume");
  expect_refusal({0, 0, 0}, tiny, "so small");
  expect_refusal({0, 1e13, 0}, cell, "cells away");
}

}  // namespace
