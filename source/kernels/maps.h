// SPDX-License-Identifier: LGPL-3.0-or-later
/** Functions of the elements of arrays that lie one after the other. */
#pragma once

#include <math.h>

#include "kernels.h"
#include "vectors.h"

namespace {

/** Exponential, to two units in the last place; numbers far from zero one by one. */
template <class T>
inline Vec<T> exp_of(Vec<T> x) {
  using E = Exponential<T>;
  constexpr T most = sizeof(T) == 8 ? T(700) : T(80);
  T all[kLanes<T>];
  store<T>(all, x);
  bool ordinary = true;
  for (int64_t k = 0; k < kLanes<T>; ++k) ordinary &= all[k] < most && all[k] > -most;
  if (!ordinary) {
    for (T& v : all) v = static_cast<T>(exp(static_cast<double>(v)));
    return load<T>(all);
  }
  const Vec<T> shifted = x * T(1.4426950408889634074) + E::magic;
  const Vec<T> n = shifted - E::magic;
  const Vec<T> r = (x - n * E::log2_high) - n * E::log2_low;
  Ints<T> bits;
  memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + E::bias) << E::shift;
  Vec<T> power;
  memcpy(&power, &bits, sizeof(power));
  return power * small_expm1(r) + power;
}

template <class T>
inline T one_by_one(int32_t op, T x, T y) {
  const double a = x, b = y;
  switch (op) {
    case DEEPMD_MAP_SQRT:
      return static_cast<T>(sqrt(a));
    case DEEPMD_MAP_LOG:
      return static_cast<T>(log(a));
    case DEEPMD_MAP_LOG1P:
      return static_cast<T>(log1p(a));
    case DEEPMD_MAP_EXPM1:
      return static_cast<T>(expm1(a));
    case DEEPMD_MAP_SIN:
      return static_cast<T>(sin(a));
    case DEEPMD_MAP_COS:
      return static_cast<T>(cos(a));
    case DEEPMD_MAP_ERF:
      return static_cast<T>(erf(a));
    case DEEPMD_MAP_FLOOR:
      return static_cast<T>(floor(a));
    case DEEPMD_MAP_SIGMOID:
      return static_cast<T>(1.0 / (1.0 + exp(-a)));
    default:
      return static_cast<T>(pow(a, b));
  }
}

template <class T, class F>
inline void map_vectors(int64_t n, const T* x, const T* y, T* z, F f) {
  int64_t q = 0;
  for (; q + kLanes<T> <= n; q += kLanes<T>) {
    store<T>(z + q, f(load<T>(x + q), y ? load<T>(y + q) : Vec<T>{}));
  }
  if (q < n) {
    const Vec<T> b = y ? load_some<T>(y + q, n - q) : Vec<T>{};
    store_some<T>(z + q, f(load_some<T>(x + q, n - q), b), n - q);
  }
}

template <class T>
void map(int32_t op, int64_t n, const T* x, const T* y, T* z) {
  using V = Vec<T>;
  const auto run = [&](auto f) { map_vectors<T>(n, x, y, z, f); };
  switch (op) {
    case DEEPMD_MAP_ADD:
      return run([](V a, V b) { return a + b; });
    case DEEPMD_MAP_SUB:
      return run([](V a, V b) { return a - b; });
    case DEEPMD_MAP_MUL:
      return run([](V a, V b) { return a * b; });
    case DEEPMD_MAP_DIV:
      return run([](V a, V b) { return a / b; });
    // What is not a number stays so.
    case DEEPMD_MAP_MAXIMUM:
      return run([](V a, V b) { return a != a ? a : a > b ? a : b; });
    case DEEPMD_MAP_MINIMUM:
      return run([](V a, V b) { return a != a ? a : a < b ? a : b; });
    case DEEPMD_MAP_NEG:
      return run([](V a, V) { return -a; });
    case DEEPMD_MAP_ABS:
      return run([](V a, V) { return a < T(0) ? -a : a; });
    case DEEPMD_MAP_SIGN:
      return run([](V a, V) {
        const V zero = {};
        return a > T(0) ? zero + T(1) : a < T(0) ? zero - T(1) : a != a ? a : zero;
      });
    case DEEPMD_MAP_EXP:
      return run([](V a, V) { return exp_of<T>(a); });
    case DEEPMD_MAP_TANH:
      return run([](V a, V) { return tanh_of<T>(a); });
    default:
      for (int64_t q = 0; q < n; ++q) z[q] = one_by_one<T>(op, x[q], y ? y[q] : T(0));
  }
}

template <class T>
void compare(int32_t op, int64_t n, const T* x, const T* y, uint8_t* z) {
  const auto run = [&](auto f) {
    for (int64_t q = 0; q < n; ++q) z[q] = f(x[q], y[q]);
  };
  switch (op) {
    case DEEPMD_COMPARE_LT:
      return run([](T a, T b) { return a < b; });
    case DEEPMD_COMPARE_LE:
      return run([](T a, T b) { return a <= b; });
    case DEEPMD_COMPARE_GT:
      return run([](T a, T b) { return a > b; });
    case DEEPMD_COMPARE_GE:
      return run([](T a, T b) { return a >= b; });
    case DEEPMD_COMPARE_EQ:
      return run([](T a, T b) { return a == b; });
    default:
      return run([](T a, T b) { return a != b; });
  }
}

template <class T>
void choose(int64_t n, const uint8_t* condition, const T* x, const T* y, T* z) {
  for (int64_t q = 0; q < n; ++q) z[q] = condition[q] ? x[q] : y[q];
}

template <class T>
void accumulate(int64_t n, const T* x, T* y) {
  for (int64_t q = 0; q < n; ++q) y[q] += x[q];
}

template <class T>
T total(int64_t n, const T* x) {
  Vec<T> s[4] = {};
  int64_t q = 0;
  for (; q + 4 * kLanes<T> <= n; q += 4 * kLanes<T>) {
    for (int k = 0; k < 4; ++k) s[k] += load<T>(x + q + k * kLanes<T>);
  }
  T rest = 0;
  for (; q < n; ++q) rest += x[q];
  return sum<T>((s[0] + s[1]) + (s[2] + s[3])) + rest;
}

}  // namespace
