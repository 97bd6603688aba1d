// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Sums over neighbors of G(s) outer r, G polynomials on pieces of the range of s.
 *
 * Pieces are long, so several neighbors of an atom share one. Their powers of the place, times r,
 * are summed first; then one small product with the coefficients serves all of them:
 * sum_e r_e G(s_e) = sum_k a_k (sum_e t_e^k r_e). Derivatives go the other way.
 */
#pragma once

#include "gemm.h"
#include "kernels.h"
#include "vectors.h"

namespace {

/** Pieces whose sums are held at the same time. */
constexpr int kHeld = 16;

template <class T>
struct Quads {
  typedef T type __attribute__((vector_size(4 * sizeof(T))));
};
/** The four numbers of a row of the environment matrix. */
template <class T>
using Quad = typename Quads<T>::type;

template <class T, class Pieces>
int32_t pieces_places(const Pieces* pieces, int64_t n, const T* s, int64_t stride, int32_t* piece,
                      T* place) {
  const Pieces& p = *pieces;
  const double cells = static_cast<double>(p.cells);
  // What rounding puts before the start or beyond the end is inside.
  constexpr double slack = 1e-3;
  bool inside = true;
  for (int64_t k = 0; k < n; ++k) {
    const double x = s[k * stride], cell = (x - p.lower) * p.inverse;
    const bool here = cell >= -slack && cell <= cells + slack;  // false for what is not a number
    inside &= here;
    if (!here) {
      piece[k] = -1;
      continue;
    }
    const double found = cell < 0.0 ? 0.0 : cell < cells ? cell : cells - 1.0;
    piece[k] = p.piece[static_cast<int64_t>(found)];
    place[k] = static_cast<T>((x - p.middle[piece[k]]) * p.scale[piece[k]]);
  }
  return inside;
}

/** Pieces that are held, by their numbers. */
struct Held {
  int32_t piece[kHeld];
  int count = 0;

