// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The embedding of training.h by interpolation.
 *
 * All rows of a batch put their first numbers s into functions G of one number, one per kind of
 * row. These are analytic, so that a series of Chebyshev polynomials, G(s) = sum over j of
 * g_j T_j(x) with x in [-1, 1], has all of their digits after a few dozen terms; so has the series
 * d_j of the slope, which the network carries along. Hence T = sum over j of g_j outer C_j with
 * C_j the sum of T_j(x) r over the rows of a center: the network is evaluated at the nodes of the
 * series only, however many rows there are.
 */
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "jets.h"
#include "kernels/kernels.h"
#include "parallel.h"
#include "precision.h"
#include "training.h"

namespace deepmd::training {
namespace {

constexpr int64_t kRow = DEEPMD_ROW;
/** Centers that are worked on together. */
constexpr int64_t kCenters = 12;
/** Numbers of terms that are tried. */
constexpr int64_t kTerms[] = {16, 32, 48, 64, 96, 128, 192, 256};

/** Largest coefficient of the last quarter of a series, in terms of its largest coefficient. */
template <class T>
constexpr double kSmall = sizeof(T) == sizeof(double) ? 1e-13 : 5e-7;

/** Factors (terms, terms) of values at the nodes in coefficients. */
template <class T>
std::vector<T> transform(int64_t terms) {
  const double pi = 3.14159265358979323846;
  std::vector<T> f(terms * terms);
  for (int64_t k = 0; k < terms; ++k) {
    for (int64_t j = 0; j < terms; ++j) {
      const auto angle = static_cast<double>(k * (2 * j + 1) % (4 * terms));
      f[k * terms + j] =
          static_cast<T>((k == 0 ? 1.0 : 2.0) / terms * std::cos(pi * angle / (2.0 * terms)));
    }
  }
  return f;
}

template <class T>
class Interpolated {
 public:
  using Batch = typename BatchOf<T>::type;

  Interpolated(int64_t layers, const int64_t* widths, const int32_t* copies, const T* const* w,
               const T* const* b, int64_t kinds)
      : f_(Kernels<T>::get()),
        net_(layers, widths, copies, w, b),
        first_bias_(b[0]),
        first_width_(widths[1]),
        kinds_(kinds) {
    for (int64_t q = 0; q < first_width_; ++q) {
      steepest_ = std::max(steepest_, std::abs(static_cast<double>(w[0][q])));
    }
  }

  /** Whether series were found that make less work than the network for every row. */
  bool fit(const Batch& batch) {
    if (batch.n < 1 || batch.k < 1 || !read_range(batch)) return false;
    for (const int64_t terms : kTerms) {
      if (!pays(batch, terms)) return false;
      if (hides(terms)) continue;
      evaluate(terms);
      if (converged()) {
        pack();
        return true;
      }
    }
    return false;
  }

  void value(const Batch& batch, T* t) const {
    each(batch, [&](Work& work, int64_t first, int64_t n, int64_t) {
      sums(work, batch, first, n, Rows::own, batch.r, work.c.data());
      f_.multiply(kRow * n, net_.width(), columns(), work.c.data(), columns(), g_.data(),
                  work.t.data(), net_.ld(), 0);
      write_turned(work, first, n, t);
    });
  }

  void vjp(const Batch& batch, const T* t_bar, T* r_bar) const {
    each(batch, [&](Work& work, int64_t first, int64_t n, int64_t) {
      read_turned(first, n, t_bar, work.t.data());
      T *value = work.c.data(), *slope = work.more.data();
      f_.multiply(kRow * n, columns(), net_.width(), work.t.data(), net_.ld(), g_turned_.data(),
                  value, columns(), 0);
      f_.multiply(kRow * n, columns(), net_.width(), work.t.data(), net_.ld(), d_turned_.data(),
                  slope, columns(), 0);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t at = kRow * i * columns();
        adjoints(work, batch, first + i, value + at, slope + at, r_bar);
      }
    });
  }

