// SPDX-License-Identifier: LGPL-3.0-or-later
/** The kernels of the native engine against plain loops and finite differences, at odd sizes. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <tuple>
#include <vector>

#include "kernels/kernels.h"

extern "C" {
extern const deepmd_kernels_f64 deepmd_kernels_f64_generic;
extern const deepmd_kernels_f32 deepmd_kernels_f32_generic;
}

namespace {

template <class T>
struct Traits;
template <>
struct Traits<double> {
  using Kernels = deepmd_kernels_f64;
  using Layer = deepmd_layer_f64;
  using Table = deepmd_table_f64;
  using Pieces = deepmd_pieces_f64;
  static constexpr double tolerance = 1e-13;
};
template <>
struct Traits<float> {
  using Kernels = deepmd_kernels_f32;
  using Layer = deepmd_layer_f32;
  using Table = deepmd_table_f32;
  using Pieces = deepmd_pieces_f32;
  static constexpr double tolerance = 1e-5;
};

/** The functions that any processor runs, and those that are chosen for this one. */
std::vector<const deepmd_kernels_f64*> all_of(double) {
  return {&deepmd_kernels_f64_generic, deepmd_kernels_for_f64()};
}
std::vector<const deepmd_kernels_f32*> all_of(float) {
  return {&deepmd_kernels_f32_generic, deepmd_kernels_for_f32()};
}

template <class T>
std::vector<T> random_numbers(size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<T> numbers(n);
  for (T& x : numbers) x = static_cast<T>(normal(generator));
  return numbers;
}

template <class T>
class Kernels : public testing::Test {};
using Precisions = testing::Types<double, float>;
TYPED_TEST_SUITE(Kernels, Precisions);

TYPED_TEST(Kernels, Multiply) {
  using T = TypeParam;
  using Sizes = std::tuple<int64_t, int64_t, int64_t>;
  for (const auto* kernels : all_of(T())) {
    for (const auto& [m, n, k] : {Sizes{0, 3, 2}, Sizes{1, 1, 1}, Sizes{3, 0, 2}, Sizes{2, 3, 0},
                                  Sizes{5, 17, 3}, Sizes{13, 33, 7}, Sizes{7, 9, 1100}}) {
      const auto a = random_numbers<T>(static_cast<size_t>(m * k), 1);
      const auto b = random_numbers<T>(static_cast<size_t>(k * n), 2);
      for (const int transposed : {0, 1}) {
        std::vector<T> packed(static_cast<size_t>(kernels->packed_size(k, n)));
        kernels->pack(k, n, b.data(), transposed ? k : n, transposed, packed.data());
        for (const int add : {0, 1}) {
          std::vector<T> c(static_cast<size_t>(m * n), T(2));
          kernels->multiply(m, n, k, a.data(), k, packed.data(), c.data(), n, add);
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t j = 0; j < n; ++j) {
              double want = 2.0 * add, size = 1.0;
              for (int64_t p = 0; p < k; ++p) {
                const double term = double{a[i * k + p]} * b[transposed ? j * k + p : p * n + j];
                want += term;
                size += std::abs(term);
              }
              EXPECT_NEAR(c[i * n + j], want, Traits<T>::tolerance * size);
            }
          }
        }
      }
    }
  }
}

