// SPDX-License-Identifier: LGPL-3.0-or-later
#include "chain.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "network.h"

namespace deepmd::native::traced {

namespace {

/** Elements of a tile: those of all operands and registers stay in the first caches. */
constexpr int64_t kTile = 512;

/** One operand of a chain over the elements of the result, numbered in their order. */
class Operand {
 public:
  Operand(const Loops& loops, size_t k, const View& view)
      : loops_(loops), strides_(loops.strides[k]), view_(view), width_(width_of(view.type)) {
    dense_ = loops.rank == 1 && strides_[0] == 1;
    constant_ = std::all_of(strides_.begin(), strides_.begin() + loops.rank,
                            [](int64_t s) { return s == 0; });
  }

  bool constant() const { return constant_; }

  /** Elements first to first + n: where they lie, or `buffer` filled with them. */
  const char* tile(int64_t first, int64_t n, char* buffer) const {
    if (dense_) return view_.data + first * width_;
    switch (width_) {
      case 8:
        return gather<int64_t>(first, n, buffer);
      case 4:
        return gather<int32_t>(first, n, buffer);
      default:
        return gather<char>(first, n, buffer);
    }
  }

 private:
  template <class T>
  const char* gather(int64_t first, int64_t n, char* buffer) const {
    const T* data = reinterpret_cast<const T*>(view_.data);
    T* to = reinterpret_cast<T*>(buffer);
    if (constant_) {
      std::fill_n(to, n, *data);
      return buffer;
    }
    const int last = loops_.rank - 1;
    Dims place{};
    int64_t rest = first, at = 0;
    for (int k = last; k >= 0; --k) {
      place[k] = rest % loops_.shape[k];
      rest /= loops_.shape[k];
      at += place[k] * strides_[k];
    }
    const int64_t step = strides_[last];
    if (step == 1 && place[last] + n <= loops_.shape[last]) {
      return reinterpret_cast<const char*>(data + at);
    }
    for (int64_t k = 0; k < n;) {
      const int64_t count = std::min(n - k, loops_.shape[last] - place[last]);
      line(data + at, step, count, to + k);
      k += count;
      at += count * step;
      place[last] += count;
      for (int a = last; a > 0 && place[a] == loops_.shape[a]; --a) {
        at += strides_[a - 1] - place[a] * strides_[a];
        place[a] = 0;
        ++place[a - 1];
      }
    }
    return buffer;
  }

  template <class T>
  static void line(const T* from, int64_t step, int64_t n, T* to) {
    if (step == 1) {
      for (int64_t k = 0; k < n; ++k) to[k] = from[k];
    } else if (step == 0) {
      for (int64_t k = 0; k < n; ++k) to[k] = *from;
    } else {
      for (int64_t k = 0; k < n; ++k) to[k] = from[k * step];
    }
  }