  void jvp(const Batch& batch, const T* r_dot, T* t_dot) const {
    each(batch, [&](Work& work, int64_t first, int64_t n, int64_t) {
      const int64_t rows = kRow * n, width = net_.width(), ld = net_.ld();
      sums(work, batch, first, n, Rows::own, r_dot, work.c.data());
      f_.multiply(rows, width, columns(), work.c.data(), columns(), g_.data(), work.t.data(), ld,
                  0);
      sums(work, batch, first, n, Rows::levers, r_dot, work.c.data());
      f_.multiply(rows, width, columns(), work.c.data(), columns(), d_.data(), work.t.data(), ld,
                  1);
      write_turned(work, first, n, t_dot);
    });
  }

  void vjp_of_vjp(const Batch& batch, const T* again, const T* t_bar, const T* r_dot,
                  T* const* w_bar, T* const* b_bar) {
    // One set for every part, added up in their order: the same for any number of threads.
    const int64_t width = net_.width(), size = columns() * width;
    std::vector<std::vector<T>> found(parts(batch), std::vector<T>(2 * size, T(0)));
    each(batch, [&](Work& work, int64_t first, int64_t n, int64_t part) {
      T* to = found[part].data();
      read_turned(first, n, again, work.t.data());
      sums(work, batch, first, n, Rows::own, batch.r, work.c.data());
      add_product(work, n, to);
      read_turned(first, n, t_bar, work.t.data());
      sums(work, batch, first, n, Rows::own, r_dot, work.c.data());
      add_product(work, n, to);
      sums(work, batch, first, n, Rows::levers, r_dot, work.c.data());
      add_product(work, n, to + size);
    });
    std::vector<T> bars(2 * size);
    Jets<T>::add_up(found, 0, 2 * size, bars.data());
    backward(bars, w_bar, b_bar);
  }

 private:
  /** Rows whose sums are wanted: those given, or levers of the batch's rows by them. */
  enum class Rows { own, levers };

  /** Arrays of one thread. */
  struct Work {
    std::vector<int64_t> order, begin;
    std::vector<T> x, basis, rows, given, bars, slopes, c, more, t, turned, packed;
  };

  int64_t ld() const { return net_.padded(terms_); }
  /** Numbers per row of sums: those of every kind. */
  int64_t columns() const { return kinds_ * ld(); }

  // -- series ---------------------------------------------------------------------------------

  bool read_range(const Batch& batch) {
    T low = batch.r[0], high = low;
    for (int64_t q = 0; q < batch.n * batch.k; ++q) {
      const T s = batch.r[q * kRow];
      if (!std::isfinite(s)) return false;
      low = std::min(low, s);
      high = std::max(high, s);
    }
    middle_ = T(0.5) * (low + high);
    half_ = T(0.5) * (high - low);
    return std::isfinite(half_) && half_ > std::abs(middle_) * T(1e-3);
  }

  /** Whether so many terms, which replace six products of the network's weights per row, are less.
   */
  bool pays(const Batch& batch, int64_t terms) const {
    const int64_t all = kinds_ * terms, rows = batch.n * batch.k;
    return 3 * (32 * batch.n * all * net_.width() + 48 * rows * terms +
                10 * all * net_.products()) <
           2 * 6 * rows * net_.products();
  }

  /** Whether a step of the first layer, as wide as 2 / weight, may lie between two nodes. */
  bool hides(int64_t terms) const {
    return 2.0 * steepest_ * static_cast<double>(half_) > static_cast<double>(terms);
  }

  /** Coefficients of values and slopes, kind by kind (2, terms, width). */
  void evaluate(int64_t terms) {
    terms_ = terms;
    transform_ = transform<T>(terms);
    const double pi = 3.14159265358979323846;
    input_.assign(2 * terms, T(1));
    for (int64_t j = 0; j < terms; ++j) {
      input_[j] = middle_ + half_ * static_cast<T>(std::cos(pi * (2.0 * j + 1.0) / (2.0 * terms)));
    }
    state_.resize(kinds_ * terms * net_.state());
    series_.resize(kinds_ * 2 * terms * net_.width());
    auto work = net_.work(terms, f_.packed_size(terms, net_.width()));
    for (int64_t q = 0; q < kinds_; ++q) {
      net_.set_first_bias(first_bias_ + q * first_width_);
      net_.forward(work, nodes(q));
      for (int64_t half = 0; half < 2; ++half) {
        f_.pack(terms, net_.width(), net_.outputs(nodes(q)) + half * terms * net_.ld(), net_.ld(),
                0, work.packed.data());
        f_.multiply(terms, net_.width(), terms, transform_.data(), terms, work.packed.data(),
                    series(q, half), net_.width(), 0);
      }
    }
  }

