// SPDX-License-Identifier: LGPL-3.0-or-later
/** The embedding of training steps against plain sums, its derivatives against differences. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "training/training.h"

namespace {

using Numbers = std::vector<double>;

Numbers random_numbers(size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  Numbers numbers(n);
  for (double& x : numbers) x = 0.5 * normal(generator);
  return numbers;
}

/** A network, rows, and what the library says of them. */
struct Case {
  std::vector<int64_t> widths;
  std::vector<int32_t> copies;
  std::vector<Numbers> w, b;
  int64_t n, k;
  Numbers r;
  std::vector<int64_t> first;
  Numbers state;

  /** The last `empty` rows of every second center are equal. */
  Case(std::vector<int64_t> widths_, std::vector<int32_t> copies_, int64_t n_, int64_t k_,
       int64_t empty)
      : widths(std::move(widths_)), copies(std::move(copies_)), n(n_), k(k_) {
    for (size_t l = 0; l + 1 < widths.size(); ++l) {
      w.push_back(random_numbers(widths[l] * widths[l + 1], 10 + l));
      b.push_back(random_numbers(widths[l + 1], 20 + l));
    }
    r = random_numbers(n * k * 4, 1);
    for (int64_t i = 0; i < n; i += 2) {
      for (int64_t e = k - empty; e < k; ++e) {
        for (int64_t a = 0; a < 4; ++a) r[(i * k + e) * 4 + a] = 0.1 * a - 0.2;
      }
    }
  }

  int64_t width() const { return widths.back(); }

  /** G and its derivative by s, by the definition. */
  std::pair<Numbers, Numbers> network(double s) const {
    Numbers h{s}, d{1.0};
    for (size_t l = 0; l < w.size(); ++l) {
      const int64_t n_in = widths[l], n_out = widths[l + 1];
      Numbers y(n_out), slope(n_out);
      for (int64_t q = 0; q < n_out; ++q) {
        double z = b[l][q], dz = 0.0;
        for (int64_t p = 0; p < n_in; ++p) {
          z += h[p] * w[l][p * n_out + q];
          dz += d[p] * w[l][p * n_out + q];
        }
        y[q] = std::tanh(z);
        slope[q] = (1.0 - y[q] * y[q]) * dz;
        if (copies[l] > 0) {
          y[q] += h[q % n_in];
          slope[q] += d[q % n_in];
        }
      }
      h = y;
      d = slope;
    }
    return {h, d};
  }

  /** T, and r_bar from t_bar, by the definition. */
  std::pair<Numbers, Numbers> expected(const Numbers& t_bar) const {
    Numbers t(n * width() * 4), r_bar(r.size());
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t e = 0; e < k; ++e) {
        const size_t row = (i * k + e) * 4;
        const auto [g, slope] = network(r[row]);
        for (int64_t m = 0; m < width(); ++m) {
          const size_t at = (i * width() + m) * 4;
          for (int64_t a = 0; a < 4; ++a) {
            t[at + a] += g[m] * r[row + a];
            r_bar[row + a] += g[m] * t_bar[at + a];
            r_bar[row] += slope[m] * r[row + a] * t_bar[at + a];
          }
        }
      }
    }
    return {t, r_bar};
  }
};

void expect_near(const Numbers& found, const Numbers& expected, double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t q = 0; q < found.size(); ++q) {
    ASSERT_NEAR(found[q], expected[q], tolerance * std::max(1.0, std::abs(expected[q]))) << q;
  }
}

double dot(const Numbers& a, const Numbers& b) {
  double sum = 0.0;
  for (size_t q = 0; q < a.size(); ++q) sum += a[q] * b[q];
  return sum;
}

std::vector<double*> pointers(std::vector<Numbers>& arrays) {
  std::vector<double*> all;
  all.reserve(arrays.size());
  for (Numbers& x : arrays) all.push_back(x.data());
  return all;
}

class Training : public testing::TestWithParam<int> {
 protected:
  static Case make(int number) {
    switch (number) {
      case 0:
        return {{1, 3}, {0}, 1, 1, 0};
      case 1:
        return {{1, 4, 8, 16}, {0, 2, 2}, 5, 7, 4};
      case 2:
        return {{1, 5, 5, 10}, {0, 1, 2}, 4, 3, 3};
      case 3:
        return {{1, 300}, {0}, 2, 5, 1};
      default:
        return {{1, 25, 50, 100}, {0, 2, 2}, 3, 130, 60};
    }
  }
};

