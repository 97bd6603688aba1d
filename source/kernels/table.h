// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Sums over neighbors of G(s) and of G(s) outer r, G a table of quintic polynomials.
 *
 * A packed table holds, per interval and block of as many functions as a vector has numbers, the
 * six coefficients of all functions of the block: what one edge and block need lies together.
 */
#pragma once

#include <math.h>

#include "kernels.h"
#include "vectors.h"

namespace {

constexpr int64_t kCoefficients = 6;

template <class T>
inline int64_t table_blocks(int64_t width) {
  return (width + kLanes<T> - 1) / kLanes<T>;
}

template <class T>
int64_t table_size(int64_t rows, int64_t width) {
  return rows * table_blocks<T>(width) * kCoefficients * kLanes<T>;
}

template <class T>
void table_pack(int64_t rows, int64_t width, const T* data, T* packed) {
  for (int64_t row = 0; row < rows; ++row, data += width * kCoefficients) {
    for (int64_t block = 0; block < table_blocks<T>(width); ++block) {
      for (int64_t k = 0; k < kCoefficients; ++k) {
        for (int64_t q = 0; q < kLanes<T>; ++q) {
          const int64_t m = block * kLanes<T> + q;
          *packed++ = m < width ? data[m * kCoefficients + k] : T(0);
        }
      }
    }
  }
}

template <class T, class Table>
void table_places(const Table* table, int64_t n, const T* s, int64_t stride, int32_t* row, T* place,
                  T* beyond) {
  const Table& t = *table;
  const double n_fine = floor((t.upper - t.lower) / t.fine + 1e-6);
  const double n_below = t.symmetric ? floor((t.end - t.upper) / t.coarse + 1e-6) : 0.0;
  const double start = t.lower - n_below * t.coarse;
  const double least = t.symmetric ? t.lower - (t.end - t.upper) : t.lower;
  const double last = static_cast<double>(t.rows - 1);
  for (int64_t k = 0; k < n; ++k) {
    const double x = s[k * stride];
    const double inside = x < least ? least : x > t.end ? t.end : x;
    double here, begin;
    if (inside >= t.upper) {
      const double c = floor((inside - t.upper) / t.coarse);
      here = n_below + n_fine + c;
      begin = t.upper + c * t.coarse;
    } else if (t.symmetric && inside < t.lower) {
      here = floor((inside - start) / t.coarse);
      begin = start + here * t.coarse;
    } else {
      double b = floor((inside - t.lower) / t.fine);
      b = b > n_fine - 1.0 ? n_fine - 1.0 : b;
      here = n_below + b;
      begin = t.lower + b * t.fine;
    }
    // Not a number, and what rounding puts one interval beyond the end.
    const double found = here > last ? last : here > 0.0 ? here : 0.0;
    begin -= here > found ? (here - found) * t.coarse : 0.0;
    row[k] = static_cast<int32_t>(found);
    place[k] = static_cast<T>(inside - begin);
    beyond[k] = static_cast<T>(x - inside);
  }
}

/** Functions of one block at a place: a points to their coefficients. */
template <class T>
inline Vec<T> value_at(const T* a, T t) {
  constexpr int64_t w = kLanes<T>;
  Vec<T> v = load<T>(a + 5 * w);
  v = v * t + load<T>(a + 4 * w);
  v = v * t + load<T>(a + 3 * w);
  v = v * t + load<T>(a + 2 * w);
  v = v * t + load<T>(a + w);
  return v * t + load<T>(a);
}

/** Their slopes. */
template <class T>
inline Vec<T> slope_at(const T* a, T t) {
  constexpr int64_t w = kLanes<T>;
  Vec<T> v = T(5) * load<T>(a + 5 * w);
  v = v * t + T(4) * load<T>(a + 4 * w);
  v = v * t + T(3) * load<T>(a + 3 * w);
  v = v * t + T(2) * load<T>(a + 2 * w);
  return v * t + load<T>(a + w);
}

/** Values, continued by straight lines beyond the table. */
template <class T>
inline Vec<T> continued_at(const T* a, T t, T beyond) {
  Vec<T> v = value_at<T>(a, t);
  if (beyond != T(0)) v += slope_at<T>(a, t) * beyond;
  return v;
}

/** Both from the same coefficients. */
template <class T>
struct Jet {
  Vec<T> value, slope;
};

template <class T>
inline Jet<T> jet_at(const T* a, T t, T beyond) {
  constexpr int64_t w = kLanes<T>;
  Vec<T> v = load<T>(a + 5 * w), d = v;
  for (int64_t k = 4; k >= 1; --k) {
    v = v * t + load<T>(a + k * w);
    d = d * t + v;
  }
  v = v * t + load<T>(a);
  if (beyond != T(0)) v += d * beyond;
  return {v, d};
}

template <class T, int B, class Values>
inline void contract_blocks(int64_t n, const T* r, T* sums, int64_t lds, const Values& values) {
  constexpr int64_t w = kLanes<T>;
  Vec<T> s[DEEPMD_ROW][B];
  for (int c = 0; c < DEEPMD_ROW; ++c) {
    for (int b = 0; b < B; ++b) s[c][b] = load<T>(sums + c * lds + b * w);
  }
  for (int64_t e = 0; e < n; ++e) {
    for (int b = 0; b < B; ++b) {
      const Vec<T> g = values(e, b);
      for (int c = 0; c < DEEPMD_ROW; ++c) s[c][b] += r[DEEPMD_ROW * e + c] * g;
    }
  }
  for (int c = 0; c < DEEPMD_ROW; ++c) {
    for (int b = 0; b < B; ++b) store<T>(sums + c * lds + b * w, s[c][b]);
  }
}

/** sums (4, lds) += sum over edges of G outer r; values(block) is a function of edge and block. */
template <class T, class Values>
inline void contract(int64_t n, int64_t width, const T* r, T* sums, int64_t lds,
                     const Values& values) {
  const int64_t blocks = table_blocks<T>(width);
  int64_t first = 0;
  for (; first + 2 <= blocks; first += 2) {
    contract_blocks<T, 2>(n, r, sums + first * kLanes<T>, lds,
                          [&](int64_t e, int b) { return values(e, first + b); });
  }
  if (first < blocks) {
    contract_blocks<T, 1>(n, r, sums + first * kLanes<T>, lds,
                          [&](int64_t e, int b) { return values(e, first + b); });
  }
}

/** r_bar (n, 4) from sums_bar (4, lds); jets(edge, block) are values and slopes. */
template <class T, class Jets>
inline void contract_backward(int64_t n, int64_t width, const T* r, const T* sums_bar, int64_t lds,
                              T* r_bar, T* s_bar, const Jets& jets) {
  constexpr int64_t w = kLanes<T>;
  const int64_t blocks = table_blocks<T>(width);
  for (int64_t e = 0; e < n; ++e) {
    const T r0 = r[DEEPMD_ROW * e], r1 = r[DEEPMD_ROW * e + 1], r2 = r[DEEPMD_ROW * e + 2],
            r3 = r[DEEPMD_ROW * e + 3];
    Vec<T> s[DEEPMD_ROW] = {}, slope = {};
    for (int64_t b = 0; b < blocks; ++b) {
      const Jet<T> g = jets(e, b);
      const T* bar = sums_bar + b * w;
      const Vec<T> t0 = load<T>(bar), t1 = load<T>(bar + lds), t2 = load<T>(bar + 2 * lds),
                   t3 = load<T>(bar + 3 * lds);
      s[0] += g.value * t0;
      s[1] += g.value * t1;
      s[2] += g.value * t2;
      s[3] += g.value * t3;
      slope += g.slope * (r0 * t0 + r1 * t1 + r2 * t2 + r3 * t3);
    }
    if (s_bar) {
      s_bar[e] = sum<T>(slope);
    } else {
      s[0] += slope;
    }
    for (int c = 0; c < DEEPMD_ROW; ++c) r_bar[DEEPMD_ROW * e + c] = sum<T>(s[c]);
  }
}

template <class T, class Values>
inline void add_up(int64_t n, int64_t width, T* sums, const Values& values) {
  for (int64_t b = 0; b < table_blocks<T>(width); ++b) {
    Vec<T> s = load<T>(sums + b * kLanes<T>);
    for (int64_t e = 0; e < n; ++e) s += values(e, b);
    store<T>(sums + b * kLanes<T>, s);
  }
}

template <class T, class Slopes>
inline void add_up_backward(int64_t n, int64_t width, const T* sums_bar, T* s_bar, int64_t stride,
                            const Slopes& slopes) {
  for (int64_t e = 0; e < n; ++e) {
    Vec<T> s = {};
    for (int64_t b = 0; b < table_blocks<T>(width); ++b) {
      s += slopes(e, b) * load<T>(sums_bar + b * kLanes<T>);
    }
    s_bar[e * stride] = sum<T>(s);
  }
}

/** Coefficients of a block of an edge. */
template <class T, class Table>
struct Coefficients {
  const Table& table;
  const int32_t* row;
  const int64_t blocks = table_blocks<T>(table.width);
  const T* operator()(int64_t e, int64_t b) const {
    return table.data + (row[e] * blocks + b) * (kCoefficients * kLanes<T>);
  }
};

template <class T, class Table>
void table_contract(const Table* table, int64_t n, const int32_t* row, const T* place,
                    const T* beyond, const T* r, T* sums, int64_t lds) {
  const Coefficients<T, Table> at{*table, row};
  contract<T>(n, table->width, r, sums, lds,
              [&](int64_t e, int64_t b) { return continued_at<T>(at(e, b), place[e], beyond[e]); });
}

template <class T, class Table>
void table_contract_backward(const Table* table, int64_t n, const int32_t* row, const T* place,
                             const T* beyond, const T* r, const T* sums_bar, int64_t lds, T* r_bar,
                             T* s_bar) {
  const Coefficients<T, Table> at{*table, row};
  contract_backward<T>(n, table->width, r, sums_bar, lds, r_bar, s_bar, [&](int64_t e, int64_t b) {
    return jet_at<T>(at(e, b), place[e], beyond[e]);
  });
}

template <class T, class Table>
void table_sum(const Table* table, int64_t n, const int32_t* row, const T* place, const T* beyond,
               T* sums) {
  const Coefficients<T, Table> at{*table, row};
  add_up<T>(n, table->width, sums,
            [&](int64_t e, int64_t b) { return continued_at<T>(at(e, b), place[e], beyond[e]); });
}

template <class T, class Table>
void table_sum_backward(const Table* table, int64_t n, const int32_t* row, const T* place,
                        const T* beyond, const T* sums_bar, T* s_bar, int64_t stride) {
  (void)beyond;
  const Coefficients<T, Table> at{*table, row};
  add_up_backward<T>(n, table->width, sums_bar, s_bar, stride,
                     [&](int64_t e, int64_t b) { return slope_at<T>(at(e, b), place[e]); });
}

template <class T>
void jet_contract(int64_t n, int64_t width, const T* g, int64_t ldg, const T* r, T* sums,
                  int64_t lds) {
  contract<T>(n, width, r, sums, lds,
              [&](int64_t e, int64_t b) { return load<T>(g + e * ldg + b * kLanes<T>); });
}

template <class T>
void jet_contract_backward(int64_t n, int64_t width, const T* g, const T* dg, int64_t ldg,
                           const T* r, const T* sums_bar, int64_t lds, T* r_bar, T* s_bar) {
  contract_backward<T>(n, width, r, sums_bar, lds, r_bar, s_bar, [&](int64_t e, int64_t b) {
    const int64_t at = e * ldg + b * kLanes<T>;
    return Jet<T>{load<T>(g + at), load<T>(dg + at)};
  });
}

template <class T>
void jet_sum(int64_t n, int64_t width, const T* g, int64_t ldg, T* sums) {
  add_up<T>(n, width, sums,
            [&](int64_t e, int64_t b) { return load<T>(g + e * ldg + b * kLanes<T>); });
}

template <class T>
void jet_sum_backward(int64_t n, int64_t width, const T* dg, int64_t ldg, const T* sums_bar,
                      T* s_bar, int64_t stride) {
  add_up_backward<T>(n, width, sums_bar, s_bar, stride,
                     [&](int64_t e, int64_t b) { return load<T>(dg + e * ldg + b * kLanes<T>); });
}

}  // namespace