TYPED_TEST(Kernels, ActivationsHaveTheirSlopes) {
  using T = TypeParam;
  constexpr int64_t width = 5;
  const double step = 1e-5;
  for (const auto* kernels : all_of(T())) {
    const int64_t ld = (width + kernels->lanes - 1) / kernels->lanes * kernels->lanes;
    for (int32_t kind = DEEPMD_LINEAR; kind <= DEEPMD_SILUT; ++kind) {
      typename Traits<T>::Layer layer{kind, 0, 1.5, width, nullptr, nullptr};
      std::vector<T> z(static_cast<size_t>(4 * ld), T(0)), y = z, slope = z, x = z;
      const std::vector<double> places = {-30.0, -7.3, -1.1, -0.2, 0.3, 1.3, 1.7, 5.2, 6.4, 25.0};
      for (int64_t k = 0; k < 10; ++k) z[k / width * ld + k % width] = static_cast<T>(places[k]);
      kernels->activate(&layer, 2, z.data(), x.data(), width, y.data(), slope.data(), ld);
      // The same in double precision, beside the places.
      std::vector<double> near(static_cast<size_t>(2 * deepmd_kernels_f64_generic.lanes * 20));
      const deepmd_layer_f64 plain{kind, 0, 1.5, 1, nullptr, nullptr};
      const int64_t row = 2 * deepmd_kernels_f64_generic.lanes;
      for (int64_t k = 0; k < 10; ++k) {
        near[row * (2 * k)] = places[k] - step;
        near[row * (2 * k + 1)] = places[k] + step;
      }
      std::vector<double> at = near;
      deepmd_kernels_f64_generic.activate(&plain, 20, near.data(), near.data(), row, at.data(),
                                          nullptr, row);
      for (int64_t k = 0; k < 10; ++k) {
        const double low = at[row * (2 * k)], high = at[row * (2 * k + 1)];
        const int64_t here = k / width * ld + k % width;
        EXPECT_NEAR(y[here], (low + high) / 2.0, 1e-5) << kind << " " << places[k];
        EXPECT_NEAR(slope[here], (high - low) / (2.0 * step), 2e-5) << kind << " " << places[k];
      }
    }
    typename Traits<T>::Layer layer{DEEPMD_TANH, 0, 0.0, width, nullptr, nullptr};
    std::vector<T> z(static_cast<size_t>(ld), T(0)), y = z;
    z[1] = static_cast<T>(NAN);
    z[2] = static_cast<T>(-INFINITY);
    z[3] = static_cast<T>(1e-3);
    kernels->activate(&layer, 1, z.data(), z.data(), width, y.data(), nullptr, ld);
    EXPECT_TRUE(std::isnan(y[1]));
    EXPECT_EQ(y[2], T(-1));
    EXPECT_NEAR(y[3] / std::tanh(double{z[3]}), 1.0, Traits<T>::tolerance);
  }
}

/** To four units in the last place, from the smallest numbers to where it is one. */
TYPED_TEST(Kernels, HyperbolicTangent) {
  using T = TypeParam;
  std::vector<T> x, found;
  for (double size = 1e-30; size < 40.0; size *= 1.0037) {
    for (const double sign : {-1.0, 1.0}) x.push_back(static_cast<T>(sign * size));
  }
  found.resize(x.size());
  for (const auto* kernels : all_of(T{})) {
    kernels->map(DEEPMD_MAP_TANH, static_cast<int64_t>(x.size()), x.data(), nullptr, found.data());
    for (size_t k = 0; k < x.size(); ++k) {
      const double exact = std::tanh(double{x[k]});
      const double unit = std::abs(exact) * double{std::numeric_limits<T>::epsilon()};
      EXPECT_NEAR(found[k], exact, 4.0 * unit) << x[k];
    }
  }
}

/** A table of polynomials, and the functions that it stands for. */
template <class T>
struct Tabulated {
  static constexpr int64_t rows = 9, width = 11;
  std::vector<T> data = random_numbers<T>(static_cast<size_t>(rows * width * 6), 3);
  std::vector<T> packed;
  typename Traits<T>::Table table{};

  explicit Tabulated(const typename Traits<T>::Kernels& kernels) {
    packed.resize(static_cast<size_t>(kernels.table_size(rows, width)));
    kernels.table_pack(rows, width, data.data(), packed.data());
    // Five intervals of 0.25 from -0.5, four of 0.5 beyond 0.75.
    table = {packed.data(), rows, width, -0.5, 0.75, 2.75, 0.25, 0.5, 0};
  }

  double value(int64_t m, double s) const {
    const double inside = std::min(std::max(s, -0.5), 2.75);
    int64_t row = inside >= 0.75 ? 5 + static_cast<int64_t>((inside - 0.75) / 0.5)
                                 : static_cast<int64_t>((inside + 0.5) / 0.25);
    row = std::min(row, rows - 1);
    const double begin = row >= 5 ? 0.75 + 0.5 * static_cast<double>(row - 5)
                                  : -0.5 + 0.25 * static_cast<double>(row);
    const T* a = data.data() + (row * width + m) * 6;
    double v = 0.0, d = 0.0;
    for (int k = 5; k >= 0; --k) v = v * (inside - begin) + a[k];
    for (int k = 5; k >= 1; --k) d = d * (inside - begin) + k * double{a[k]};
    return v + d * (s - inside);
  }
};