  typename Jets<T>::Rows nodes(int64_t kind) {
    return {terms_, input_.data(), state_.data() + kind * terms_ * net_.state()};
  }
  T* series(int64_t kind, int64_t half) {
    return series_.data() + (2 * kind + half) * terms_ * net_.width();
  }

  bool converged() {
    const int64_t size = terms_ * net_.width();
    for (int64_t q = 0; q < 2 * kinds_; ++q) {
      double largest = 0.0, last = 0.0;
      for (int64_t p = 0; p < size; ++p) {
        const double now = std::abs(static_cast<double>(series_[q * size + p]));
        if (!std::isfinite(now)) return false;
        largest = std::max(largest, now);
        if (4 * p >= 3 * size) last = std::max(last, now);
      }
      if (last > kSmall<T> * largest) return false;
    }
    return true;
  }

  /** Coefficients as matrices (columns, width), and the transposes. */
  void pack() {
    const int64_t width = net_.width();
    std::vector<T> all(columns() * width);
    for (int64_t half = 0; half < 2; ++half) {
      std::fill(all.begin(), all.end(), T(0));
      for (int64_t q = 0; q < kinds_; ++q) {
        std::copy_n(series(q, half), terms_ * width, all.data() + q * ld() * width);
      }
      std::vector<T>&to = half ? d_ : g_, &turned = half ? d_turned_ : g_turned_;
      to.resize(f_.packed_size(columns(), width));
      f_.pack(columns(), width, all.data(), width, 0, to.data());
      turned.resize(f_.packed_size(width, columns()));
      f_.pack(width, columns(), all.data(), width, 1, turned.data());
    }
  }

  /** Adjoints of the weights from those of the coefficients (2, columns, width). */
  void backward(const std::vector<T>& bars, T* const* w_bar, T* const* b_bar) {
    const int64_t width = net_.width(), size = columns() * width;
    auto work = net_.work(terms_, f_.packed_size(terms_, width));
    std::vector<T> back(terms_ * terms_);
    for (int64_t k = 0; k < terms_; ++k) {
      for (int64_t j = 0; j < terms_; ++j) back[j * terms_ + k] = transform_[k * terms_ + j];
    }
    std::vector<std::vector<T>> sums(kinds_, std::vector<T>(net_.weights(), T(0)));
    for (int64_t q = 0; q < kinds_; ++q) {
      for (int64_t half = 0; half < 2; ++half) {
        const T* from = bars.data() + half * size + q * ld() * width;
        f_.pack(terms_, width, from, width, 0, work.packed.data());
        f_.multiply(terms_, width, terms_, back.data(), terms_, work.packed.data(),
                    work.bars.data() + half * terms_ * net_.ld(), net_.ld(), 0);
      }
      net_.backward(work, nodes(q), sums[q].data());
    }
    net_.write(sums, w_bar, b_bar);
    // Biases of the first layer are kind by kind; its weights come before them.
    for (int64_t q = 0; q < kinds_; ++q) {
      std::copy_n(sums[q].data() + first_width_, first_width_, b_bar[0] + q * first_width_);
    }
  }

  // -- rows -----------------------------------------------------------------------------------

  static int64_t groups(const Batch& batch) { return (batch.n + kCenters - 1) / kCenters; }
  static int64_t parts(const Batch& batch) { return std::min(kParts, groups(batch)); }

