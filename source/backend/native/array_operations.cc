// SPDX-License-Identifier: LGPL-3.0-or-later
#include "array_operations.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "network.h"

namespace deepmd::native::traced {

namespace {

/** Rows of a product that are evaluated together. */
constexpr int64_t kRows = 192;

[[noreturn]] void outside() {
  throw Failure("an index of the program is outside of its array; write the file again");
}

/** Elements in a row beyond the first axis, if they lie one after the other; -1 if not. */
int64_t dense_row(const View& view, int axis) {
  int64_t next = 1;
  for (int k = view.rank - 1; k > axis; --k) {
    if (view.shape[k] != 1 && view.stride[k] != next) return -1;
    next *= view.shape[k];
  }
  return next;
}

template <class F>
auto with_type(Type type, const F& f) {
  if (type == Type::f64) return f(double{});
  if (type == Type::f32) return f(float{});
  return f(int64_t{});
}

/** Offset of element `place` of the axes first to last of a view, in their order. */
int64_t offset_of(const View& view, const int* axes, int count, int64_t place) {
  int64_t at = 0;
  for (int k = count - 1; k >= 0; --k) {
    at += place % view.shape[axes[k]] * view.stride[axes[k]];
    place /= view.shape[axes[k]];
  }
  return at;
}

template <class T>
void add(int64_t n, const T* x, T* y) {
  if constexpr (std::is_same_v<T, int64_t>) {
    for (int64_t k = 0; k < n; ++k) {
      y[k] = static_cast<int64_t>(static_cast<uint64_t>(y[k]) + static_cast<uint64_t>(x[k]));
    }
  } else {
    Kernels<T>::get().accumulate(n, x, y);
  }
}

template <class T>
void enlarge(int64_t n, const T* x, T* y) {
  // What is not a number stays so.
  for (int64_t k = 0; k < n; ++k) y[k] = !(x[k] <= y[k]) ? x[k] : y[k];
}

/** Sum or largest of n numbers with a step between them. */
template <class T>
T reduced(Op op, int64_t n, const T* x, int64_t step) {
  if constexpr (!std::is_same_v<T, int64_t>) {
    if (op == Op::sum && step == 1) return Kernels<T>::get().total(n, x);
  }
  T result = op == Op::sum ? T(0) : std::numeric_limits<T>::lowest();
  for (int64_t k = 0; k < n; ++k) {
    if (op == Op::sum) {
      add<T>(1, x + k * step, &result);
    } else {
      enlarge<T>(1, x + k * step, &result);
    }
  }
  return result;
}

}  // namespace

void Segments::find(const View& index, int64_t count) {
  const int64_t n = index.shape[0];
  starts.assign(static_cast<size_t>(count) + 1, 0);
  rows.resize(static_cast<size_t>(n));
  const auto at = [&](int64_t k) { return index.as<int64_t>()[k * index.stride[0]]; };
  for (int64_t k = 0; k < n; ++k) {
    if (at(k) < 0 || at(k) >= count) outside();
    ++starts[at(k) + 1];
  }
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  std::vector<int64_t> next(starts.begin(), starts.end() - 1);
  for (int64_t k = 0; k < n; ++k) rows[next[at(k)]++] = k;
}

// -- products -------------------------------------------------------------------------------------

template <class T>
void Packed<T>::pack(const View& b) {
  const auto& kernels = Kernels<T>::get();
  const int64_t k = b.shape[0], n = b.shape[1];
  sized(data, std::max<int64_t>(kernels.packed_size(k, n), 1));
  if (k == 0 || n == 0) return;
  if (b.stride[1] == 1 || n == 1) return kernels.pack(k, n, b.as<T>(), b.stride[0], 0, data.data());
  if (b.stride[0] == 1 || k == 1) return kernels.pack(k, n, b.as<T>(), b.stride[1], 1, data.data());
  std::vector<T> whole(static_cast<size_t>(k * n));
  copy(b, dense(b.type, b.shape.data(), 2, reinterpret_cast<char*>(whole.data())), Parallel(1));
  kernels.pack(k, n, whole.data(), n, 0, data.data());
}

template <class T>
void multiply(const View& a, const T* packed, const View& to, const Parallel& parallel) {
  const int64_t m = a.shape[0], k = a.shape[1], n = to.shape[1];
  if (m == 0 || n == 0) return;
  const auto& kernels = Kernels<T>::get();
  const bool fits = a.stride[1] == 1 || k <= 1;
  const int64_t blocks = (m + kRows - 1) / kRows;
  parallel(blocks, kRows * std::max<int64_t>(k * n / 8, 1), [&](int64_t first, int64_t last) {
    thread_local std::vector<T> lines;
    for (int64_t block = first; block < last; ++block) {
      View part = a.moved(0, block * kRows);
      part.shape[0] = std::min(kRows, m - block * kRows);
      int64_t lda = part.stride[0];
      const T* from = part.as<T>();
      if (!fits) {
        T* whole = sized(lines, part.shape[0] * k);
        copy(part, dense(a.type, part.shape.data(), 2, reinterpret_cast<char*>(whole)),
             Parallel(1));
        from = whole;
        lda = k;
      }
      kernels.multiply(part.shape[0], n, k, from, lda, packed, to.as<T>() + block * kRows * n, n,
                       0);
    }
  });
}

template <class T>
void multiply_stacks(const View& a, const View& b, const View& to, const Parallel& parallel) {
  const auto plane = [](const View& stack, int64_t k) {
    View one = stack.moved(0, k);
    one.rank = 2;
    for (int d = 0; d < 2; ++d) {
      one.shape[d] = stack.shape[d + 1];
      one.stride[d] = stack.stride[d + 1];
    }
    return one;
  };
  const int64_t work = a.shape[1] * a.shape[2] * b.shape[2];
  parallel(a.shape[0], work / 8 + 1, [&](int64_t first, int64_t last) {
    thread_local Packed<T> packed;
    for (int64_t k = first; k < last; ++k) {
      packed.pack(plane(b, k));
      multiply<T>(plane(a, k), packed.data.data(), plane(to, k), Parallel(1));
    }
  });
}

template struct Packed<double>;
template struct Packed<float>;
template void multiply<double>(const View&, const double*, const View&, const Parallel&);
template void multiply<float>(const View&, const float*, const View&, const Parallel&);
template void multiply_stacks<double>(const View&, const View&, const View&, const Parallel&);
template void multiply_stacks<float>(const View&, const View&, const View&, const Parallel&);

// -- rows -----------------------------------------------------------------------------------------

void take(const View& from, const View& index, int axis, const View& to, const Parallel& parallel) {
  const int64_t n = index.shape[0], most = from.shape[axis], width = width_of(from.type);
  const auto at = [&](int64_t k) { return index.as<int64_t>()[k * index.stride[0]]; };
  for (int64_t k = 0; k < n; ++k) {
    if (at(k) < 0 || at(k) >= most) outside();
  }
  const int64_t row = dense_row(from, axis);
  if (axis == 0 && row >= 0) {
    const int64_t bytes = row * width, step = from.stride[0] * width;
    parallel(n, row, [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; ++k) {
        std::memcpy(to.data + k * bytes, from.data + at(k) * step, static_cast<size_t>(bytes));
      }
    });
    return;
  }
  View line = from, target = to;
  line.shape[axis] = target.shape[axis] = 1;
  for (int64_t k = 0; k < n; ++k) copy(line.moved(axis, at(k)), target.moved(axis, k), parallel);
}