TYPED_TEST(Kernels, TablesAreContracted) {
  using T = TypeParam;
  for (const auto* kernels : all_of(T())) {
    const Tabulated<T> tabulated(*kernels);
    const int64_t width = tabulated.width,
                  ld = 4 * kernels->lanes > width ? 4 * kernels->lanes : 12;
    for (const int64_t n : {0, 1, 7}) {
      auto r = random_numbers<T>(static_cast<size_t>(4 * n), 4);
      const std::vector<double> places = {0.1, -1.3, 3.1, 0.76, -0.49, 2.74, 1.2};
      for (int64_t e = 0; e < n; ++e) r[4 * e] = static_cast<T>(places[e]);
      std::vector<int32_t> row(static_cast<size_t>(n + 1));
      std::vector<T> place(row.size()), beyond(row.size()), s_bar(row.size());
      kernels->table_places(&tabulated.table, n, r.data(), 4, row.data(), place.data(),
                            beyond.data());
      std::vector<T> sums(static_cast<size_t>(4 * ld), T(0));
      kernels->table_contract(&tabulated.table, n, row.data(), place.data(), beyond.data(),
                              r.data(), sums.data(), ld);
      auto bar = random_numbers<T>(static_cast<size_t>(4 * ld), 5);
      for (int64_t c = 0; c < 4; ++c) std::fill_n(bar.begin() + c * ld + width, ld - width, T(0));
      std::vector<T> r_bar(static_cast<size_t>(4 * n + 1));
      kernels->table_contract_backward(&tabulated.table, n, row.data(), place.data(), beyond.data(),
                                       r.data(), bar.data(), ld, r_bar.data(), s_bar.data());
      const auto product = [&](int64_t e, double s) {
        double total = 0.0;
        for (int64_t m = 0; m < width; ++m) {
          for (int64_t c = 0; c < 4; ++c) {
            total += tabulated.value(m, s) * r[4 * e + c] * bar[c * ld + m];
          }
        }
        return total;
      };
      for (int64_t c = 0; c < 4; ++c) {
        for (int64_t m = 0; m < width; ++m) {
          double want = 0.0;
          for (int64_t e = 0; e < n; ++e) want += tabulated.value(m, r[4 * e]) * r[4 * e + c];
          EXPECT_NEAR(sums[c * ld + m], want, 1e3 * Traits<T>::tolerance);
        }
        for (int64_t e = 0; e < n; ++e) {
          double want = 0.0;
          for (int64_t m = 0; m < width; ++m) {
            want += tabulated.value(m, r[4 * e]) * bar[c * ld + m];
          }
          EXPECT_NEAR(r_bar[4 * e + c], want, 1e3 * Traits<T>::tolerance);
        }
      }
      for (int64_t e = 0; e < n; ++e) {
        const double s = r[4 * e], slope = (product(e, s + 1e-6) - product(e, s - 1e-6)) / 2e-6;
        EXPECT_NEAR(s_bar[e], slope, 1e-3 * (1.0 + std::abs(slope)));
      }
    }
  }
}

/** Twenty pieces of two lengths, random polynomials, and the functions that they stand for. */
template <class T>
struct Divided {
  static constexpr int64_t pieces = 20, width = 11, terms = 6, cells = 30;
  std::vector<T> data = random_numbers<T>(static_cast<size_t>(pieces * terms * width), 8);
  std::vector<T> packed;
  std::vector<int32_t> piece;
  std::vector<double> middle, scale;
  typename Traits<T>::Pieces view{};

  explicit Divided(const typename Traits<T>::Kernels& kernels) {
    const int64_t size = kernels.packed_size(terms, width);
    packed.resize(static_cast<size_t>(pieces * size));
    for (int64_t k = 0; k < pieces; ++k) {
      kernels.pack(terms, width, data.data() + k * terms * width, width, 0,
                   packed.data() + k * size);
      // The first ten pieces are one cell, of length 0.5, each; the others are two.
      const double start = k < 10 ? 0.5 * static_cast<double>(k) : static_cast<double>(k - 5);
      const double half = k < 10 ? 0.25 : 0.5;
      piece.insert(piece.end(), k < 10 ? 1 : 2, static_cast<int32_t>(k));
      middle.push_back(start + half - 1.0);
      scale.push_back(1.0 / half);
    }
    view = {packed.data(), terms,        width,         cells,       -1.0,
            2.0,           piece.data(), middle.data(), scale.data()};
  }

  /** Value, or slope, of a function. */
  double at(int64_t m, double s, bool slope) const {
    const int32_t p = piece[static_cast<size_t>((s + 1.0) * 2.0)];
    const double t = (s - middle[p]) * scale[p];
    double v = 0.0, d = 0.0;
    for (int64_t k = terms - 1; k >= 0; --k) {
      d = d * t + v;
      v = v * t + data[(p * terms + k) * width + m];
    }
    return slope ? d * scale[p] : v;
  }
};

