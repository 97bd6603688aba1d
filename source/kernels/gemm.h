// SPDX-License-Identifier: LGPL-3.0-or-later
/** Products of matrices, the second of which is packed: weights serve for many products. */
#pragma once

#include "vectors.h"

namespace {

/** Columns of a panel, and rows of a tile. */
template <class T>
constexpr int64_t kPanel = 2 * kLanes<T>;
constexpr int64_t kTile = DEEPMD_TILE_ROWS;
/** Rows of a panel that are worked through at a time: it stays in the first cache. */
template <class T>
constexpr int64_t kDepth = 2048 / sizeof(T);

template <class T>
int64_t packed_size(int64_t k, int64_t n) {
  return (n + kPanel<T> - 1) / kPanel<T> * kPanel<T> * k;
}

/** Panels of kPanel columns, one after the other; the columns beyond the last are zero. */
template <class T>
void pack(int64_t k, int64_t n, const T* b, int64_t ldb, int32_t transposed, T* packed) {
  constexpr int64_t w = kLanes<T>, panel = kPanel<T>;
  for (int64_t first = 0; first < n; first += panel, packed += k * panel) {
    const int64_t columns = smaller(panel, n - first);
    if (columns < panel) memset(packed, 0, static_cast<size_t>(k * panel) * sizeof(T));
    if (transposed) {
      for (int64_t q = 0; q < columns; ++q) {
        const T* from = b + (first + q) * ldb;
        for (int64_t p = 0; p < k; ++p) packed[p * panel + q] = from[p];
      }
    } else if (columns == panel) {
      for (int64_t p = 0; p < k; ++p) {
        const T* from = b + p * ldb + first;
        store<T>(packed + p * panel, load<T>(from));
        store<T>(packed + p * panel + w, load<T>(from + w));
      }
    } else {
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t q = 0; q < columns; ++q) packed[p * panel + q] = b[p * ldb + first + q];
      }
    }
  }
}

/**
 * A tile of R rows and one panel: c = a b, or c += a b; `columns` of the panel are stored.
 *
 * With Turned, a is given by its transpose.
 */
template <class T, int R, bool Turned>
inline void tile(int64_t k, const T* a, int64_t lda, const T* b, T* c, int64_t ldc, int64_t columns,
                 bool add) {
  constexpr int64_t w = kLanes<T>;
  // All loops over the rows are unrolled, or the sums would not stay in registers.
  Vec<T> s[R][2];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) s[i][0] = s[i][1] = Vec<T>{};
  for (int64_t p = 0; p < k; ++p, b += 2 * w) {
    const Vec<T> b0 = load<T>(b), b1 = load<T>(b + w);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const T x = Turned ? a[p * lda + i] : a[i * lda + p];
      s[i][0] += x * b0;
      s[i][1] += x * b1;
    }
  }
  if (columns == 2 * w) {
    if (add) {
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        s[i][0] += load<T>(c + i * ldc);
        s[i][1] += load<T>(c + i * ldc + w);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      store<T>(c + i * ldc, s[i][0]);
      store<T>(c + i * ldc + w, s[i][1]);
    }
    return;
  }
  T rows[R][2 * w];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    store<T>(rows[i], s[i][0]);
    store<T>(rows[i] + w, s[i][1]);
  }
  for (int i = 0; i < R; ++i, c += ldc) {
    for (int64_t q = 0; q < columns; ++q) c[q] = add ? c[q] + rows[i][q] : rows[i][q];
  }
}

/** The rows that are left over. */
template <class T, int R, bool Turned>
inline void last_tile(int64_t rows, int64_t k, const T* a, int64_t lda, const T* b, T* c,
                      int64_t ldc, int64_t columns, bool add) {
  if (rows == R) {
    tile<T, R, Turned>(k, a, lda, b, c, ldc, columns, add);
  } else if constexpr (R > 1) {
    last_tile<T, R - 1, Turned>(rows, k, a, lda, b, c, ldc, columns, add);
  }
}

/** c (m, n) = a b, or c += a b; a (m, k) or, with Turned, (k, m). */
template <class T, bool Turned>
void multiply_rows(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* packed, T* c,
                   int64_t ldc, int32_t add) {
  if (k == 0 && !add) {
    for (int64_t i = 0; i < m; ++i) memset(c + i * ldc, 0, static_cast<size_t>(n) * sizeof(T));
  }
  const int64_t row = Turned ? 1 : lda, next = Turned ? lda : 1;
  for (int64_t depth = 0; depth < k; depth += kDepth<T>) {
    const int64_t part = smaller(kDepth<T>, k - depth);
    const bool more = add || depth > 0;
    for (int64_t column = 0; column < n; column += kPanel<T>) {
      const int64_t columns = smaller(kPanel<T>, n - column);
      const T *b = packed + column * k + depth * kPanel<T>, *from = a + depth * next;
      int64_t i = 0;
      for (; i + kTile <= m; i += kTile) {
        tile<T, kTile, Turned>(part, from + i * row, lda, b, c + i * ldc + column, ldc, columns,
                               more);
      }
      if (i < m) {
        last_tile<T, kTile - 1, Turned>(m - i, part, from + i * row, lda, b, c + i * ldc + column,
                                        ldc, columns, more);
      }
    }
  }
}

template <class T>
void multiply(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* packed, T* c,
              int64_t ldc, int32_t add) {
  multiply_rows<T, false>(m, n, k, a, lda, packed, c, ldc, add);
}

/** c (m, n) = a^T b, or c += a^T b; a (k, m). */
template <class T>
void multiply_turned(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* packed,
                     T* c, int64_t ldc, int32_t add) {
  multiply_rows<T, true>(m, n, k, a, lda, packed, c, ldc, add);
}

}  // namespace