void segment_sum(const View& from, const Segments& segments, const View& to,
                 const Parallel& parallel) {
  const int64_t row = dense_row(from, 0), step = from.stride[0];
  const auto count = static_cast<int64_t>(segments.starts.size()) - 1;
  const int64_t mean = from.shape[0] / std::max<int64_t>(count, 1) + 1;
  with_type(from.type, [&](auto zero) {
    using T = decltype(zero);
    parallel(count, row * mean, [&](int64_t first, int64_t last) {
      for (int64_t s = first; s < last; ++s) {
        T* sums = to.as<T>() + s * row;
        std::fill_n(sums, row, zero);
        for (int64_t k = segments.starts[s]; k < segments.starts[s + 1]; ++k) {
          add(row, from.as<T>() + segments.rows[k] * step, sums);
        }
      }
    });
  });
}

void scatter(const View& index, const View& rows, const View& to, const Parallel& parallel) {
  for (int64_t k = 0; k < index.shape[0]; ++k) {
    const int64_t place = index.as<int64_t>()[k * index.stride[0]];
    if (place < 0 || place >= to.shape[0]) outside();
    View from = rows.moved(0, k), target = to.moved(0, place);
    from.shape[0] = target.shape[0] = 1;
    copy(from, target, parallel);
  }
}

// -- reductions -----------------------------------------------------------------------------------

void reduce(Op op, const View& from, const std::vector<int64_t>& axes, const View& to,
            const Parallel& parallel) {
  int kept[kMostDims], gone[kMostDims], n_kept = 0, n_gone = 0;
  for (int k = 0; k < from.rank; ++k) {
    const bool is_gone = std::find(axes.begin(), axes.end(), k) != axes.end();
    (is_gone ? gone[n_gone++] : kept[n_kept++]) = k;
  }
  int64_t results = to.size(), terms = 1;
  for (int k = 0; k < n_gone; ++k) terms *= from.shape[gone[k]];
  if (op == Op::max && terms == 0 && results > 0) {
    throw Failure("the program asks for the largest of no numbers; write the file again");
  }
  const int last = from.rank - 1;
  const bool in_rows = n_kept > 0 && kept[n_kept - 1] == last && from.stride[last] == 1 &&
                       from.shape[last] >= 4;
  const int64_t row = in_rows ? from.shape[last] : 1;
  // Along the last of the reduced axes numbers are taken one after the other.
  const int inner = n_gone > 0 && !in_rows ? gone[n_gone - 1] : -1;
  const int64_t length = inner >= 0 ? from.shape[inner] : 1;
  const int64_t runs = length > 0 ? terms / length : 0;
  with_type(from.type, [&](auto zero) {
    using T = decltype(zero);
    parallel(results / std::max<int64_t>(row, 1), row * std::max<int64_t>(terms, 1),
             [&](int64_t first, int64_t end) {
               for (int64_t r = first; r < end; ++r) {
                 const T* start = from.as<T>() + offset_of(from, kept, n_kept - in_rows, r);
                 T* result = to.as<T>() + r * row;
                 std::fill_n(result, row, op == Op::sum ? zero : std::numeric_limits<T>::lowest());
                 for (int64_t k = 0; k < runs; ++k) {
                   const T* x = start + offset_of(from, gone, n_gone - (inner >= 0), k);
                   T one = zero;
                   if (!in_rows) {
                     one = reduced<T>(op, length, x, inner >= 0 ? from.stride[inner] : 1);
                     x = &one;
                   }
                   if (op == Op::sum) {
                     add(row, x, result);
                   } else {
                     enlarge(row, x, result);
                   }
                 }
               }
             });
  });
}

}  // namespace deepmd::native::traced
