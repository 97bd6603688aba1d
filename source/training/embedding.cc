// SPDX-License-Identifier: LGPL-3.0-or-later
/** The embedding of training.h, row by row. */
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "jets.h"
#include "kernels/kernels.h"
#include "parallel.h"
#include "precision.h"
#include "training.h"

namespace deepmd::training {
namespace {

constexpr int64_t kRow = DEEPMD_ROW;
/** Rows that are worked on together, where a center has fewer. */
constexpr int64_t kTogether = 96;

template <class T>
class Embedding {
 public:
  using Rows = typename RowsOf<T>::type;

  Embedding(int64_t n, const int64_t* widths, const int32_t* copies, const T* const* w,
            const T* const* b)
      : net_(n, widths, copies, w, b), f_(Kernels<T>::get()) {}

  int64_t state() const { return net_.state(); }

  void value(const Rows& rows, T* t) const {
    each(rows, [&](Work& work, const Centers& c, int64_t) {
      read_input(work, c);
      net_.forward(work.net, jets(work, c));
      for (int64_t i = c.first; i < c.last; ++i) {
        const T* g = values(work, c, i);
        weighted(rows, i, rows.r + i * rows.k * kRow, work.rows.data());
        clear(work.sums);
        f_.jet_contract(here(rows, i), width(), g, ld(), work.rows.data(), work.sums.data(), ld());
        turn(width(), ld(), work.sums.data(), t + i * width() * kRow);
      }
    });
  }

  void vjp(const Rows& rows, const T* t_bar, T* r_bar) const {
    each(rows, [&](Work& work, const Centers& c, int64_t) {
      for (int64_t i = c.first; i < c.last; ++i) {
        const T* g = values(work, c, i);
        const int64_t n = here(rows, i);
        T* out = r_bar + i * rows.k * kRow;
        turn_back(width(), ld(), t_bar + i * width() * kRow, work.sums.data());
        f_.jet_contract_backward(n, width(), g, g + c.rows * ld(), ld(), rows.r + i * rows.k * kRow,
                                 work.sums.data(), ld(), out, nullptr);
        for (int64_t e = n; e < rows.k; ++e)
          std::copy_n(out + (n - 1) * kRow, kRow, out + e * kRow);
      }
    });
  }

  void jvp(const Rows& rows, const T* r_dot, T* t_dot) const {
    each(rows, [&](Work& work, const Centers& c, int64_t) {
      for (int64_t i = c.first; i < c.last; ++i) {
        const T* g = values(work, c, i);
        const int64_t n = here(rows, i);
        clear(work.sums);
        added(rows, i, r_dot + i * rows.k * kRow, work.rows.data());
        f_.jet_contract(n, width(), g, ld(), work.rows.data(), work.sums.data(), ld());
        levers(n, rows.r + i * rows.k * kRow, work.rows.data(), work.more.data());
        f_.jet_contract(n, width(), g + c.rows * ld(), ld(), work.more.data(), work.sums.data(),
                        ld());
        turn(width(), ld(), work.sums.data(), t_dot + i * width() * kRow);
      }
    });
  }

  void vjp_of_vjp(const Rows& rows, const T* again, const T* t_bar, const T* r_dot, T* const* w_bar,
                  T* const* b_bar) const {
    // One set for every part, added up in their order: the same for any number of threads.
    std::vector<std::vector<T>> sums(parts(rows), std::vector<T>(net_.weights(), T(0)));
    each(rows, [&](Work& work, const Centers& c, int64_t part) {
      for (int64_t i = c.first; i < c.last; ++i) {
        const int64_t at = i * width() * kRow;
        adjoints(work, rows, c, i, again + at, t_bar + at, r_dot + i * rows.k * kRow);
      }
      read_input(work, c);
      net_.backward(work.net, jets(work, c), sums[part].data());
    });
    net_.write(sums, w_bar, b_bar);
  }

 private:
  /** Arrays of one thread. */
  struct Work {
    typename Jets<T>::Work net;
    std::vector<T> input, sums, rows, more;
  };

  /** Centers that are worked on together, and their rows. */
  struct Centers {
    int64_t first, last, rows;
    const T* r;
    T* state;
    const Rows& all;
  };

