// SPDX-License-Identifier: LGPL-3.0-or-later
/** The embedding by interpolation against that for every row, and its conditions. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "training/training.h"

namespace {

using Numbers = std::vector<double>;

/** A network with several biases of the first layer, and rows of as many kinds. */
struct Case {
  std::vector<int64_t> widths;
  std::vector<int32_t> copies;
  int64_t kinds, n, k;
  std::vector<Numbers> w, b;
  Numbers r, t_bar, again, r_dot;
  std::vector<int64_t> kind;

  Case(std::vector<int64_t> widths_, std::vector<int32_t> copies_, int64_t kinds_, int64_t n_,
       int64_t k_)
      : widths(std::move(widths_)), copies(std::move(copies_)), kinds(kinds_), n(n_), k(k_) {
    for (size_t l = 0; l + 1 < widths.size(); ++l) {
      w.push_back(some(widths[l] * widths[l + 1]));
      for (double& x : w[l]) x /= std::sqrt(static_cast<double>(widths[l]));
      b.push_back(some(widths[l + 1] * (l == 0 ? kinds : 1)));
    }
    r = some(n * k * 4);
    r_dot = some(n * k * 4);
    t_bar = some(n * widths.back() * 4);
    again = some(n * widths.back() * 4);
    for (int64_t e = 0; e < n * k; ++e) kind.push_back((e * 7 + e / 3) % kinds);
  }

  Numbers some(size_t count) {
    std::normal_distribution<double> normal;
    Numbers numbers(count);
    for (double& x : numbers) x = 0.4 * normal(generator);
    return numbers;
  }

  deepmd_batch_f64 batch(int threads) const { return {n, k, r.data(), kind.data(), threads}; }

  deepmd_interpolated_f64* series(const deepmd_batch_f64& rows) const {
    std::vector<const double*> pw, pb;
    for (const Numbers& x : w) pw.push_back(x.data());
    for (const Numbers& x : b) pb.push_back(x.data());
    return deepmd_interpolated_new_f64(static_cast<int64_t>(w.size()), widths.data(), copies.data(),
                                       pw.data(), pb.data(), kinds, &rows);
  }

  std::mt19937 generator{5};
};

/** T, r_bar, t_dot, and adjoints of weights and biases. */
using Results = std::vector<Numbers>;

std::vector<double*> pointers(std::vector<Numbers>& arrays) {
  std::vector<double*> all;
  all.reserve(arrays.size());
  for (Numbers& x : arrays) all.push_back(x.data());
  return all;
}

Results joined(Results found, const std::vector<Numbers>& w, const std::vector<Numbers>& b) {
  found.insert(found.end(), w.begin(), w.end());
  found.insert(found.end(), b.begin(), b.end());
  return found;
}

Results interpolated(const Case& c, int threads) {
  const deepmd_batch_f64 batch = c.batch(threads);
  deepmd_interpolated_f64* net = c.series(batch);
  if (net == nullptr) return {};
  Numbers t(c.t_bar.size()), r_bar(c.r.size()), t_dot(c.t_bar.size());
  std::vector<Numbers> w = c.w, b = c.b;
  EXPECT_EQ(deepmd_interpolated_value_f64(net, &batch, t.data()), 0);
  EXPECT_EQ(deepmd_interpolated_vjp_f64(net, &batch, c.t_bar.data(), r_bar.data()), 0);
  EXPECT_EQ(deepmd_interpolated_jvp_f64(net, &batch, c.r_dot.data(), t_dot.data()), 0);
  EXPECT_EQ(
      deepmd_interpolated_vjp_of_vjp_f64(net, &batch, c.again.data(), c.t_bar.data(),
                                         c.r_dot.data(), pointers(w).data(), pointers(b).data()),
      0);
  deepmd_interpolated_free_f64(net);
  return joined({t, r_bar, t_dot}, w, b);
}