TEST_P(Training, Embedding) {
  Case c = make(GetParam());
  std::vector<double*> w = pointers(c.w), b = pointers(c.b);
  deepmd_embedding_f64* net = deepmd_embedding_new_f64(
      static_cast<int64_t>(c.w.size()), c.widths.data(), c.copies.data(), w.data(), b.data());
  ASSERT_NE(net, nullptr);
  c.first.resize(c.n + 1);
  deepmd_embedding_count_f64(c.n, c.k, c.r.data(), c.first.data());
  c.state.resize(c.first[c.n] * deepmd_embedding_state_f64(net));
  const Numbers t_bar = random_numbers(c.n * c.width() * 4, 2);
  const Numbers again = random_numbers(t_bar.size(), 3), r_dot = random_numbers(c.r.size(), 4);
  const auto [want_t, want_r_bar] = c.expected(t_bar);
  std::vector<Numbers> once;
  for (const int threads : {1, 3}) {
    const deepmd_rows_f64 rows{c.n, c.k, c.r.data(), c.first.data(), c.state.data(), threads};
    Numbers t(t_bar.size()), t_dot(t_bar.size()), r_bar(c.r.size());
    std::vector<Numbers> w_bar = c.w, b_bar = c.b;
    ASSERT_EQ(deepmd_embedding_value_f64(net, &rows, t.data()), 0);
    ASSERT_EQ(deepmd_embedding_vjp_f64(net, &rows, t_bar.data(), r_bar.data()), 0);
    ASSERT_EQ(deepmd_embedding_jvp_f64(net, &rows, r_dot.data(), t_dot.data()), 0);
    ASSERT_EQ(deepmd_embedding_vjp_of_vjp_f64(net, &rows, again.data(), t_bar.data(), r_dot.data(),
                                              pointers(w_bar).data(), pointers(b_bar).data()),
              0);
    expect_near(t, want_t, 1e-12);
    expect_near(r_bar, want_r_bar, 1e-12);
    // The tangent is the derivative of <T, t_bar> along r_dot, for every t_bar.
    EXPECT_NEAR(dot(t_dot, t_bar), dot(r_bar, r_dot), 1e-11 * (1.0 + std::abs(dot(r_bar, r_dot))));
    // Adjoints of the weights, of <T, again> + <r_bar, r_dot>, by differences along a direction.
    const auto objective = [&](const Case& at) {
      const auto [value, slope] = at.expected(t_bar);
      return dot(value, again) + dot(slope, r_dot);
    };
    for (size_t l = 0; l < c.w.size(); ++l) {
      for (const bool bias : {false, true}) {
        const Numbers along = random_numbers((bias ? c.b : c.w)[l].size(), 30 + l);
        const auto moved = [&](double step) {
          Case other = c;
          Numbers& x = (bias ? other.b : other.w)[l];
          for (size_t q = 0; q < x.size(); ++q) x[q] += step * along[q];
          return objective(other);
        };
        const double found = dot((bias ? b_bar : w_bar)[l], along);
        EXPECT_NEAR(found, (moved(1e-5) - moved(-1e-5)) / 2e-5, 1e-6 * (1.0 + std::abs(found)))
            << l << bias;
      }
    }
    std::vector<Numbers> all{t, r_bar, t_dot};
    all.insert(all.end(), w_bar.begin(), w_bar.end());
    if (threads == 1) {
      once = all;
    } else {
      EXPECT_EQ(all, once);
    }
  }
  deepmd_embedding_free_f64(net);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Training, testing::Range(0, 5));

