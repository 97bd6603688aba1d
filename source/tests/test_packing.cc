// SPDX-License-Identifier: LGPL-3.0-or-later
// A few packings by hand; random ones are compared with the Python code in tests/cxx.
#include <gtest/gtest.h>

#include <vector>

#include "core/packing.h"

namespace {

using deepmd::core::Edges;
using deepmd::core::Layout;
using deepmd::core::Overflow;
using deepmd::core::Packer;
using deepmd::core::Packing;
using deepmd::core::Slot;

using Numbers = std::vector<int64_t>;

/** Atom 0 (type 0) has four neighbors: 1 and 3 of type 1, 2 of type 0 twice; atom 1 has one. */
class PackingByHand : public testing::Test {
 protected:
  const Numbers i = {0, 0, 0, 0, 1}, j = {1, 2, 3, 2, 0};
  const Numbers atype = {0, 1, 0, 1}, first = {0, 0, 0, 0};
  const std::vector<double> vec = {2, 0, 0, 0, 1, 0, 0, 0, 1.5, -3, 0, 0, -2, 0, 0};
  const std::vector<double> r2 = {4.0, 1.0, 2.25, 9.0, 4.0};
  Packer packer;
  Overflow overflow;

  const std::vector<Slot>& pack(Layout layout, Numbers sel, double rcut, bool by_centre = false,
                                std::vector<std::pair<int, int>> exclude = {}) {
    Packing p;
    p.layout = layout;
    p.ntypes = 2;
    p.rcut = rcut;
    p.sel = std::move(sel);
    p.by_centre = by_centre;
    p.exclude = std::move(exclude);
    return packer.pack(
        {p}, {5, i.data(), j.data(), vec.data(), r2.data(), 4, atype.data(), first.data()},
        &overflow);
  }
};

TEST_F(PackingByHand, Typed) {
  const auto& slots = pack(Layout::typed, {5, 5}, 3.0);
  ASSERT_EQ(slots.size(), 2u);
  EXPECT_EQ(slots[0].columns, 2);
  EXPECT_EQ(slots[0].data, (Numbers{1, 3, 4, -1, -1, -1, -1, -1}));
  EXPECT_EQ(slots[1].data, (Numbers{0, 2, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(overflow.centers, 0);
  EXPECT_EQ(overflow.most, 4);
  EXPECT_EQ(overflow.needed, (Numbers{2, 2}));
}

TEST_F(PackingByHand, TypedKeepsTheNearest) {
  const auto& slots = pack(Layout::typed, {1, 1}, 3.0);  // edges 1 and 2 are the nearest of all
  EXPECT_EQ(slots[0].data, (Numbers{1, 4, -1, -1}));
  EXPECT_EQ(slots[1].data, (Numbers{2, -1, -1, -1}));
  EXPECT_EQ(overflow.centers, 1);
}

TEST_F(PackingByHand, CutsTheCutoffAndExcludesLast) {
  EXPECT_EQ(pack(Layout::flat, {9}, 2.0)[0].data, (Numbers{0, 1, 2, 4}));
  // Excluded pairs compete for places.
  EXPECT_EQ(pack(Layout::flat, {2}, 2.0, false, {{0, 1}})[0].data, (Numbers{1}));
  EXPECT_EQ(pack(Layout::flat, {2}, 0.5)[0].rows, 0);
}

TEST_F(PackingByHand, MixedByCenter) {
  const auto& slots = pack(Layout::mixed, {9}, 3.0, true);
  ASSERT_EQ(slots.size(), 4u);
  EXPECT_EQ(slots[0].data, (Numbers{0, 2}));
  EXPECT_EQ(slots[0].columns, -1);
  EXPECT_EQ(slots[1].data, (Numbers{0, 1, 2, 3, -1, -1, -1, -1}));
  EXPECT_EQ(slots[2].data, (Numbers{1, 3}));
  EXPECT_EQ(slots[3].data, (Numbers{4, -1}));
  EXPECT_EQ(slots[3].columns, 1);
}

}  // namespace