/** The same by the network for every row: rows of other kinds are zero, s apart. */
Results by_rows(const Case& c) {
  Numbers t(c.t_bar.size()), r_bar(c.r.size()), t_dot(c.t_bar.size());
  std::vector<Numbers> w_sum = c.w, b_sum = c.b;
  for (auto* arrays : {&w_sum, &b_sum}) {
    for (Numbers& x : *arrays) std::fill(x.begin(), x.end(), 0.0);
  }
  for (int64_t q = 0; q < c.kinds; ++q) {
    // A row per center, so that no empty row adds anything.
    for (int64_t e = 0; e < c.n * c.k; ++e) {
      if (c.kind[e] != q) continue;
      const int64_t i = e / c.k, size = 4 * c.widths.back();
      std::vector<Numbers> w = c.w, b = c.b;
      b[0].assign(c.b[0].begin() + q * c.widths[1], c.b[0].begin() + (q + 1) * c.widths[1]);
      std::vector<double*> pw = pointers(w), pb = pointers(b);
      deepmd_embedding_f64* net = deepmd_embedding_new_f64(
          static_cast<int64_t>(w.size()), c.widths.data(), c.copies.data(), pw.data(), pb.data());
      const int64_t first[] = {0, 1};
      Numbers state(deepmd_embedding_state_f64(net)), one(size), tangent(size);
      const deepmd_rows_f64 rows{1, 1, c.r.data() + 4 * e, first, state.data(), 1};
      deepmd_embedding_value_f64(net, &rows, one.data());
      deepmd_embedding_vjp_f64(net, &rows, c.t_bar.data() + i * size, r_bar.data() + 4 * e);
      deepmd_embedding_jvp_f64(net, &rows, c.r_dot.data() + 4 * e, tangent.data());
      deepmd_embedding_vjp_of_vjp_f64(net, &rows, c.again.data() + i * size,
                                      c.t_bar.data() + i * size, c.r_dot.data() + 4 * e, pw.data(),
                                      pb.data());
      deepmd_embedding_free_f64(net);
      for (int64_t m = 0; m < size; ++m) {
        t[i * size + m] += one[m];
        t_dot[i * size + m] += tangent[m];
      }
      for (size_t l = 0; l < w.size(); ++l) {
        const int64_t at = l == 0 ? q * c.widths[1] : 0;
        for (size_t m = 0; m < w[l].size(); ++m) w_sum[l][m] += w[l][m];
        for (size_t m = 0; m < b[l].size(); ++m) b_sum[l][at + m] += b[l][m];
      }
    }
  }
  return joined({t, r_bar, t_dot}, w_sum, b_sum);
}

TEST(TrainingInterpolated, AgreesWithTheNetworkOfEveryRow) {
  for (const auto& [kinds, n, k] : {std::tuple{1, 40, 33}, {3, 60, 64}, {2, 1, 901}}) {
    const Case c({1, 20, 40, 33}, {0, 2, 0}, kinds, n, k);
    const Results found = interpolated(c, 1), expected = by_rows(c);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t p = 0; p < found.size(); ++p) {
      double largest = 1.0;
      for (const double x : expected[p]) largest = std::max(largest, std::abs(x));
      for (size_t q = 0; q < found[p].size(); ++q) {
        ASSERT_NEAR(found[p][q], expected[p][q], 1e-12 * largest) << p << ' ' << q;
      }
    }
    EXPECT_EQ(interpolated(c, 3), found);
  }
}

/** No series: few rows, one that is steep, equal or infinite numbers. */
TEST(TrainingInterpolated, IsDeclinedWhereItDoesNotPay) {
  const std::vector<int64_t> widths{1, 20, 40, 33};
  EXPECT_TRUE(interpolated(Case(widths, {0, 2, 0}, 1, 2, 3), 1).empty());
  EXPECT_TRUE(interpolated(Case(widths, {0, 2, 0}, 1, 0, 3), 1).empty());
  Case steep(widths, {0, 2, 0}, 1, 40, 33);
  EXPECT_FALSE(interpolated(steep, 1).empty());
  for (double& x : steep.w[0]) x *= 1000.0;
  EXPECT_TRUE(interpolated(steep, 1).empty());
  Case equal(widths, {0, 2, 0}, 1, 40, 33);
  for (int64_t e = 0; e < 40 * 33; ++e) equal.r[4 * e] = 0.3;
  EXPECT_TRUE(interpolated(equal, 1).empty());
  for (const double s : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    Case none(widths, {0, 2, 0}, 1, 40, 33);
    none.r[400] = s;
    EXPECT_TRUE(interpolated(none, 1).empty());
  }
}

}  // namespace