TEST(TrainingInSinglePrecision, Embedding) {
  const int64_t widths[] = {1, 2, 4};
  const int32_t copies[] = {0, 2};
  const float w0[] = {0.3F, -0.2F}, b0[] = {0.1F, 0.2F};
  const float w1[] = {0.1F, 0.2F, -0.3F, 0.4F, 0.5F, -0.6F, 0.7F, 0.8F}, b1[] = {0, 0, 0.1F, 0};
  const float *w[] = {w0, w1}, *b[] = {b0, b1};
  deepmd_embedding_f32* net = deepmd_embedding_new_f32(2, widths, copies, w, b);
  ASSERT_NE(net, nullptr);
  const float r[] = {0.5F, 0.1F, -0.2F, 0.3F};
  int64_t first[2];
  deepmd_embedding_count_f32(1, 1, r, first);
  std::vector<float> state(deepmd_embedding_state_f32(net)), t(16);
  const deepmd_rows_f32 rows{1, 1, r, first, state.data(), 1};
  ASSERT_EQ(deepmd_embedding_value_f32(net, &rows, t.data()), 0);
  const double h[] = {std::tanh(0.25), std::tanh(0.1)};
  for (int q = 0; q < 4; ++q) {
    const double g = std::tanh(h[0] * w1[q] + h[1] * w1[4 + q] + b1[q]) + h[q % 2];
    for (int a = 0; a < 4; ++a) EXPECT_NEAR(t[4 * q + a], g * r[a], 1e-6);
  }
  deepmd_embedding_free_f32(net);
}

/** Rows of two segments and columns of both kinds, at the threshold and away from it. */
TEST(TrainingSums, Activated) {
  const int64_t rows = 5, columns = 131, n = 3;
  const std::vector<int64_t> segment{0, 0, 2, 2, 2};
  EXPECT_EQ(deepmd_are_segments(rows, segment.data(), n), 2);
  EXPECT_EQ(deepmd_are_segments(rows, segment.data(), 2), 0);
  const Numbers z = random_numbers(rows * columns, 1), w = random_numbers(rows, 2);
  const auto f = [](int32_t kind, double x) {
    const auto silu = [](double v) { return v / (1.0 + std::exp(-v)); };
    if (kind == DEEPMD_TANH) return std::tanh(x);
    if (kind == DEEPMD_SILU || x < 0.3) return silu(x);
    const double s = 1.0 / (1.0 + std::exp(-0.3)), slope = s + 0.3 * s * (1.0 - s);
    return std::tanh(slope * (x - 0.3)) + 0.3 * s;
  };
  for (const int32_t kind : {DEEPMD_TANH, DEEPMD_SILU, DEEPMD_SILUT}) {
    for (const int64_t summed : {int64_t{0}, int64_t{7}, columns}) {
      const int64_t rest = columns - summed;
      const deepmd_activated_f64 a{kind, 0.3, rows, columns, summed, w.data(), segment.data()};
      const auto value = [&](const Numbers& at, const Numbers& weight) {
        deepmd_activated_f64 moved = a;
        moved.weight = weight.data();
        Numbers sums(n * summed), others(rows * rest);
        EXPECT_EQ(deepmd_activated_value_f64(&moved, n, 2, at.data(), sums.data(), others.data()),
                  0);
        return std::pair(sums, others);
      };
      const auto [sums, others] = value(z, w);
      Numbers want_sums(n * summed), want_others(rows * rest);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t q = 0; q < columns; ++q) {
          const double y = f(kind, z[i * columns + q]);
          if (q < summed) {
            want_sums[segment[i] * summed + q] += w[i] * y;
          } else {
            want_others[i * rest + q - summed] = y;
          }
        }
      }
      expect_near(sums, want_sums, 1e-13);
      expect_near(others, want_others, 1e-13);
      // <vjp, direction> and <adjoint, jvp> are the derivative along the direction.
      const Numbers bar = random_numbers(n * summed, 3), bar_rest = random_numbers(rows * rest, 4);
      const Numbers dz = random_numbers(z.size(), 5), dw = random_numbers(rows, 6);
      Numbers z_bar(z.size()), w_bar(rows), dots(n * summed), dots_rest(rows * rest);
      ASSERT_EQ(deepmd_activated_vjp_f64(&a, 2, z.data(), bar.data(), bar_rest.data(), z_bar.data(),
                                         w_bar.data()),
                0);
      ASSERT_EQ(deepmd_activated_jvp_f64(&a, n, 2, z.data(), dz.data(), dw.data(), dots.data(),
                                         dots_rest.data()),
                0);
      const auto moved = [&](double step) {
        Numbers at = z, weight = w;
        for (size_t q = 0; q < z.size(); ++q) at[q] += step * dz[q];
        for (int64_t i = 0; i < rows; ++i) weight[i] += step * dw[i];
        const auto [s, o] = value(at, weight);
        return dot(s, bar) + dot(o, bar_rest);
      };
      const double along = dot(z_bar, dz) + dot(w_bar, dw);
      EXPECT_NEAR(along, dot(dots, bar) + dot(dots_rest, bar_rest), 1e-11);
      EXPECT_NEAR(along, (moved(1e-5) - moved(-1e-5)) / 2e-5, 1e-4);
      // The adjoint of z in <value, again> + <vjp, (dz, dw)>, by differences.
      const Numbers again = random_numbers(n * summed, 7), more = random_numbers(rows * rest, 8);
      Numbers second(z.size());
      ASSERT_EQ(
          deepmd_activated_vjp_of_vjp_f64(&a, 2, z.data(), again.data(), more.data(), bar.data(),
                                          bar_rest.data(), dz.data(), dw.data(), second.data()),
          0);
      const Numbers direction = random_numbers(z.size(), 9);
      const auto objective = [&](double step) {
        Numbers at = z, g(z.size()), h(rows);
        for (size_t q = 0; q < z.size(); ++q) at[q] += step * direction[q];
        deepmd_activated_vjp_f64(&a, 1, at.data(), bar.data(), bar_rest.data(), g.data(), h.data());
        const auto [s, o] = value(at, w);
        return dot(s, again) + dot(o, more) + dot(g, dz) + dot(h, dw);
      };
      const double found = dot(second, direction);
      // One of 655 numbers may cross the threshold, where the third derivative jumps.
      EXPECT_NEAR(found, (objective(1e-5) - objective(-1e-5)) / 2e-5,
                  1e-4 * (1.0 + std::abs(found)));
    }
  }
}