  /** Where a piece is held, or -1. */
  int find(int32_t one) const {
    for (int k = 0; k < count; ++k) {
      if (piece[k] == one) return k;
    }
    return -1;
  }
};

/** sums (4, lds) += the moments (terms, 4) of all pieces held, times their coefficients. */
template <class T, class Pieces>
inline void add_moments(const Pieces& p, const Held& held, const T* moments, T* sums, int64_t lds) {
  constexpr int64_t w = kLanes<T>;
  const int64_t size = packed_size<T>(p.terms, p.width);
  for (int64_t column = 0; column < p.width; column += kPanel<T>) {
    Vec<T> s[DEEPMD_ROW][2];
#pragma GCC unroll 4
    for (int c = 0; c < DEEPMD_ROW; ++c) {
      s[c][0] = load<T>(sums + c * lds + column);
      s[c][1] = load<T>(sums + c * lds + column + w);
    }
    for (int k = 0; k < held.count; ++k) {
      const T* a = p.data + held.piece[k] * size + column * p.terms;
      const T* m = moments + k * DEEPMD_ROW * DEEPMD_PIECE_TERMS;
      for (int64_t q = 0; q < p.terms; ++q, a += 2 * w, m += DEEPMD_ROW) {
        const Vec<T> a0 = load<T>(a), a1 = load<T>(a + w);
#pragma GCC unroll 4
        for (int c = 0; c < DEEPMD_ROW; ++c) {
          s[c][0] += m[c] * a0;
          s[c][1] += m[c] * a1;
        }
      }
    }
#pragma GCC unroll 4
    for (int c = 0; c < DEEPMD_ROW; ++c) {
      store<T>(sums + c * lds + column, s[c][0]);
      store<T>(sums + c * lds + column + w, s[c][1]);
    }
  }
}

template <class T, class Pieces>
void pieces_contract(const Pieces* pieces, int64_t n, const int32_t* piece, const T* place,
                     const T* r, T* sums, int64_t lds) {
  const Pieces& p = *pieces;
  alignas(64) T moments[kHeld * DEEPMD_ROW * DEEPMD_PIECE_TERMS];
  Held held;
  for (int64_t e = 0; e < n; ++e) {
    int at = held.find(piece[e]);
    if (at < 0 && held.count == kHeld) {
      add_moments<T>(p, held, moments, sums, lds);
      held.count = 0;
    }
    if (at < 0) {
      at = held.count++;
      held.piece[at] = piece[e];
      memset(moments + at * DEEPMD_ROW * DEEPMD_PIECE_TERMS, 0,
             DEEPMD_ROW * DEEPMD_PIECE_TERMS * sizeof(T));
    }
    // Even and odd powers: two chains of products.
    const T t = place[e], squared = t * t;
    Quad<T> even, odd, sum;
    memcpy(&even, r + DEEPMD_ROW * e, sizeof(even));
    odd = even * t;
    T* m = moments + at * DEEPMD_ROW * DEEPMD_PIECE_TERMS;
    for (int64_t k = 0; k < p.terms; k += 2, m += 2 * DEEPMD_ROW) {
      memcpy(&sum, m, sizeof(sum));
      sum += even;
      memcpy(m, &sum, sizeof(sum));
      memcpy(&sum, m + DEEPMD_ROW, sizeof(sum));
      sum += odd;
      memcpy(m + DEEPMD_ROW, &sum, sizeof(sum));
      even *= squared;
      odd *= squared;
    }
  }
  add_moments<T>(p, held, moments, sums, lds);
}

/** Products (terms, 4) of the coefficients of a piece with sums_bar (4, lds). */
template <class T, class Pieces>
inline void project(const Pieces& p, int64_t piece, const T* sums_bar, int64_t lds, T* to) {
  constexpr int64_t w = kLanes<T>;
  const T* data = p.data + piece * packed_size<T>(p.terms, p.width);
  for (int64_t k = 0; k < p.terms; k += 2) {
    Vec<T> s[2][DEEPMD_ROW] = {};
    for (int64_t column = 0; column < p.width; column += kPanel<T>) {
      const T* a = data + column * p.terms + k * kPanel<T>;
#pragma GCC unroll 2
      for (int64_t half = 0; half < 2 * w; half += w) {
        const Vec<T> a0 = load<T>(a + half), a1 = load<T>(a + kPanel<T> + half);
#pragma GCC unroll 4
        for (int c = 0; c < DEEPMD_ROW; ++c) {
          const Vec<T> bar = load<T>(sums_bar + c * lds + column + half);
          s[0][c] += a0 * bar;
          s[1][c] += a1 * bar;
        }
      }
    }
    sum_four<T>(s[0], to + DEEPMD_ROW * k);
    sum_four<T>(s[1], to + DEEPMD_ROW * (k + 1));
  }
}

template <class T, class Pieces>
void pieces_contract_backward(const Pieces* pieces, int64_t n, const int32_t* piece, const T* place,
                              const T* r, const T* sums_bar, int64_t lds, T* r_bar, T* s_bar) {
  const Pieces& p = *pieces;
  alignas(64) T products[kHeld * DEEPMD_ROW * DEEPMD_PIECE_TERMS];
  Held held;
  int next = 0;
  for (int64_t e = 0; e < n; ++e) {
    int at = held.find(piece[e]);
    if (at < 0) {
      at = next;
      next = (next + 1) % kHeld;
      held.count = held.count < kHeld ? held.count + 1 : kHeld;
      held.piece[at] = piece[e];
      project<T>(p, piece[e], sums_bar, lds, products + at * DEEPMD_ROW * DEEPMD_PIECE_TERMS);
    }
    const T t = place[e];
    const T* b = products + (at * DEEPMD_PIECE_TERMS + p.terms - 1) * DEEPMD_ROW;
    Quad<T> value, slope = {}, x;
    memcpy(&value, b, sizeof(value));
    for (int64_t k = 1; k < p.terms; ++k) {
      b -= DEEPMD_ROW;
      memcpy(&x, b, sizeof(x));
      slope = slope * t + value;
      value = value * t + x;
    }
    memcpy(&x, r + DEEPMD_ROW * e, sizeof(x));
    slope *= x;
    const T along = ((slope[0] + slope[1]) + (slope[2] + slope[3])) * p.scale[piece[e]];
    T* to = r_bar + DEEPMD_ROW * e;
    memcpy(to, &value, sizeof(value));
    if (s_bar) {
      s_bar[e] = along;
    } else {
      to[0] += along;
    }
  }
}

}  // namespace
