// SPDX-License-Identifier: LGPL-3.0-or-later
// Weighted sums over atoms, and models that pass messages on several ranks, with the fake backend.
#include <numeric>

#include "fake_model.h"

namespace {

using namespace fake;

constexpr double kRcut = 4.0;

/** What one rank of a periodic system sees: some atoms, and all others and images as ghosts. */
struct Rank {
  std::vector<double> coord, aparam;
  std::vector<int> atype, owner;
  NeighborList list;
  int64_t nloc = 0;

  Rank(const Atoms& atoms, int rank, int ranks) {
    for (const bool local : {true, false}) {
      for (int x = -4; x <= 4; ++x) {
        for (int y = -4; y <= 4; ++y) {
          for (int z = -4; z <= 4; ++z) {
            for (int a = 0; a < atoms.n; ++a) {
              const bool mine = x == 0 && y == 0 && z == 0 && a % ranks == rank;
              if (mine == local) add(atoms, a, {x, y, z});
            }
          }
        }
      }
      if (local) nloc = static_cast<int64_t>(atype.size());
    }
    for (int64_t k = 0; k < nloc; ++k) aparam.push_back(atoms.aparam[owner[k]]);
    list.nprocs = ranks;
    list.halo = 2.0 * kRcut;
  }
  Rank(const Rank&) = delete;

  void add(const Atoms& atoms, int a, const std::vector<int>& image) {
    for (int k = 0; k < 3; ++k) {
      double r = atoms.coord[3 * a + k];
      for (int v = 0; v < 3; ++v) r += image[v] * atoms.cell[3 * v + k];
      coord.push_back(r);
    }
    atype.push_back(atoms.atype[a]);
    owner.push_back(a);
  }

  Frame frame() const {
    Frame f;
    f.nall = static_cast<int64_t>(atype.size());
    f.nghost = f.nall - nloc;
    f.coord = coord.data();
    f.atype = atype.data();
    f.aparam = aparam.data();
    f.list = &list;
    return f;
  }

  /** Add the rows (nall, width) of all atoms to those of their owners. */
  void fold(const std::vector<double>& from, int width, std::vector<double>& to) const {
    for (size_t a = 0; a < owner.size(); ++a) {
      for (int k = 0; k < width; ++k) to[width * owner[a] + k] += from[width * a + k];
    }
  }
};

void expect_near(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t k = 0; k < found.size(); ++k) {
    EXPECT_NEAR(found[k], expected[k], 1e-10 * std::max(1.0, std::abs(expected[k]))) << k;
  }
}

class OnRanks : public testing::TestWithParam<int> {};

TEST_P(OnRanks, SumsAreThoseOfTheWholeSystem) {
  const auto model = open_text("rcut 4\nmessage_passing 1\ncotangents 1\naparam 1\n");
  const Atoms atoms(1, 12, 5.0);
  const Prediction whole = model->evaluate(atoms.frame(), kAll).front();
  Prediction sum;
  sum.value.assign(1, 0.0);
  sum.atom_value.assign(static_cast<size_t>(atoms.n), 0.0);
  sum.force.assign(static_cast<size_t>(3 * atoms.n), 0.0);
  sum.virial.assign(9, 0.0);
  sum.atom_virial.assign(static_cast<size_t>(9 * atoms.n), 0.0);
  for (int k = 0; k < GetParam(); ++k) {
    const Rank rank(atoms, k, GetParam());
    const Prediction part = model->evaluate(rank.frame(), kAll).front();
    sum.value[0] += part.value[0];
    for (int c = 0; c < 9; ++c) sum.virial[c] += part.virial[c];
    rank.fold(part.atom_value, 1, sum.atom_value);
    rank.fold(part.force, 3, sum.force);
    rank.fold(part.atom_virial, 9, sum.atom_virial);
  }
  expect_near(sum.value, whole.value);
  expect_near(sum.atom_value, whole.atom_value);
  expect_near(sum.force, whole.force);
  expect_near(sum.virial, whole.virial);
  expect_near(sum.atom_virial, whole.atom_virial);
}

// More ranks than atoms: some have none.
INSTANTIATE_TEST_SUITE_P(Halo, OnRanks, testing::Values(1, 2, 3, 13));

TEST(Halo, MustBeLargeEnough) {
  const auto model = open_text("rcut 4\nmessage_passing 1\ncotangents 1\n");
  const Atoms atoms(1, 6, 5.0);
  Rank rank(atoms, 0, 2);
  rank.list.halo = 7.9;
  expect_error([&] { model->evaluate(rank.frame(), kAll); }, {"reach 8", "up to 7.9"});
  rank.list.halo = 0.0;
  expect_error([&] { model->evaluate(rank.frame(), kAll); }, {"2 ranks", "reach 8", "halo"});
}

TEST(Halo, NeedsWeightsOfAtoms) {
  const auto model = open_text("rcut 4\nmessage_passing 1\n");
  const Atoms atoms(1, 6, 5.0);
  const Rank rank(atoms, 0, 2);
  expect_error([&] { model->evaluate(rank.frame(), kAll); }, {"weighted sums", "convert-backend"});
  // Values need none.
  EXPECT_NE(model->evaluate(rank.frame(), {false, false}).front().value[0], 0.0);
}

/** Derivatives of sum c_i e_i by differences of the positions. */
TEST(Cotangent, IsTheWeightOfAnAtom) {
  for (const char* text :
       {"rcut 4\n", "rcut 4\ncotangents 1\n", "rcut 4\nmessage_passing 1\ncotangents 1\n"}) {
    const auto model = open_text(text);
    Atoms atoms(2, 9, 6.0);
    std::vector<double> c(static_cast<size_t>(atoms.n));
    for (size_t k = 0; k < c.size(); ++k) c[k] = std::cos(static_cast<double>(k));
    Wanted wanted = kAll;
    wanted.cotangent = c.data();
    const Prediction found = model->evaluate(atoms.frame(), wanted).front();
    const auto sum = [&] {
      const auto e = model->evaluate(atoms.frame(), {false, false}).front().atom_value;
      return std::inner_product(c.begin(), c.end(), e.begin(), 0.0);
    };
    const double h = 1e-5;
    for (const size_t k : {size_t{0}, size_t{4}, size_t{17}}) {
      const double at = atoms.coord[k];
      atoms.coord[k] = at + h;
      const double above = sum();
      atoms.coord[k] = at - h;
      const double below = sum();
      atoms.coord[k] = at;
      EXPECT_NEAR(found.force[k], -(above - below) / (2.0 * h), 1e-6) << text << k;
    }
  }
}

TEST(Cotangent, OnesGiveTheSum) {
  const auto model = open_text("rcut 4\n");
  const Atoms atoms(3, 30, 7.0);
  const std::vector<double> ones(static_cast<size_t>(atoms.n), 1.0);
  Wanted wanted = kAll;
  wanted.cotangent = ones.data();
  const auto weighted = model->evaluate(atoms.frame(), wanted);
  const auto plain = model->evaluate(atoms.frame(), kAll);
  EXPECT_EQ(weighted[0].force, plain[0].force);
  EXPECT_EQ(weighted[0].virial, plain[0].virial);
  EXPECT_EQ(weighted[0].atom_virial, plain[0].atom_virial);
  EXPECT_TRUE(weighted[1].force.empty());
}

}  // namespace
