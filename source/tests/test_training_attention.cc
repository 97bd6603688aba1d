// SPDX-License-Identifier: LGPL-3.0-or-later
/** Both kinds of attention of training steps against plain loops, derivatives against differences.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "training/training.h"

namespace {

using Numbers = std::vector<double>;

Numbers random_numbers(size_t n, unsigned seed, double scale = 0.5) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  Numbers numbers(n);
  for (double& x : numbers) x = scale * normal(generator);
  return numbers;
}

double dot(const Numbers& a, const Numbers& b) {
  double sum = 0.0;
  for (size_t q = 0; q < a.size(); ++q) sum += a[q] * b[q];
  return sum;
}

Numbers moved(const Numbers& x, double step, const Numbers& along) {
  Numbers to = x;
  for (size_t q = 0; q < x.size(); ++q) to[q] += step * along[q];
  return to;
}

struct Sizes {
  int64_t n, k, e, h, more;
};

/** The layers of DPA-1. */
struct Gated {
  using Layer = deepmd_attention_layer_f64;
  static constexpr auto count = deepmd_attention_count_f64;
  static constexpr auto value = deepmd_attention_value_f64;
  static constexpr auto vjp = deepmd_attention_vjp_f64;
  static constexpr auto jvp = deepmd_attention_jvp_f64;
  static constexpr auto vjp_of_vjp = deepmd_attention_vjp_of_vjp_f64;

  /** Numbers of all weights: w_in, b_in, w_out, b_out, gamma, beta. */
  static int64_t size(const Sizes& z) { return z.e * 3 * z.h + 3 * z.h + z.h * z.e + 3 * z.e; }

  static Layer layer(const Sizes& z, const double* w_in) {
    const double *b_in = w_in + z.e * 3 * z.h, *w_out = b_in + 3 * z.h;
    const double *b_out = w_out + z.h * z.e, *gamma = b_out + z.e;
    return {z.e, z.h, 0.7, 1e-5, w_in, b_in, w_out, b_out, gamma, gamma + z.e};
  }

  /** Features of the slots of one center, empty ones evaluated like others. */
  static void center(const Layer& a, const Sizes& z, const double* in, const double* s,
                     const double* u, double* y) {
    const int64_t k = z.k, e = z.e, h = z.h;
    Numbers qkv(k * 3 * h);
    for (int64_t j = 0; j < k; ++j) {
      for (int64_t t = 0; t < 3; ++t) {
        double square = 0.0;
        double* to = qkv.data() + (j * 3 + t) * h;
        for (int64_t q = 0; q < h; ++q) {
          to[q] = a.b_in[t * h + q];
          for (int64_t p = 0; p < e; ++p) to[q] += in[j * e + p] * a.w_in[p * 3 * h + t * h + q];
          square += to[q] * to[q];
        }
        for (int64_t q = 0; q < h; ++q) to[q] /= std::sqrt(square);
      }
    }
    for (int64_t j = 0; j < k; ++j) {
      Numbers attended(h), out(e);
      double total = static_cast<double>(z.more) * std::exp(-20.0);
      for (const bool add : {false, true}) {
        for (int64_t l = 0; l < k; ++l) {
          double product = 0.0, cosine = 0.0;
          for (int64_t q = 0; q < h; ++q) {
            product += qkv[j * 3 * h + q] * qkv[(l * 3 + 1) * h + q];
          }
          for (int64_t d = 0; d < 3; ++d) cosine += u[3 * j + d] * u[3 * l + d];
          const double w = std::exp((product * a.scale + 20.0) * s[j] * s[l] - 20.0);
          if (!add) total += w;
          for (int64_t q = 0; add && q < h; ++q) {
            attended[q] += w / total * s[j] * s[l] * cosine * qkv[(l * 3 + 2) * h + q];
          }
        }
      }
      double mean = 0.0, square = 0.0;
      for (int64_t p = 0; p < e; ++p) {
        out[p] = in[j * e + p] + a.b_out[p];
        for (int64_t q = 0; q < h; ++q) out[p] += attended[q] * a.w_out[q * e + p];
        mean += out[p] / static_cast<double>(e);
      }
      for (double v : out) square += (v - mean) * (v - mean) / static_cast<double>(e);
      for (int64_t p = 0; p < e; ++p) {
        y[j * e + p] = a.beta[p] + a.gamma[p] * (out[p] - mean) / std::sqrt(square + a.eps);
      }
    }
  }
};