TYPED_TEST(Kernels, PolynomialsOnPiecesAreContracted) {
  using T = TypeParam;
  for (const auto* kernels : all_of(T())) {
    const Divided<T> divided(*kernels);
    const int64_t width = divided.width, ld = 4 * kernels->lanes > width ? 4 * kernels->lanes : 16;
    // Up to 50 numbers: more pieces than are held at the same time.
    for (const int64_t n : {0, 1, 7, 50}) {
      auto r = random_numbers<T>(static_cast<size_t>(4 * n), 9);
      for (int64_t e = 0; e < n; ++e) {
        r[4 * e] = static_cast<T>(-0.99 + 14.9 * static_cast<double>(e * 17 % 50) / 50.0);
      }
      std::vector<int32_t> piece(static_cast<size_t>(n + 1));
      std::vector<T> place(piece.size()), s_bar(piece.size()), r_bar(4 * piece.size());
      EXPECT_TRUE(
          kernels->pieces_places(&divided.view, n, r.data(), 4, piece.data(), place.data()));
      auto sums = random_numbers<T>(static_cast<size_t>(4 * ld), 10);
      const std::vector<T> before = sums;
      kernels->pieces_contract(&divided.view, n, piece.data(), place.data(), r.data(), sums.data(),
                               ld);
      auto bar = random_numbers<T>(static_cast<size_t>(4 * ld), 11);
      for (int64_t c = 0; c < 4; ++c) std::fill_n(bar.begin() + c * ld + width, ld - width, T(0));
      kernels->pieces_contract_backward(&divided.view, n, piece.data(), place.data(), r.data(),
                                        bar.data(), ld, r_bar.data(), s_bar.data());
      for (int64_t c = 0; c < 4; ++c) {
        for (int64_t m = 0; m < width; ++m) {
          double want = before[c * ld + m];
          for (int64_t e = 0; e < n; ++e) want += divided.at(m, r[4 * e], false) * r[4 * e + c];
          EXPECT_NEAR(sums[c * ld + m], want, 1e4 * Traits<T>::tolerance);
        }
      }
      for (int64_t e = 0; e < n; ++e) {
        double slope = 0.0;
        for (int64_t c = 0; c < 4; ++c) {
          double want = 0.0;
          for (int64_t m = 0; m < width; ++m) {
            want += divided.at(m, r[4 * e], false) * bar[c * ld + m];
            slope += divided.at(m, r[4 * e], true) * bar[c * ld + m] * r[4 * e + c];
          }
          EXPECT_NEAR(r_bar[4 * e + c], want, 1e3 * Traits<T>::tolerance);
        }
        EXPECT_NEAR(s_bar[e], slope, 1e5 * Traits<T>::tolerance);
      }
      const std::vector<T> separate = r_bar;
      kernels->pieces_contract_backward(&divided.view, n, piece.data(), place.data(), r.data(),
                                        bar.data(), ld, r_bar.data(), nullptr);
      for (int64_t e = 0; e < n; ++e) {
        const double want = double{separate[4 * e]} + s_bar[e];
        EXPECT_NEAR(r_bar[4 * e], want, 1e4 * Traits<T>::tolerance);
      }
    }
  }
}

TYPED_TEST(Kernels, NumbersOutsideOfAllPieces) {
  using T = TypeParam;
  for (const auto* kernels : all_of(T())) {
    const Divided<T> divided(*kernels);
    const std::vector<T> s = {T(-1),
                              T(-1.1),
                              T(14),
                              T(14.5),
                              std::numeric_limits<T>::quiet_NaN(),
                              std::numeric_limits<T>::infinity()};
    std::vector<int32_t> piece(s.size());
    std::vector<T> place(s.size());
    EXPECT_FALSE(kernels->pieces_places(&divided.view, static_cast<int64_t>(s.size()), s.data(), 1,
                                        piece.data(), place.data()));
    EXPECT_EQ(piece, (std::vector<int32_t>{0, -1, 19, -1, -1, -1}));
  }
}

