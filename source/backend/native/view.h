// SPDX-License-Identifier: LGPL-3.0-or-later
/** Arrays in memory with strides, and the memory of the results of a program. */
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "operations.h"

namespace deepmd::native::traced {

constexpr int kMostDims = 8;
using Dims = std::array<int64_t, kMostDims>;

/** Numbers of an array with strides in elements; 0 where they are repeated. */
struct View {
  Type type = Type::f64;
  int rank = 0;
  char* data = nullptr;
  Dims shape{}, stride{};

  int64_t size() const;
  bool contiguous() const;
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  /** The same place, moved along an axis. */
  View moved(int axis, int64_t steps) const;
};

/** A view of dense numbers. */
View dense(Type type, const int64_t* shape, int rank, char* data);

/** See dense numbers, or others whose strides allow it, in another shape; false: a copy is needed. */
bool reshape(const View& from, const int64_t* shape, int rank, View& to);

/** Several views of one shape with as few axes as possible; the strides of each, and the shape. */
struct Loops {
  int rank = 0;
  Dims shape{};
  std::vector<Dims> strides;

  Loops(const int64_t* shape, int rank, const std::vector<const View*>& views);
};

/** Strides of a view that is repeated to a shape with at least as many axes. */
View repeated(const View& view, const int64_t* shape, int rank);

/** Do parts first to last of n elements on several threads; results must not depend on the parts. */
class Parallel {
 public:
  explicit Parallel(int threads) : threads_(threads) {}
  int threads() const { return threads_; }
  /** `work` is the number of elements that are touched for each of n. */
  void operator()(int64_t n, int64_t work,
                  const std::function<void(int64_t first, int64_t last)>& part) const;

 private:
  int threads_;
};

/** Copy numbers between views of one shape and type. */
void copy(const View& from, const View& to, const Parallel& parallel);

/** Memory of one or more arrays. */
struct Block {
  std::unique_ptr<char[]> memory;
  char* data = nullptr;
  int64_t size = 0;
  int users = 0;
};

/** Blocks that are used again. */
class Pool {
 public:
  /** A block with one user; throws Failure beyond the limit. */
  Block* take(int64_t size);
  void give(Block* block);
  /** Give back all, after a failure. */
  void give_all();
  void limit(int64_t bytes) { limit_ = bytes; }

 private:
  std::vector<std::unique_ptr<Block>> all_;
  std::vector<Block*> spare_;
  int64_t used_ = 0, limit_ = 0;
};

}  // namespace deepmd::native::traced