/** The attention of pairs of DPA-2, with z.h heads; logits are gated where k is even. */
struct Pairs {
  using Layer = deepmd_pair_attention_layer_f64;
  static constexpr auto count = deepmd_pair_attention_count_f64;
  static constexpr auto value = deepmd_pair_attention_value_f64;
  static constexpr auto vjp = deepmd_pair_attention_vjp_f64;
  static constexpr auto jvp = deepmd_pair_attention_jvp_f64;
  static constexpr auto vjp_of_vjp = deepmd_pair_attention_vjp_of_vjp_f64;

  /** Numbers of all weights: w, b. */
  static int64_t size(const Sizes& z) { return 2 * z.h * z.e * z.e + z.e; }

  static Layer layer(const Sizes& z, const double* w) {
    return {z.e, z.h, 0.7, z.k % 2 == 0, w, w + 2 * z.h * z.e * z.e};
  }

  /** Features of the slots of one center, empty ones evaluated like others. */
  static void center(const Layer& a, const Sizes& z, const double* in, const double* s,
                     const double* u, double* y) {
    const int64_t k = z.k, e = z.e, both = 2 * z.h * z.e;
    const auto projected = [&](int64_t j, int64_t column) {
      double sum = 0.0;
      for (int64_t p = 0; p < e; ++p) sum += in[j * e + p] * a.w[p * both + column];
      return sum;
    };
    for (int64_t q = 0; q < k * e; ++q) y[q] = a.b[q % e];
    for (int64_t j = 0; j < k * z.h; ++j) {
      const int64_t row = j / z.h, head = j % z.h;
      Numbers weight(k), gate(k);
      double total = static_cast<double>(z.more) * std::exp(-20.0);
      for (int64_t l = 0; l < k; ++l) {
        double logit = 0.0, cosine = 0.0;
        for (int64_t q = 0; q < e; ++q) logit += projected(row, head * e + q) * in[l * e + q];
        for (int64_t d = 0; d < 3; ++d) cosine += u[3 * row + d] * u[3 * l + d];
        const double pair = s[row] * s[l];
        weight[l] = std::exp((logit * (a.gated ? cosine : 1.0) * a.scale + 20.0) * pair - 20.0);
        gate[l] = pair * cosine / std::sqrt(3.0);
        total += weight[l];
      }
      for (int64_t l = 0; l < k; ++l) {
        for (int64_t q = 0; q < e; ++q) {
          y[row * e + q] += weight[l] / total * gate[l] * projected(l, (z.h + head) * e + q);
        }
      }
    }
  }
};

/** A layer, slots, and what the library says of them. */
template <class Kind>
struct Case {
  Sizes z;
  Numbers weights, x, sw, unit, mask;
  int32_t threads = 1;
  std::vector<int64_t> filled, first;
  Numbers state;

  explicit Case(const Sizes& sizes) : z(sizes), filled(z.n), first(z.n + 1) {
    weights = random_numbers(Kind::size(z), 1);
    x = random_numbers(z.n * z.k * z.e, 2);
    sw = random_numbers(z.n * z.k, 3);
    unit = random_numbers(z.n * z.k * 3, 4);
    mask.assign(z.n * z.k, 1.0);
    for (int64_t i = 0; i < z.n; ++i) {
      for (int64_t j = std::min(z.k, i); j < z.k; ++j) {
        mask[i * z.k + j] = sw[i * z.k + j] = 0.0;
        for (int64_t d = 0; d < 3; ++d) unit[(i * z.k + j) * 3 + d] = 0.0;
      }
    }
  }

  typename Kind::Layer layer() const { return Kind::layer(z, weights.data()); }

  deepmd_slots_f64 slots() {
    return {z.n,         z.k,           z.more,       x.data(),     sw.data(),
            unit.data(), filled.data(), first.data(), state.data(), threads};
  }

  Numbers value() {
    const auto a = layer();
    Kind::count(&a, z.n, z.k, mask.data(), filled.data(), first.data());
    state.assign(first[z.n], 0.0);
    const deepmd_slots_f64 s = slots();
    Numbers y(x.size());
    EXPECT_EQ(Kind::value(&a, &s, y.data()), 0);
    return y;
  }

  /** Adjoints of x, sw and unit, one after the other. */
  Numbers vjp(const Numbers& y_bar) {
    const auto a = layer();
    const deepmd_slots_f64 s = slots();
    Numbers all(x.size() + sw.size() + unit.size());
    double* to = all.data();
    EXPECT_EQ(Kind::vjp(&a, &s, y_bar.data(), to, to + x.size(), to + x.size() + sw.size()), 0);
    return all;
  }

