// SPDX-License-Identifier: LGPL-3.0-or-later
/** Operations on whole arrays: products, sums, rows by their numbers. Results are dense. */
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace deepmd::native::traced {

/** Rows of every segment, one segment after the other: a sum needs no others. */
struct Segments {
  std::vector<int64_t> rows;
  std::vector<int64_t> starts;  ///< (segments + 1)
  /** Throws Failure if an index is no number of a segment. */
  void find(const View& index, int64_t count);
};

/** A packed matrix. */
template <class T>
struct Packed {
  std::vector<T> data;
  void pack(const View& b);
};

/** to (m, n) = a (m, k) b (k, n), b packed; `memory` holds a copy of a where it must. */
template <class T>
void multiply(const View& a, const T* packed, const View& to, const Parallel& parallel);
/** Stacks of products. */
template <class T>
void multiply_stacks(const View& a, const View& b, const View& to, const Parallel& parallel);

/** Rows by their numbers along an axis. */
void take(const View& from, const View& index, int axis, const View& to, const Parallel& parallel);
/** Sums over the rows of segments; inner axes of `from` are dense. */
void segment_sum(const View& from, const Segments& segments, const View& to,
                 const Parallel& parallel);
/** Write rows over those of a dense array. */
void scatter(const View& index, const View& rows, const View& to, const Parallel& parallel);
/** Sum or largest number along axes. */
void reduce(Op op, const View& from, const std::vector<int64_t>& axes, const View& to,
            const Parallel& parallel);

}  // namespace deepmd::native::traced