  int64_t width() const { return net_.width(); }
  int64_t ld() const { return net_.ld(); }

  static int64_t here(const Rows& rows, int64_t i) { return rows.first[i + 1] - rows.first[i]; }
  static void clear(std::vector<T>& x) { std::fill(x.begin(), x.end(), T(0)); }
  static int64_t together(const Rows& rows) { return std::max<int64_t>(1, kTogether / rows.k); }
  static int64_t groups(const Rows& rows) { return (rows.n + together(rows) - 1) / together(rows); }
  static int64_t parts(const Rows& rows) { return std::min(kParts, groups(rows)); }

  /** Call work(arrays, centers, part) for all centers. */
  template <class F>
  void each(const Rows& rows, const F& work) const {
    const auto make = [&] { return arrays_for(rows); };
    in_parts(parts(rows), rows.threads, make, [&](Work& arrays, int64_t part) {
      const Range range = part_of(groups(rows), part, parts(rows));
      for (int64_t g = range.first; g < range.last; ++g) {
        const int64_t first = g * together(rows), last = std::min(rows.n, first + together(rows));
        const int64_t row = rows.first[first];
        work(arrays,
             Centers{first, last, rows.first[last] - row, rows.r, rows.state + row * state(), rows},
             part);
      }
    });
  }

  Work arrays_for(const Rows& rows) const {
    const int64_t most = rows.k * together(rows);
    Work w;
    w.net = net_.work(most, f_.packed_size(2 * kRow, width()));
    w.input.resize(2 * most);
    w.sums.resize(kRow * ld());
    w.rows.resize(2 * kRow * rows.k);
    w.more.resize(kRow * rows.k);
    return w;
  }

  typename Jets<T>::Rows jets(const Work& work, const Centers& c) const {
    return {c.rows, work.input.data(), c.state};
  }

  /** Values of the last layer for the rows of a center. */
  const T* values(const Work& work, const Centers& c, int64_t i) const {
    return net_.outputs(jets(work, c)) + (c.all.first[i] - c.all.first[c.first]) * ld();
  }

  void read_input(Work& work, const Centers& c) const {
    T* s = work.input.data();
    for (int64_t i = c.first; i < c.last; ++i) {
      for (int64_t e = 0; e < here(c.all, i); ++e) *s++ = c.r[(i * c.all.k + e) * kRow];
    }
    std::fill_n(s, c.rows, T(1));
  }

  /** Adjoints of values and slopes of the last layer, for the rows of one center. */
  void adjoints(Work& work, const Rows& rows, const Centers& c, int64_t i, const T* again,
                const T* t_bar, const T* r_dot) const {
    const int64_t n = here(rows, i), row = rows.first[i] - rows.first[c.first];
    const T* r = rows.r + i * rows.k * kRow;
    // Rows [r, r_dot] times [again; t_bar], whose columns are the functions.
    T *own = work.more.data(), *pair = work.rows.data(), *both = work.net.turned.data();
    weighted(rows, i, r, own);
    for (int64_t e = 0; e < n; ++e) std::copy_n(own + e * kRow, kRow, pair + 2 * e * kRow);
    added(rows, i, r_dot, own);
    for (int64_t e = 0; e < n; ++e) std::copy_n(own + e * kRow, kRow, pair + (2 * e + 1) * kRow);
    for (int64_t m = 0; m < width(); ++m) {
      for (int64_t a = 0; a < kRow; ++a) {
        both[a * width() + m] = again[m * kRow + a];
        both[(kRow + a) * width() + m] = t_bar[m * kRow + a];
      }
    }
    f_.pack(2 * kRow, width(), both, width(), 0, work.net.packed.data());
    T* bars = work.net.bars.data() + row * ld();
    f_.multiply(n, width(), 2 * kRow, pair, 2 * kRow, work.net.packed.data(), bars, ld(), 0);
    f_.pack(kRow, width(), both + kRow * width(), width(), 0, work.net.packed.data());
    levers(n, r, own, own);
    f_.multiply(n, width(), kRow, own, kRow, work.net.packed.data(), bars + c.rows * ld(), ld(), 0);
  }