  /** Call work(arrays, first center, number of centers, part) for all centers. */
  template <class F>
  void each(const Batch& batch, const F& work) const {
    const auto make = [&] { return arrays_for(batch); };
    in_parts(parts(batch), batch.threads, make, [&](Work& arrays, int64_t part) {
      const Range range = part_of(groups(batch), part, parts(batch));
      for (int64_t g = range.first; g < range.last; ++g) {
        const int64_t first = g * kCenters;
        work(arrays, first, std::min(kCenters, batch.n - first), part);
      }
    });
  }

  Work arrays_for(const Batch& batch) const {
    const int64_t rows = kCenters * kRow;
    Work w;
    w.order.resize(batch.k);
    w.begin.resize(kinds_ + 1);
    w.x.resize(batch.k);
    w.basis.resize(batch.k * ld());
    for (std::vector<T>* x : {&w.rows, &w.given, &w.bars}) x->resize(batch.k * kRow);
    w.slopes.resize(batch.k);
    for (std::vector<T>* x : {&w.c, &w.more, &w.turned}) x->resize(rows * columns());
    w.t.resize(rows * net_.ld());
    w.packed.resize(f_.packed_size(rows, net_.width()));
    return w;
  }

  /** Rows of a center, kind by kind, and the polynomials at them. */
  void gather(Work& work, const Batch& batch, int64_t center) const {
    const int64_t* kind = batch.kind ? batch.kind + center * batch.k : nullptr;
    int64_t at = 0;
    for (int64_t q = 0; q < kinds_; ++q) {
      work.begin[q] = at;
      for (int64_t e = 0; e < batch.k; ++e) {
        if (!kind || kind[e] == q) work.order[at++] = e;
      }
    }
    work.begin[kinds_] = at;
    pick(work, batch, batch.r, center, work.rows.data());
    for (int64_t e = 0; e < batch.k; ++e) work.x[e] = (work.rows[e * kRow] - middle_) / half_;
    f_.chebyshev(batch.k, terms_, work.x.data(), work.basis.data(), ld());
  }

  static void pick(const Work& work, const Batch& batch, const T* r, int64_t center, T* to) {
    for (const int64_t e : work.order) {
      std::copy_n(r + (center * batch.k + e) * kRow, kRow, to);
      to += kRow;
    }
  }

  /** Sums c (4 n, columns) of polynomials times rows of n centers. */
  void sums(Work& work, const Batch& batch, int64_t first, int64_t n, Rows kind, const T* r,
            T* c) const {
    std::fill_n(c, kRow * n * columns(), T(0));
    for (int64_t i = 0; i < n; ++i, c += kRow * columns()) {
      gather(work, batch, first + i);
      T* rows = work.given.data();
      pick(work, batch, r, first + i, rows);
      if (kind == Rows::levers) levers(batch.k, work.rows.data(), rows, rows);
      for (int64_t q = 0; q < kinds_; ++q) {
        const int64_t e = work.begin[q];
        f_.jet_contract(work.begin[q + 1] - e, terms_, work.basis.data() + e * ld(), ld(),
                        rows + e * kRow, c + q * ld(), columns());
      }
    }
  }

  /** Adjoints of the rows of a center from those of sums of values and slopes (4, columns). */
  void adjoints(Work& work, const Batch& batch, int64_t center, const T* value, const T* slope,
                T* r_bar) const {
    gather(work, batch, center);
    for (int64_t q = 0; q < kinds_; ++q) {
      const int64_t e = work.begin[q], n = work.begin[q + 1] - e;
      const T *basis = work.basis.data() + e * ld(), *rows = work.rows.data() + e * kRow;
      T *bars = work.bars.data() + e * kRow, *slopes = work.slopes.data() + e;
      f_.jet_contract_backward(n, terms_, basis, basis, ld(), rows, slope + q * ld(), columns(),
                               bars, slopes);
      f_.jet_contract_backward(n, terms_, basis, basis, ld(), rows, value + q * ld(), columns(),
                               bars, work.x.data());
    }
    for (int64_t e = 0; e < batch.k; ++e) {
      T* to = r_bar + (center * batch.k + work.order[e]) * kRow;
      std::copy_n(work.bars.data() + e * kRow, kRow, to);
      to[0] += work.slopes[e];
    }
  }