TEST(TrainingSums, SegmentsInAnyOrder) {
  const int64_t k = 5000, c = 33, n = 7;
  const Numbers x = random_numbers(k * c, 1);
  std::vector<int64_t> index(k);
  Numbers want(n * c);
  for (int64_t i = 0; i < k; ++i) {
    index[i] = i * 5 % n;
    for (int64_t q = 0; q < c; ++q) want[index[i] * c + q] += x[i * c + q];
  }
  EXPECT_EQ(deepmd_are_segments(k, index.data(), n), 1);
  for (const int threads : {1, 3}) {
    Numbers out(n * c, 1.0);
    ASSERT_EQ(deepmd_segment_sum_f64(k, c, n, x.data(), index.data(), threads, out.data()), 0);
    EXPECT_EQ(out, want);
  }
}

/** The scalar sum and its derivatives, against the definition and differences, at odd sizes. */
TEST(TrainingScalar, SumsAndDerivatives) {
  for (const auto& [widths, copies, n, k] :
       std::vector<std::tuple<std::vector<int64_t>, std::vector<int32_t>, int64_t, int64_t>>{
           {{1, 1}, {1}, 1, 1},
           {{1, 2, 4, 8}, {2, 2, 2}, 35, 33},
           {{1, 5, 5, 9}, {0, 1, 0}, 2, 70},
           {{1, 63}, {0}, 3, 0}}) {
    const Case c(widths, copies, n, k, 0);
    const Numbers s = random_numbers(n * k, 1), s_dot = random_numbers(n * k, 2);
    const Numbers again = random_numbers(n * c.width(), 3), bar = random_numbers(n * c.width(), 4);
    // The sums, and <sums, bar> differentiated by s along s_dot, for other weights.
    const auto expected = [&](const Case& at) {
      Numbers sums(n * at.width());
      double slope = 0.0;
      for (int64_t q = 0; q < n * k; ++q) {
        const auto [g, dg] = at.network(s[q]);
        for (int64_t m = 0; m < at.width(); ++m) {
          const int64_t to = q / k * at.width() + m;
          sums[to] += s[q] * g[m];
          slope += bar[to] * (g[m] + s[q] * dg[m]) * s_dot[q];
        }
      }
      return std::pair(sums, slope);
    };
    const auto [want, want_slope] = expected(c);
    std::vector<const double*> w, b;
    for (const Numbers& x : c.w) w.push_back(x.data());
    for (const Numbers& x : c.b) b.push_back(x.data());
    const deepmd_scalar_f64 net{static_cast<int64_t>(w.size()), widths.data(), copies.data(),
                                w.data(), b.data()};
    std::vector<std::vector<Numbers>> found;
    for (const int threads : {1, 3}) {
      Numbers sums(n * c.width(), 1.0), dots(n * c.width(), 1.0), s_bar(n * k, 1.0);
      std::vector<Numbers> w_bar = c.w, b_bar = c.b;
      ASSERT_EQ(deepmd_scalar_value_f64(&net, n, k, s.data(), threads, sums.data()), 0);
      ASSERT_EQ(deepmd_scalar_vjp_f64(&net, n, k, s.data(), bar.data(), threads, s_bar.data()), 0);
      ASSERT_EQ(deepmd_scalar_jvp_f64(&net, n, k, s.data(), s_dot.data(), threads, dots.data()), 0);
      ASSERT_EQ(
          deepmd_scalar_vjp_of_vjp_f64(&net, n, k, s.data(), again.data(), bar.data(), s_dot.data(),
                                       threads, pointers(w_bar).data(), pointers(b_bar).data()),
          0);
      expect_near(sums, want, 1e-12);
      EXPECT_NEAR(dot(s_bar, s_dot), want_slope, 1e-11 * (1.0 + std::abs(want_slope)));
      EXPECT_NEAR(dot(dots, bar), want_slope, 1e-11 * (1.0 + std::abs(want_slope)));
      for (size_t l = 0; l < w.size(); ++l) {
        for (const bool bias : {false, true}) {
          const Numbers along = random_numbers((bias ? c.b : c.w)[l].size(), 30 + l);
          const auto moved = [&](double step) {
            Case other = c;
            Numbers& x = (bias ? other.b : other.w)[l];
            for (size_t q = 0; q < x.size(); ++q) x[q] += step * along[q];
            const auto [value, slope] = expected(other);
            return dot(value, again) + slope;
          };
          const double got = dot((bias ? b_bar : w_bar)[l], along);
          EXPECT_NEAR(got, (moved(1e-5) - moved(-1e-5)) / 2e-5, 1e-6 * (1.0 + std::abs(got)))
              << l << bias;
        }
      }
      found.push_back({sums, dots, s_bar});
      found.back().insert(found.back().end(), w_bar.begin(), w_bar.end());
      found.back().insert(found.back().end(), b_bar.begin(), b_bar.end());
    }
    EXPECT_EQ(found[0], found[1]);
  }
}