  const Loops& loops_;
  const Dims& strides_;
  const View& view_;
  int64_t width_;
  bool dense_ = false, constant_ = false;
};

int64_t whole_number(int32_t function, int64_t a, int64_t b) {
  // As unsigned numbers, whose sums and products are defined for all values.
  const auto x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
  switch (function) {
    case DEEPMD_MAP_ADD:
      return static_cast<int64_t>(x + y);
    case DEEPMD_MAP_SUB:
      return static_cast<int64_t>(x - y);
    case DEEPMD_MAP_MUL:
      return static_cast<int64_t>(x * y);
    case DEEPMD_MAP_MAXIMUM:
      return std::max(a, b);
    case DEEPMD_MAP_MINIMUM:
      return std::min(a, b);
    default:
      return static_cast<int64_t>(uint64_t{0} - x);
  }
}

bool compared(int32_t function, int64_t a, int64_t b) {
  switch (function) {
    case DEEPMD_COMPARE_LT:
      return a < b;
    case DEEPMD_COMPARE_LE:
      return a <= b;
    case DEEPMD_COMPARE_GT:
      return a > b;
    case DEEPMD_COMPARE_GE:
      return a >= b;
    case DEEPMD_COMPARE_EQ:
      return a == b;
    default:
      return a != b;
  }
}

/** A whole number of a real one, whatever it is. */
int64_t truncated(double x) {
  constexpr double most = 9.2e18;
  return x != x ? 0 : static_cast<int64_t>(std::clamp(x, -most, most));
}

template <class From, class To>
void cast_numbers(int64_t n, const char* from, char* to) {
  const From* x = reinterpret_cast<const From*>(from);
  To* y = reinterpret_cast<To*>(to);
  for (int64_t k = 0; k < n; ++k) {
    if constexpr (std::is_same_v<To, int64_t> && std::is_floating_point_v<From>) {
      y[k] = truncated(x[k]);
    } else {
      y[k] = static_cast<To>(x[k]);
    }
  }
}

template <class From>
void cast_from(Type type, int64_t n, const char* from, char* to) {
  switch (type) {
    case Type::f64:
      return cast_numbers<From, double>(n, from, to);
    case Type::f32:
      return cast_numbers<From, float>(n, from, to);
    case Type::i64:
      return cast_numbers<From, int64_t>(n, from, to);
    case Type::boolean:
      break;
  }
  const From* x = reinterpret_cast<const From*>(from);
  for (int64_t k = 0; k < n; ++k) to[k] = x[k] != From(0);
}

void cast(const Link& link, int64_t n, const char* from, char* to) {
  switch (link.from) {
    case Type::f64:
      return cast_from<double>(link.to, n, from, to);
    case Type::f32:
      return cast_from<float>(link.to, n, from, to);
    case Type::i64:
      return cast_from<int64_t>(link.to, n, from, to);
    case Type::boolean:
      return cast_from<uint8_t>(link.to, n, from, to);
  }
}

void logical(int32_t function, int64_t n, const char* x, const char* y, char* z) {
  for (int64_t k = 0; k < n; ++k) {
    z[k] = function == kNot ? !x[k] : function == kAnd ? x[k] & y[k] : x[k] | y[k];
  }
}

template <class T>
const T* as(const char* data) {
  return reinterpret_cast<const T*>(data);
}

template <class T>
void real(const Link& link, int64_t n, const char* x, const char* y, char* z) {
  const auto& kernels = Kernels<T>::get();
  if (link.op == Op::map) {
    kernels.map(link.function, n, as<T>(x), as<T>(y), reinterpret_cast<T*>(z));
  } else {
    kernels.compare(link.function, n, as<T>(x), as<T>(y), reinterpret_cast<uint8_t*>(z));
  }
}

void whole(const Link& link, int64_t n, const char* x, const char* y, char* z) {
  const int64_t *a = as<int64_t>(x), *b = y ? as<int64_t>(y) : a;
  if (link.op == Op::map) {
    auto* to = reinterpret_cast<int64_t*>(z);
    for (int64_t k = 0; k < n; ++k) to[k] = whole_number(link.function, a[k], b[k]);
  } else {
    for (int64_t k = 0; k < n; ++k) z[k] = compared(link.function, a[k], b[k]);
  }
}

template <class T>
void choose(int64_t n, const char* c, const char* x, const char* y, char* z) {
  for (int64_t k = 0; k < n; ++k) {
    reinterpret_cast<T*>(z)[k] = c[k] ? as<T>(x)[k] : as<T>(y)[k];
  }
}

void run_link(const Link& link, int64_t n, const char* x, const char* y, const char* w, char* z) {
  switch (link.op) {
    case Op::cast:
      return cast(link, n, x, z);
    case Op::logical:
      return logical(link.function, n, x, y, z);
    case Op::where:
      if (link.to == Type::f64) {
        return Kernels<double>::get().choose(n, as<uint8_t>(x), as<double>(y), as<double>(w),
                                             reinterpret_cast<double*>(z));
      }
      if (link.to == Type::f32) {
        return Kernels<float>::get().choose(n, as<uint8_t>(x), as<float>(y), as<float>(w),
                                            reinterpret_cast<float*>(z));
      }
      return link.to == Type::i64 ? choose<int64_t>(n, x, y, w, z) : choose<char>(n, x, y, w, z);
    default:
      break;
  }
  if (link.from == Type::f64) return real<double>(link, n, x, y, z);
  if (link.from == Type::f32) return real<float>(link, n, x, y, z);
  whole(link, n, x, y, z);
}

}  // namespace

void run_chain(const Chain& chain, const std::vector<View>& operands, const View& to,
               const Parallel& parallel) {
  const int64_t total = to.size(), width = width_of(to.type);
  if (total == 0) return;
  const size_t n_operands = operands.size(), places = n_operands + chain.registers;
  std::vector<View> wide;
  wide.reserve(n_operands);
  for (const View& one : operands) wide.push_back(repeated(one, to.shape.data(), to.rank));
  std::vector<const View*> views;
  for (const View& one : wide) views.push_back(&one);
  const Loops loops(to.shape.data(), to.rank, views);
  std::vector<Operand> sources;
  for (size_t k = 0; k < n_operands; ++k) sources.emplace_back(loops, k, wide[k]);

  const auto length = static_cast<int64_t>(chain.links.size());
  const int64_t tile = std::min(kTile, total);
  const auto part = [&](int64_t first_tile, int64_t last_tile) {
    thread_local std::vector<double> memory;
    const int64_t row = kTile + 16;  // vectors may not be divided among lines of the cache
    char* buffers = reinterpret_cast<char*>(sized(memory, static_cast<int64_t>(places) * row + 16));
    buffers += (64 - reinterpret_cast<uintptr_t>(buffers) % 64) % 64;
    std::vector<const char*> at(places + 1, nullptr);
    const auto buffer = [&](size_t place) { return buffers + place * row * sizeof(double); };
    for (size_t k = 0; k < n_operands; ++k) {
      if (sources[k].constant()) at[k] = sources[k].tile(0, tile, buffer(k));
    }
    for (size_t k = n_operands; k < places; ++k) at[k] = buffer(k);
    for (int64_t t = first_tile; t < last_tile; ++t) {
      const int64_t first = t * kTile, n = std::min(kTile, total - first);
      for (size_t k = 0; k < n_operands; ++k) {
        if (!sources[k].constant()) at[k] = sources[k].tile(first, n, buffer(k));
      }
      for (size_t k = 0; k < chain.links.size(); ++k) {
        const Link& link = chain.links[k];
        const auto arg = [&](int a) { return link.args[a] < 0 ? nullptr : at[link.args[a]]; };
        char* z = k + 1 == chain.links.size() ? to.data + first * width : buffer(link.result);
        run_link(link, n, arg(0), arg(1), arg(2), z);
      }
    }
  };
  parallel((total + kTile - 1) / kTile, kTile * length, part);
}

}  // namespace deepmd::native::traced