TYPED_TEST(Kernels, FoldedProductsLeaveOutWhatIsEqual) {
  using T = TypeParam;
  for (const auto* kernels : all_of(T())) {
    const int64_t width = 13, ld = 4 * kernels->lanes > width ? 4 * kernels->lanes : 16;
    for (const int64_t axis : {1, 3, 8, 13}) {
      const auto sums = random_numbers<T>(static_cast<size_t>(4 * ld), 12);
      const auto fewer = static_cast<size_t>(width * axis - axis * (axis - 1) / 2);
      std::vector<T> d(static_cast<size_t>(width * axis)), folded(fewer);
      kernels->symmetrize(width, axis, sums.data(), ld, 0, d.data());
      kernels->symmetrize(width, axis, sums.data(), ld, 1, folded.data());
      const auto bar = random_numbers<T>(fewer, 13);
      std::vector<T> whole(d.size(), T(0));
      size_t at = 0;
      for (int64_t m = 0; m < width; ++m) {
        for (int64_t a = m < axis ? m : 0; a < axis; ++a, ++at) {
          EXPECT_NEAR(folded[at], d[m * axis + a], 1e2 * Traits<T>::tolerance);
          whole[m * axis + a] = bar[at];
        }
      }
      EXPECT_EQ(at, fewer);
      std::vector<T> one(sums.size(), T(0)), other(sums.size(), T(0));
      kernels->symmetrize_backward(width, axis, sums.data(), ld, whole.data(), 0, one.data());
      kernels->symmetrize_backward(width, axis, sums.data(), ld, bar.data(), 1, other.data());
      for (size_t k = 0; k < one.size(); ++k) {
        EXPECT_NEAR(one[k], other[k], 1e2 * Traits<T>::tolerance);
      }
    }
  }
}

TYPED_TEST(Kernels, SymmetrizedSumsHaveTheirDerivatives) {
  using T = TypeParam;
  for (const auto* kernels : all_of(T())) {
    const int64_t width = 13, ld = 2 * kernels->lanes > width ? 2 * kernels->lanes : 16;
    for (const int64_t axis : {1, 3, 8, 13}) {
      auto sums = random_numbers<T>(static_cast<size_t>(4 * ld), 6);
      const auto bar = random_numbers<T>(static_cast<size_t>(width * axis), 7);
      std::vector<T> d(bar.size()), sums_bar(sums.size(), T(0));
      kernels->symmetrize(width, axis, sums.data(), ld, 0, d.data());
      kernels->symmetrize_backward(width, axis, sums.data(), ld, bar.data(), 0, sums_bar.data());
      for (int64_t m = 0; m < width; ++m) {
        for (int64_t a = 0; a < axis; ++a) {
          double want = 0.0;
          for (int64_t c = 0; c < 4; ++c) want += double{sums[c * ld + m]} * sums[c * ld + a];
          EXPECT_NEAR(d[m * axis + a], want, 1e2 * Traits<T>::tolerance);
        }
        for (int64_t c = 0; c < 4; ++c) {
          double want = 0.0;
          for (int64_t a = 0; a < axis; ++a) want += double{bar[m * axis + a]} * sums[c * ld + a];
          for (int64_t o = 0; m < axis && o < width; ++o) {
            want += double{bar[o * axis + m]} * sums[c * ld + o];
          }
          EXPECT_NEAR(sums_bar[c * ld + m], want, 1e2 * Traits<T>::tolerance);
        }
      }
    }
  }
}

TEST(Kernels, EnvironmentRowsHaveTheirDerivatives) {
  const std::vector<double> vec = {0.3, 0.1,  -0.2, 1.9, -1.2, 0.4, 0.5, 2.5,
                                   1.1, -3.0, 2.4,  2.9, 4.0,  0.0, 0.0};
  const std::vector<int64_t> edge = {4, 0, 1, 3, 2};
  const deepmd_environment settings{4.0, 0.5, 0.01, {0.1, 0.0, 0.2, 0.0}, {2.0, 3.0, 4.0, 5.0}};
  for (const auto* kernels : all_of(0.0)) {
    const auto bar = random_numbers<double>(20, 8);
    const auto product = [&](const std::vector<double>& at) {
      std::vector<double> r(20), slopes(20);
      kernels->environment(&settings, 5, edge.data(), at.data(), r.data(), slopes.data());
      double total = 0.0;
      for (size_t k = 0; k < 20; ++k) total += r[k] * bar[k];
      return total;
    };
    std::vector<double> r(20), slopes(20), gradient(15, 1.0);
    kernels->environment(&settings, 5, edge.data(), vec.data(), r.data(), slopes.data());
    kernels->environment_backward(&settings, 5, edge.data(), vec.data(), slopes.data(), bar.data(),
                                  gradient.data(), 3);
    EXPECT_DOUBLE_EQ(r[0], -0.2);  // at the cutoff
    for (size_t k = 0; k < 15; ++k) {
      auto low = vec, high = vec;
      low[k] -= 1e-6;
      high[k] += 1e-6;
      const double slope = (product(high) - product(low)) / 2e-6;
      EXPECT_NEAR(gradient[k] - 1.0, slope, 1e-6 * (1.0 + std::abs(slope)));
    }
    kernels->environment(&settings, 0, nullptr, nullptr, nullptr, nullptr);
  }
}

}  // namespace