TEST(TrainingScalar, NoNumberStaysNone) {
  const int64_t widths[] = {1, 1};
  const int32_t copies[] = {1};
  const double one = 0.5, *const weights[] = {&one}, s[] = {0.1, std::nan(""), 0.2};
  const deepmd_scalar_f64 net{1, widths, copies, weights, weights};
  double sums[3];
  ASSERT_EQ(deepmd_scalar_value_f64(&net, 3, 1, s, 1, sums), 0);
  EXPECT_TRUE(std::isfinite(sums[0]) && std::isnan(sums[1]) && std::isfinite(sums[2]));
}

/** Threads of a framework do the work where they are given. */
TEST(TrainingThreads, OfAFramework) {
  static int calls;
  calls = 0;
  const int64_t k = 5000, c = 33, n = 7;
  const Numbers x = random_numbers(k * c, 1);
  std::vector<int64_t> index(k);
  for (int64_t i = 0; i < k; ++i) index[i] = i * 5 % n;
  const auto sums = [&](int threads) {
    Numbers out(n * c);
    EXPECT_EQ(deepmd_segment_sum_f64(k, c, n, x.data(), index.data(), threads, out.data()), 0);
    return out;
  };
  const Numbers want = sums(2);
  deepmd_training_use_threads([](void (*f)(void*), void* data, unsigned threads, unsigned) {
    calls += static_cast<int>(threads);
    std::thread other(f, data);
    f(data);
    other.join();
  });
  EXPECT_EQ(sums(2), want);
  EXPECT_EQ(sums(1), want);
  deepmd_training_use_threads(nullptr);
  EXPECT_EQ(sums(2), want);
  EXPECT_EQ(calls, 2);
}

}  // namespace