  /** The different rows of a center, the last as often as it occurs. */
  static void weighted(const Rows& rows, int64_t i, const T* r, T* out) {
    const int64_t n = here(rows, i);
    std::copy_n(r, n * kRow, out);
    const T times = static_cast<T>(rows.k - n + 1);
    for (int64_t a = 0; a < kRow; ++a) out[(n - 1) * kRow + a] *= times;
  }

  /** Rows of tangents, those of equal rows added up. */
  static void added(const Rows& rows, int64_t i, const T* r_dot, T* out) {
    const int64_t n = here(rows, i);
    std::copy_n(r_dot, n * kRow, out);
    for (int64_t e = n; e < rows.k; ++e) {
      for (int64_t a = 0; a < kRow; ++a) out[(n - 1) * kRow + a] += r_dot[e * kRow + a];
    }
  }

  Jets<T> net_;
  const typename Kernels<T>::Functions& f_;
};

template <class T>
void count(int64_t n, int64_t k, const T* r, int64_t* first) {
  first[0] = 0;
  for (int64_t i = 0; i < n; ++i, r += k * kRow) {
    const T* last = r + (k - 1) * kRow;
    int64_t different = k;
    while (different > 1 && memcmp(r + (different - 2) * kRow, last, kRow * sizeof(T)) == 0) {
      --different;
    }
    first[i + 1] = first[i] + different;
  }
}

}  // namespace
}  // namespace deepmd::training

#define DEEPMD_DEFINE_TRAINING(T, S)                                                               \
  struct deepmd_embedding_##S {                                                                    \
    deepmd::training::Embedding<T> net;                                                            \
  };                                                                                               \
  deepmd_embedding_##S* deepmd_embedding_new_##S(int64_t layers, const int64_t* widths,            \
                                                 const int32_t* copies, const T* const* w,         \
                                                 const T* const* b) {                              \
    deepmd_embedding_##S* net = nullptr;                                                           \
    deepmd::training::guarded(                                                                     \
        [&] { net = new deepmd_embedding_##S{{layers, widths, copies, w, b}}; });                  \
    return net;                                                                                    \
  }                                                                                                \
  void deepmd_embedding_free_##S(deepmd_embedding_##S* net) { delete net; }                        \
  int64_t deepmd_embedding_state_##S(const deepmd_embedding_##S* net) { return net->net.state(); } \
  void deepmd_embedding_count_##S(int64_t n, int64_t k, const T* r, int64_t* first) {              \
    deepmd::training::count(n, k, r, first);                                                       \
  }                                                                                                \
  int32_t deepmd_embedding_value_##S(const deepmd_embedding_##S* net, const deepmd_rows_##S* rows, \
                                     T* t) {                                                       \
    return deepmd::training::guarded([&] { net->net.value(*rows, t); });                           \
  }                                                                                                \
  int32_t deepmd_embedding_vjp_##S(const deepmd_embedding_##S* net, const deepmd_rows_##S* rows,   \
                                   const T* t_bar, T* r_bar) {                                     \
    return deepmd::training::guarded([&] { net->net.vjp(*rows, t_bar, r_bar); });                  \
  }                                                                                                \
  int32_t deepmd_embedding_jvp_##S(const deepmd_embedding_##S* net, const deepmd_rows_##S* rows,   \
                                   const T* r_dot, T* t_dot) {                                     \
    return deepmd::training::guarded([&] { net->net.jvp(*rows, r_dot, t_dot); });                  \
  }                                                                                                \
  int32_t deepmd_embedding_vjp_of_vjp_##S(                                                         \
      const deepmd_embedding_##S* net, const deepmd_rows_##S* rows, const T* again,                \
      const T* t_bar, const T* r_dot, T* const* w_bar, T* const* b_bar) {                          \
    return deepmd::training::guarded(                                                              \
        [&] { net->net.vjp_of_vjp(*rows, again, t_bar, r_dot, w_bar, b_bar); });                   \
  }

DEEPMD_DEFINE_TRAINING(double, f64)
DEEPMD_DEFINE_TRAINING(float, f32)
