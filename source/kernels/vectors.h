// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Vectors of the instruction set that this file is compiled for, by the extensions of GCC and
 * Clang.
 *
 * Everything here is static: the same names exist for other instruction sets in other objects.
 * Headers of the standard library with functions of their own stay out for the same reason.
 */
#pragma once

#include <stdint.h>
#include <string.h>

// Other values can be given, to try the layouts of other processors.
#if defined(DEEPMD_VECTOR_BYTES)
#elif defined(__AVX512F__)
#define DEEPMD_VECTOR_BYTES 64
#define DEEPMD_TILE_ROWS 12
#elif defined(__AVX2__)
#define DEEPMD_VECTOR_BYTES 32
#define DEEPMD_TILE_ROWS 6
#else
#define DEEPMD_VECTOR_BYTES 16
#define DEEPMD_TILE_ROWS 6
#endif

namespace {

template <class T>
struct Vectors;
template <>
struct Vectors<double> {
  typedef double type __attribute__((vector_size(DEEPMD_VECTOR_BYTES)));
  typedef int64_t ints __attribute__((vector_size(DEEPMD_VECTOR_BYTES)));
};
template <>
struct Vectors<float> {
  typedef float type __attribute__((vector_size(DEEPMD_VECTOR_BYTES)));
  typedef int32_t ints __attribute__((vector_size(DEEPMD_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Vectors<T>::type;
template <class T>
using Ints = typename Vectors<T>::ints;

/** Numbers in a vector. */
template <class T>
constexpr int64_t kLanes = DEEPMD_VECTOR_BYTES / sizeof(T);

template <class T>
inline Vec<T> load(const T* from) {
  Vec<T> v;
  memcpy(&v, from, sizeof(v));
  return v;
}

template <class T>
inline void store(T* to, Vec<T> v) {
  memcpy(to, &v, sizeof(v));
}

template <class T>
inline Vec<T> splat(T x) {
  return Vec<T>{} + x;
}

/** The first n numbers; the others are zero. */
template <class T>
inline Vec<T> load_some(const T* from, int64_t n) {
  T all[kLanes<T>] = {};
  for (int64_t k = 0; k < n; ++k) all[k] = from[k];
  return load<T>(all);
}

template <class T>
inline void store_some(T* to, Vec<T> v, int64_t n) {
  T all[kLanes<T>];
  store<T>(all, v);
  for (int64_t k = 0; k < n; ++k) to[k] = all[k];
}

template <class T>
inline T sum(Vec<T> v) {
  T all[kLanes<T>];
  store<T>(all, v);
  T total = 0;
  for (int64_t k = 0; k < kLanes<T>; ++k) total += all[k];
  return total;
}

/** The sums of four vectors. */
template <class T>
inline void sum_four(const Vec<T>* v, T* to) {
  if constexpr (kLanes<T> == 4) {
    const Vec<T> a = __builtin_shuffle(v[0], v[1], Ints<T>{0, 4, 2, 6}) +
                     __builtin_shuffle(v[0], v[1], Ints<T>{1, 5, 3, 7});
    const Vec<T> b = __builtin_shuffle(v[2], v[3], Ints<T>{0, 4, 2, 6}) +
                     __builtin_shuffle(v[2], v[3], Ints<T>{1, 5, 3, 7});
    store<T>(to, __builtin_shuffle(a, b, Ints<T>{0, 1, 4, 5}) +
                     __builtin_shuffle(a, b, Ints<T>{2, 3, 6, 7}));
  } else {
    for (int k = 0; k < 4; ++k) to[k] = sum<T>(v[k]);
  }
}

template <class T>
inline T smaller(T a, T b) {
  return b < a ? b : a;
}

/** Constants of the exponential function. */
template <class T>
struct Exponential;
template <>
struct Exponential<double> {
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds
  static constexpr double log2_high = 6.93147180369123816490e-01;
  static constexpr double log2_low = 1.90821492927058770002e-10;
  static constexpr double saturation = 20.0;  // tanh is 1 beyond
  static constexpr int shift = 52;
  static constexpr int64_t bias = 1023;
};
template <>
struct Exponential<float> {
  static constexpr float magic = 12582912.0F;
  static constexpr float log2_high = 0.693359375F;
  static constexpr float log2_low = -2.12194440e-4F;
  static constexpr float saturation = 10.0F;
  static constexpr int shift = 23;
  static constexpr int32_t bias = 127;
};

/** exp(r) - 1 for |r| <= log(2) / 2, by its series. */
inline Vec<double> small_expm1(Vec<double> r) {
  Vec<double> p = splat(1.0 / 6227020800.0);
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  return p * r * r + r;
}

inline Vec<float> small_expm1(Vec<float> r) {
  Vec<float> p = splat(1.0F / 5040.0F);
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  return p * r * r + r;
}

/** r coth(r / 2) for |r| <= log(2) / 2, by its series, from the square of r. */
inline Vec<double> coth_series(Vec<double> r2) {
  Vec<double> p = splat(-691.0 / 653837184000.0);
  p = p * r2 + 1.0 / 23950080.0;
  p = p * r2 - 1.0 / 604800.0;
  p = p * r2 + 1.0 / 15120.0;
  p = p * r2 - 1.0 / 360.0;
  p = p * r2 + 1.0 / 6.0;
  return p * r2 + 2.0;
}

inline Vec<float> coth_series(Vec<float> r2) {
  Vec<float> p = splat(1.0F / 15120.0F);
  p = p * r2 - 1.0F / 360.0F;
  p = p * r2 + 1.0F / 6.0F;
  return p * r2 + 2.0F;
}

/**
 * Hyperbolic tangent, to two units in the last place; not a number stays so.
 *
 * exp(2 x) = 2^n exp(r), and exp(r) = (c + r) / (c - r) with c = r coth(r / 2): one division, and
 * for small x, where n is 0, nothing cancels.
 */
template <class T>
inline Vec<T> tanh_of(Vec<T> x) {
  using E = Exponential<T>;
  Vec<T> a = x < T(0) ? -x : x;
  a = a > E::saturation ? splat(E::saturation) : a;
  const Vec<T> y = a + a;
  const Vec<T> shifted = y * T(1.4426950408889634074) + E::magic;
  const Vec<T> n = shifted - E::magic;
  const Vec<T> r = (y - n * E::log2_high) - n * E::log2_low;
  Ints<T> bits;
  memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + E::bias) << E::shift;  // what the magic number adds is shifted out
  Vec<T> power;
  memcpy(&power, &bits, sizeof(power));
  const Vec<T> c = coth_series(r * r), less = power - T(1), more = power + T(1);
  const Vec<T> t = (less * c + more * r) / (more * c + less * r);
  return x < T(0) ? -t : t;
}

}  // namespace
