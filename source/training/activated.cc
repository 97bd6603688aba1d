// SPDX-License-Identifier: LGPL-3.0-or-later
/** The activated sum of training.h, and sums over segments. */
#include <algorithm>

#include "kernels/kernels.h"
#include "parallel.h"
#include "precision.h"
#include "training.h"

namespace deepmd::training {
namespace {

/** Rows for which a thread is worth its start. */
constexpr int64_t kFew = 2000;

/** Parts of sorted rows; no segment is divided. */
template <class A>
struct Rows {
  const A& all;
  int64_t parts;

  explicit Rows(const A& a) : all(a), parts(std::clamp<int64_t>(a.rows / kFew, 1, kParts)) {}

  /** First row of a part. */
  int64_t begin(int64_t part) const {
    int64_t row = all.rows * part / parts;
    while (row > 0 && row < all.rows && all.segment[row] == all.segment[row - 1]) ++row;
    return row;
  }

  /** Call work(rows of a part, its first row) for every part. */
  template <class F>
  void each(int32_t threads, const F& work) const {
    in_parts(
        parts, threads, [] { return 0; },
        [&](int, int64_t part) {
          const int64_t first = begin(part), last = begin(part + 1);
          A some = all;
          some.rows = last - first;
          some.weight += first;
          some.segment += first;
          if (some.rows > 0) work(some, first);
        });
  }
};

template <class A, class T>
void value(const A& a, int64_t n, int32_t threads, const T* z, T* sums, T* others) {
  std::fill_n(sums, n * a.summed, T(0));
  Rows<A>(a).each(threads, [&](const A& some, int64_t at) {
    Kernels<T>::get().activated_value(&some, z + at * a.columns, sums,
                                      others + at * (a.columns - a.summed));
  });
}

template <class A, class T>
void vjp(const A& a, int32_t threads, const T* z, const T* sums_bar, const T* others_bar, T* z_bar,
         T* w_bar) {
  Rows<A>(a).each(threads, [&](const A& some, int64_t at) {
    Kernels<T>::get().activated_vjp(&some, z + at * a.columns, sums_bar,
                                    others_bar + at * (a.columns - a.summed),
                                    z_bar + at * a.columns, w_bar + at);
  });
}

template <class A, class T>
void jvp(const A& a, int64_t n, int32_t threads, const T* z, const T* z_dot, const T* w_dot,
         T* sums_dot, T* others_dot) {
  std::fill_n(sums_dot, n * a.summed, T(0));
  Rows<A>(a).each(threads, [&](const A& some, int64_t at) {
    Kernels<T>::get().activated_jvp(&some, z + at * a.columns, z_dot + at * a.columns, w_dot + at,
                                    sums_dot, others_dot + at * (a.columns - a.summed));
  });
}

template <class A, class T>
void vjp_of_vjp(const A& a, int32_t threads, const T* z, const T* sums_again, const T* others_again,
                const T* sums_bar, const T* others_bar, const T* z_dot, const T* w_dot, T* z_bar) {
  Rows<A>(a).each(threads, [&](const A& some, int64_t at) {
    const int64_t rest = at * (a.columns - a.summed), whole = at * a.columns;
    Kernels<T>::get().activated_vjp_of_vjp(&some, z + whole, sums_again, others_again + rest,
                                           sums_bar, others_bar + rest, z_dot + whole, w_dot + at,
                                           z_bar + whole);
  });
}

/** Every thread has columns of its own, so that rows are added in their order. */
template <class T>
void segment_sum(int64_t k, int64_t c, int64_t n, const T* x, const int64_t* index, int32_t threads,
                 T* out) {
  std::fill_n(out, n * c, T(0));
  const int64_t parts = k < kFew || c < 2 ? 1 : std::min<int64_t>({threads, c / 8, kParts});
  in_parts(
      std::max<int64_t>(parts, 1), threads, [] { return 0; },
      [&](int, int64_t part) {
        const Range columns = part_of(c, part, std::max<int64_t>(parts, 1));
        for (int64_t i = 0; i < k; ++i) {
          const T* from = x + i * c;
          T* to = out + index[i] * c;
          for (int64_t q = columns.first; q < columns.last; ++q) to[q] += from[q];
        }
      });
}

}  // namespace
}  // namespace deepmd::training

void deepmd_training_use_threads(deepmd::training::Team team) { deepmd::training::team = team; }

int32_t deepmd_are_segments(int64_t k, const int64_t* segment, int64_t n) {
  bool inside = true, sorted = true;
  for (int64_t i = 0; i < k; ++i) inside &= segment[i] >= 0 && segment[i] < n;
  for (int64_t i = 1; i < k; ++i) sorted &= segment[i] >= segment[i - 1];
  return inside ? 1 + static_cast<int32_t>(sorted) : 0;
}

#define DEEPMD_DEFINE_ACTIVATED(T, S)                                                              \
  int32_t deepmd_activated_value_##S(const deepmd_activated_##S* a, int64_t n, int32_t threads,    \
                                     const T* z, T* sums, T* others) {                             \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::value(*a, n, threads, z, sums, others); });                        \
  }                                                                                                \
  int32_t deepmd_activated_vjp_##S(const deepmd_activated_##S* a, int32_t threads, const T* z,     \
                                   const T* sums_bar, const T* others_bar, T* z_bar, T* w_bar) {   \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::vjp(*a, threads, z, sums_bar, others_bar, z_bar, w_bar); });       \
  }                                                                                                \
  int32_t deepmd_activated_jvp_##S(const deepmd_activated_##S* a, int64_t n, int32_t threads,      \
                                   const T* z, const T* z_dot, const T* w_dot, T* sums_dot,        \
                                   T* others_dot) {                                                \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::jvp(*a, n, threads, z, z_dot, w_dot, sums_dot, others_dot); });    \
  }                                                                                                \
  int32_t deepmd_activated_vjp_of_vjp_##S(const deepmd_activated_##S* a, int32_t threads,          \
                                          const T* z, const T* sums_again, const T* others_again,  \
                                          const T* sums_bar, const T* others_bar, const T* z_dot,  \
                                          const T* w_dot, T* z_bar) {                              \
    return deepmd::training::guarded([&] {                                                         \
      deepmd::training::vjp_of_vjp(*a, threads, z, sums_again, others_again, sums_bar, others_bar, \
                                   z_dot, w_dot, z_bar);                                           \
    });                                                                                            \
  }                                                                                                \
  int32_t deepmd_segment_sum_##S(int64_t k, int64_t c, int64_t n, const T* x,                      \
                                 const int64_t* index, int32_t threads, T* out) {                  \
    return deepmd::training::guarded(                                                              \
        [&] { deepmd::training::segment_sum(k, c, n, x, index, threads, out); });                  \
  }

DEEPMD_DEFINE_ACTIVATED(double, f64)
DEEPMD_DEFINE_ACTIVATED(float, f32)