  /** sums (columns, width) += c^T t. */
  void add_product(Work& work, int64_t n, T* sums) const {
    const int64_t rows = kRow * n;
    for (int64_t p = 0; p < rows; ++p) {
      for (int64_t q = 0; q < columns(); ++q) work.turned[q * rows + p] = work.c[p * columns() + q];
    }
    f_.pack(rows, net_.width(), work.t.data(), net_.ld(), 0, work.packed.data());
    f_.multiply(columns(), net_.width(), rows, work.turned.data(), rows, work.packed.data(), sums,
                net_.width(), 1);
  }

  void read_turned(int64_t first, int64_t n, const T* t, T* to) const {
    for (int64_t i = 0; i < n; ++i) {
      turn_back(net_.width(), net_.ld(), t + (first + i) * net_.width() * kRow,
                to + i * kRow * net_.ld());
    }
  }
  void write_turned(const Work& work, int64_t first, int64_t n, T* t) const {
    for (int64_t i = 0; i < n; ++i) {
      turn(net_.width(), net_.ld(), work.t.data() + i * kRow * net_.ld(),
           t + (first + i) * net_.width() * kRow);
    }
  }

  const typename Kernels<T>::Functions& f_;
  Jets<T> net_;
  const T* first_bias_;
  int64_t first_width_, kinds_, terms_ = 0;
  double steepest_ = 0.0;  // largest weight of the first layer
  T middle_ = 0, half_ = 1;
  std::vector<T> input_, state_, transform_, series_, g_, d_, g_turned_, d_turned_;
};

}  // namespace
}  // namespace deepmd::training

#define DEEPMD_DEFINE_INTERPOLATED(T, S)                                                           \
  struct deepmd_interpolated_##S {                                                                 \
    deepmd::training::Interpolated<T> net;                                                         \
  };                                                                                               \
  deepmd_interpolated_##S* deepmd_interpolated_new_##S(                                            \
      int64_t layers, const int64_t* widths, const int32_t* copies, const T* const* w,             \
      const T* const* b, int64_t kinds, const deepmd_batch_##S* batch) {                           \
    std::unique_ptr<deepmd_interpolated_##S> net;                                                  \
    const int32_t status = deepmd::training::guarded([&] {                                         \
      net.reset(new deepmd_interpolated_##S{{layers, widths, copies, w, b, kinds}});               \
      if (!net->net.fit(*batch)) net.reset();                                                      \
    });                                                                                            \
    return status == 0 ? net.release() : nullptr;                                                  \
  }                                                                                                \
  void deepmd_interpolated_free_##S(deepmd_interpolated_##S* net) { delete net; }                  \
  int32_t deepmd_interpolated_value_##S(deepmd_interpolated_##S* net,                              \
                                        const deepmd_batch_##S* batch, T* t) {                     \
    return deepmd::training::guarded([&] { net->net.value(*batch, t); });                          \
  }                                                                                                \
  int32_t deepmd_interpolated_vjp_##S(deepmd_interpolated_##S* net, const deepmd_batch_##S* batch, \
                                      const T* t_bar, T* r_bar) {                                  \
    return deepmd::training::guarded([&] { net->net.vjp(*batch, t_bar, r_bar); });                 \
  }                                                                                                \
  int32_t deepmd_interpolated_jvp_##S(deepmd_interpolated_##S* net, const deepmd_batch_##S* batch, \
                                      const T* r_dot, T* t_dot) {                                  \
    return deepmd::training::guarded([&] { net->net.jvp(*batch, r_dot, t_dot); });                 \
  }                                                                                                \
  int32_t deepmd_interpolated_vjp_of_vjp_##S(                                                      \
      deepmd_interpolated_##S* net, const deepmd_batch_##S* batch, const T* again, const T* t_bar, \
      const T* r_dot, T* const* w_bar, T* const* b_bar) {                                          \
    return deepmd::training::guarded(                                                              \
        [&] { net->net.vjp_of_vjp(*batch, again, t_bar, r_dot, w_bar, b_bar); });                  \
  }

DEEPMD_DEFINE_INTERPOLATED(double, f64)
DEEPMD_DEFINE_INTERPOLATED(float, f32)