  Numbers jvp(const Numbers& tangents) {
    const auto a = layer();
    const deepmd_slots_f64 s = slots();
    const double* from = tangents.data();
    Numbers y_dot(x.size());
    EXPECT_EQ(Kind::jvp(&a, &s, from, from + x.size(), from + x.size() + sw.size(), y_dot.data()),
              0);
    return y_dot;
  }

  void move(double step, const Numbers& along) {
    for (size_t q = 0; q < x.size(); ++q) x[q] += step * along[q];
    for (size_t q = 0; q < sw.size(); ++q) sw[q] += step * along[x.size() + q];
    for (size_t q = 0; q < unit.size(); ++q) unit[q] += step * along[x.size() + sw.size() + q];
  }

  /** A direction of x, sw and unit, in which empty slots keep their switches and directions. */
  Numbers direction(unsigned seed) const {
    Numbers along = random_numbers(x.size() + sw.size() + unit.size(), seed);
    for (size_t q = 0; q < sw.size(); ++q) {
      along[x.size() + q] *= mask[q];
      for (int d = 0; d < 3; ++d) along[x.size() + sw.size() + 3 * q + d] *= mask[q];
    }
    return along;
  }

  /** Features of all slots by the definition, empty ones evaluated like others. */
  Numbers expected() const {
    const auto a = layer();
    Numbers y(x.size());
    for (int64_t i = 0; i < z.n; ++i) {
      const int64_t at = i * z.k;
      Kind::center(a, z, x.data() + at * z.e, sw.data() + at, unit.data() + at * 3,
                   y.data() + at * z.e);
    }
    return y;
  }
};

class TrainingAttention : public testing::TestWithParam<Sizes> {};

template <class Kind>
void check(const Sizes& sizes) {
  Case<Kind> c(sizes);
  const Numbers y_bar = random_numbers(c.x.size(), 5), again = random_numbers(c.x.size(), 6);
  const Numbers dots = c.direction(7), along_w = random_numbers(c.weights.size(), 8);
  const Numbers along_x = random_numbers(c.x.size(), 9), want = c.expected();
  std::vector<Numbers> found[2];
  for (const int turn : {0, 1}) {
    c.threads = turn == 0 ? 1 : 3;
    Numbers x_bar(c.x.size()), grads(c.weights.size());
    const Numbers y = c.value(), bars = c.vjp(y_bar), y_dot = c.jvp(dots);
    const auto a = c.layer();
    const deepmd_slots_f64 s = c.slots();
    ASSERT_EQ(Kind::vjp_of_vjp(&a, &s, again.data(), y_bar.data(), dots.data(), x_bar.data(),
                               grads.data()),
              0);
    found[turn] = {y, bars, y_dot, x_bar, grads};
  }
  EXPECT_EQ(found[0], found[1]);
  const Numbers &y = found[0][0], &bars = found[0][1], &y_dot = found[0][2];
  for (size_t q = 0; q < y.size(); ++q) ASSERT_NEAR(y[q], want[q], 1e-11) << q;
  const double step = 1e-5;
  const auto near = [](double got, double expected) {
    EXPECT_NEAR(got, expected, 2e-6 * (1.0 + std::abs(expected)));
  };
  const auto slope = [&](const auto& of) { return (of(step) - of(-step)) / (2.0 * step); };
  near(dot(bars, dots), slope([&](double t) {
         Case<Kind> other = c;
         other.move(t, dots);
         return dot(other.value(), y_bar);
       }));
  EXPECT_NEAR(dot(bars, dots), dot(y_dot, y_bar), 1e-10 * (1.0 + std::abs(dot(bars, dots))));
  const auto objective = [&](Case<Kind> other) {
    const double energy = dot(other.value(), again);
    return energy + dot(other.vjp(y_bar), dots);
  };
  near(dot(found[0][3], along_x), slope([&](double t) {
         Case<Kind> other = c;
         other.x = moved(c.x, t, along_x);
         return objective(other);
       }));
  near(dot(found[0][4], along_w), slope([&](double t) {
         Case<Kind> other = c;
         other.weights = moved(c.weights, t, along_w);
         return objective(other);
       }));
}

TEST_P(TrainingAttention, ValueAndDerivatives) { check<Gated>(GetParam()); }

TEST_P(TrainingAttention, OfPairs) { check<Pairs>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Odd, TrainingAttention,
                         testing::Values(Sizes{1, 1, 3, 2, 0}, Sizes{2, 1, 2, 1, 3},
                                         Sizes{6, 4, 5, 7, 2}, Sizes{36, 3, 4, 4, 1},
                                         Sizes{20, 19, 9, 6, 0}, Sizes{0, 3, 4, 4, 1}));

}  // namespace
