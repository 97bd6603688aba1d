// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The embedding of training.h: value and slope of the network by its one argument are carried
 * along together, [values; slopes] being one matrix.
 */
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

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
struct Layer {
  int64_t n_in, n_out, ld;  // ld: numbers from one row of the output to the next
  std::vector<T> forward, backward, bias;
  typename Kernels<T>::Layer activation;
};

template <class T>
class Embedding {
 public:
  using Rows = typename RowsOf<T>::type;

  Embedding(int64_t n, const int64_t* widths, const int32_t* copies, const T* const* w,
            const T* const* b)
      : f_(Kernels<T>::get()) {
    for (int64_t l = 0; l < n; ++l) {
      Layer<T> layer{widths[l], widths[l + 1], padded(widths[l + 1]), {}, {}, {}, {}};
      layer.forward.resize(f_.packed_size(layer.n_in, layer.n_out));
      f_.pack(layer.n_in, layer.n_out, w[l], layer.n_out, 0, layer.forward.data());
      layer.backward.resize(f_.packed_size(layer.n_out, layer.n_in));
      f_.pack(layer.n_out, layer.n_in, w[l], layer.n_out, 1, layer.backward.data());
      layer.bias.assign(layer.ld, T(0));
      std::copy(b[l], b[l] + layer.n_out, layer.bias.begin());
      layer.activation = {DEEPMD_TANH, copies[l], 0.0, layer.n_out, nullptr, nullptr};
      state_ += 2 * layer.ld;
      widest_ = std::max({widest_, layer.ld, padded(layer.n_in)});
      layers_.push_back(std::move(layer));
    }
    for (Layer<T>& layer : layers_) layer.activation.bias = layer.bias.data();
  }

  int64_t state() const { return state_; }

  void value(const Rows& rows, T* t) const {
    each(rows, [&](Work& work, const Centers& c, int64_t) {
      forward(work, c);
      for (int64_t i = c.first; i < c.last; ++i) {
        const T* g = values(work, c, i);
        weighted(rows, i, rows.r + i * rows.k * kRow, work.rows.data());
        clear(work.sums);
        f_.jet_contract(here(rows, i), width(), g, ld(), work.rows.data(), work.sums.data(), ld());
        turn(work.sums.data(), t + i * width() * kRow);
      }
    });
  }

  void vjp(const Rows& rows, const T* t_bar, T* r_bar) const {
    each(rows, [&](Work& work, const Centers& c, int64_t) {
      for (int64_t i = c.first; i < c.last; ++i) {
        const T* g = values(work, c, i);
        const int64_t n = here(rows, i);
        T* out = r_bar + i * rows.k * kRow;
        turn_back(t_bar + i * width() * kRow, work.sums.data());
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
        turn(work.sums.data(), t_dot + i * width() * kRow);
      }
    });
  }

  void vjp_of_vjp(const Rows& rows, const T* again, const T* t_bar, const T* r_dot, T* const* w_bar,
                  T* const* b_bar) const {
    // One set for every part, added up in their order: the same for any number of threads.
    std::vector<std::vector<T>> sums(parts(rows), std::vector<T>(weights(), T(0)));
    each(rows, [&](Work& work, const Centers& c, int64_t part) {
      for (int64_t i = c.first; i < c.last; ++i) {
        const int64_t at = i * width() * kRow;
        adjoints(work, rows, c, i, again + at, t_bar + at, r_dot + i * rows.k * kRow);
      }
      backward(work, c, sums[part].data());
    });
    int64_t at = 0;
    for (size_t l = 0; l < layers_.size(); ++l) {
      const int64_t n = layers_[l].n_in * layers_[l].n_out;
      add_up(sums, at, n, w_bar[l]);
      add_up(sums, at + n, layers_[l].n_out, b_bar[l]);
      at += n + layers_[l].n_out;
    }
  }

 private:
  /** Arrays of one thread. */
  struct Work {
    std::vector<T> input, z, slope, sums, rows, more, bars, below, inner, turned, packed;
  };

  /** Centers that are worked on together, and their rows. */
  struct Centers {
    int64_t first, last, rows;
    const T* r;
    T* state;
    const Rows& all;
  };

  int64_t padded(int64_t n) const {
    const int64_t step = 2 * f_.lanes;
    return (n + step - 1) / step * step;
  }
  int64_t width() const { return layers_.back().n_out; }
  int64_t ld() const { return layers_.back().ld; }
  int64_t weights() const {
    int64_t n = 0;
    for (const Layer<T>& layer : layers_) n += (layer.n_in + 1) * layer.n_out;
    return n;
  }

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
             Centers{first, last, rows.first[last] - row, rows.r, rows.state + row * state_, rows},
             part);
      }
    });
  }

  Work arrays_for(const Rows& rows) const {
    const size_t most = rows.k * together(rows), two = 2 * most * widest_;
    Work w;
    w.input.resize(2 * most);
    for (std::vector<T>* x : {&w.z, &w.bars, &w.below, &w.inner, &w.turned}) x->resize(two);
    w.slope.resize(most * widest_);
    w.sums.resize(kRow * ld());
    w.rows.resize(2 * kRow * rows.k);
    w.more.resize(kRow * rows.k);
    w.packed.resize(f_.packed_size(std::max<int64_t>(2 * most, 2 * kRow), widest_));
    return w;
  }

  /** Output of a layer, [values; slopes]; layer 0 is the input. */
  const T* output(const Work& work, const Centers& c, size_t l) const {
    if (l == 0) return work.input.data();
    T* at = c.state;
    for (size_t k = 0; k + 1 < l; ++k) at += 2 * c.rows * layers_[k].ld;
    return at;
  }
  int64_t ld_of(size_t l) const { return l == 0 ? 1 : layers_[l - 1].ld; }

  /** Values of the last layer for the rows of a center. */
  const T* values(const Work& work, const Centers& c, int64_t i) const {
    return output(work, c, layers_.size()) + (c.all.first[i] - c.all.first[c.first]) * ld();
  }

  void read_input(Work& work, const Centers& c) const {
    T* s = work.input.data();
    for (int64_t i = c.first; i < c.last; ++i) {
      for (int64_t e = 0; e < here(c.all, i); ++e) *s++ = c.r[(i * c.all.k + e) * kRow];
    }
    std::fill_n(s, c.rows, T(1));
  }

  void forward(Work& work, const Centers& c) const {
    read_input(work, c);
    for (size_t l = 0; l < layers_.size(); ++l) {
      const Layer<T>& layer = layers_[l];
      const T* x = output(work, c, l);
      const int64_t ldx = ld_of(l), ld = layer.ld, half = c.rows * ld;
      T *z = work.z.data(), *y = const_cast<T*>(output(work, c, l + 1));
      f_.multiply(2 * c.rows, layer.n_out, layer.n_in, x, ldx, layer.forward.data(), z, ld, 0);
      f_.activate(&layer.activation, c.rows, z, x, ldx, y, work.slope.data(), ld);
      f_.activate_tangent(&layer.activation, c.rows, work.slope.data(), z + half, x + c.rows * ldx,
                          ldx, y + half, ld);
    }
  }

  /** Adjoints of values and slopes of the last layer, for the rows of one center. */
  void adjoints(Work& work, const Rows& rows, const Centers& c, int64_t i, const T* again,
                const T* t_bar, const T* r_dot) const {
    const int64_t n = here(rows, i), row = rows.first[i] - rows.first[c.first];
    const T* r = rows.r + i * rows.k * kRow;
    // Rows [r, r_dot] times [again; t_bar], whose columns are the functions.
    T *own = work.more.data(), *pair = work.rows.data(), *both = work.turned.data();
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
    f_.pack(2 * kRow, width(), both, width(), 0, work.packed.data());
    T* bars = work.bars.data() + row * ld();
    f_.multiply(n, width(), 2 * kRow, pair, 2 * kRow, work.packed.data(), bars, ld(), 0);
    f_.pack(kRow, width(), both + kRow * width(), width(), 0, work.packed.data());
    levers(n, r, own, own);
    f_.multiply(n, width(), kRow, own, kRow, work.packed.data(), bars + c.rows * ld(), ld(), 0);
  }

  /** Add the adjoints of all weights, from those of the last layer in work.bars. */
  void backward(Work& work, const Centers& c, T* sums) const {
    read_input(work, c);
    int64_t at = weights();
    for (size_t l = layers_.size(); l-- > 0;) {
      const Layer<T>& layer = layers_[l];
      const T *x = output(work, c, l), *y = output(work, c, l + 1);
      const int64_t ldx = ld_of(l), ld = layer.ld, two = 2 * c.rows;
      at -= (layer.n_in + 1) * layer.n_out;
      f_.tanh_pair_backward(&layer.activation, c.rows, y, x, ldx, work.bars.data(),
                            work.inner.data(), ld);
      const T* inner = work.inner.data();
      for (int64_t p = 0; p < two; ++p) {
        for (int64_t q = 0; q < layer.n_in; ++q) work.turned[q * two + p] = x[p * ldx + q];
      }
      f_.pack(two, layer.n_out, inner, ld, 0, work.packed.data());
      f_.multiply(layer.n_in, layer.n_out, two, work.turned.data(), two, work.packed.data(),
                  sums + at, layer.n_out, 1);
      T* b_bar = sums + at + layer.n_in * layer.n_out;
      for (int64_t p = 0; p < c.rows; ++p) {
        for (int64_t q = 0; q < layer.n_out; ++q) b_bar[q] += inner[p * ld + q];
      }
      if (l == 0) break;
      f_.multiply(two, layer.n_in, layer.n_out, inner, ld, layer.backward.data(), work.below.data(),
                  ldx, 0);
      f_.add_copies(&layer.activation, two, work.bars.data(), ld, work.below.data(), ldx);
      std::swap(work.bars, work.below);
    }
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

  /** Rows r times the first component of r_dot. */
  static void levers(int64_t n, const T* r, const T* r_dot, T* out) {
    for (int64_t e = 0; e < n; ++e) {
      const T first = r_dot[e * kRow];
      for (int64_t a = 0; a < kRow; ++a) out[e * kRow + a] = r[e * kRow + a] * first;
    }
  }

  void turn(const T* sums, T* t) const {
    for (int64_t m = 0; m < width(); ++m) {
      for (int64_t a = 0; a < kRow; ++a) *t++ = sums[a * ld() + m];
    }
  }
  void turn_back(const T* t, T* sums) const {
    for (int64_t m = 0; m < width(); ++m) {
      for (int64_t a = 0; a < kRow; ++a) sums[a * ld() + m] = *t++;
    }
  }

  static void add_up(const std::vector<std::vector<T>>& sums, int64_t at, int64_t n, T* out) {
    std::fill_n(out, n, T(0));
    for (const std::vector<T>& part : sums) {
      for (int64_t q = 0; q < n; ++q) out[q] += part[at + q];
    }
  }

  const typename Kernels<T>::Functions& f_;
  std::vector<Layer<T>> layers_;
  int64_t state_ = 0, widest_ = 1;
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
