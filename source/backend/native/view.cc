// SPDX-License-Identifier: LGPL-3.0-or-later
#include "view.h"

#include <algorithm>
#include <cstring>

#include "core/threads.h"

namespace deepmd::native::traced {

namespace {

/** Elements that are worth a task of their own. */
constexpr int64_t kTask = 1 << 14;
constexpr int64_t kAlignment = 64;

/** Copy a line of elements. */
template <class T>
void copy_line(const char* from, int64_t step, char* to, int64_t to_step, int64_t n) {
  const T* x = reinterpret_cast<const T*>(from);
  T* y = reinterpret_cast<T*>(to);
  if (step == 1 && to_step == 1) {
    std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
  } else if (step == 0 && to_step == 1) {
    std::fill_n(y, n, *x);
  } else {
    for (int64_t k = 0; k < n; ++k) y[k * to_step] = x[k * step];
  }
}

void copy_any(int64_t width, const char* from, int64_t step, char* to, int64_t to_step, int64_t n) {
  if (width == 8) return copy_line<int64_t>(from, step, to, to_step, n);
  if (width == 4) return copy_line<int32_t>(from, step, to, to_step, n);
  copy_line<char>(from, step, to, to_step, n);
}

}  // namespace

int64_t View::size() const {
  int64_t n = 1;
  for (int k = 0; k < rank; ++k) n *= shape[k];
  return n;
}

bool View::contiguous() const {
  int64_t next = 1;
  for (int k = rank - 1; k >= 0; --k) {
    if (shape[k] != 1 && stride[k] != next) return size() == 0;
    next *= shape[k];
  }
  return true;
}

View View::moved(int axis, int64_t steps) const {
  View view = *this;
  view.data += steps * stride[axis] * width_of(type);
  return view;
}

View dense(Type type, const int64_t* shape, int rank, char* data) {
  View view;
  view.type = type;
  view.rank = rank;
  view.data = data;
  int64_t next = 1;
  for (int k = rank - 1; k >= 0; --k) {
    view.shape[k] = shape[k];
    view.stride[k] = next;
    next *= shape[k];
  }
  return view;
}

bool reshape(const View& from, const int64_t* shape, int rank, View& to) {
  to = dense(from.type, shape, rank, from.data);
  if (from.contiguous()) return true;
  // Axes of the old shape that belong together, as long as they lie one after the other.
  const Loops old(from.shape.data(), from.rank, {&from});
  int k = rank - 1;
  for (int a = old.rank - 1; a >= 0; --a) {
    int64_t left = old.shape[a], step = old.strides[0][a];
    for (; left > 1; --k) {
      if (k < 0 || shape[k] == 0 || left % shape[k] != 0) return false;
      to.stride[k] = step;
      step *= shape[k];
      left /= shape[k];
    }
  }
  for (; k >= 0; --k) to.stride[k] = 0;
  return true;
}

View repeated(const View& view, const int64_t* shape, int rank) {
  View wide = view;
  wide.rank = rank;
  const int more = rank - view.rank;
  for (int k = 0; k < rank; ++k) {
    wide.shape[k] = shape[k];
    wide.stride[k] = k < more || view.shape[k - more] == 1 ? 0 : view.stride[k - more];
  }
  return wide;
}

Loops::Loops(const int64_t* from, int from_rank, const std::vector<const View*>& views)
    : strides(views.size()) {
  for (int k = 0; k < from_rank; ++k) {
    if (from[k] == 1) continue;
    bool joins = rank > 0;
    for (size_t v = 0; joins && v < views.size(); ++v) {
      joins = strides[v][rank - 1] == views[v]->stride[k] * from[k];
    }
    if (!joins) shape[rank++] = 1;
    shape[rank - 1] *= from[k];
    for (size_t v = 0; v < views.size(); ++v) strides[v][rank - 1] = views[v]->stride[k];
  }
  if (rank == 0) shape[rank++] = 1;
}

void Parallel::operator()(int64_t n, int64_t work,
                          const std::function<void(int64_t first, int64_t last)>& part) const {
  if (n <= 0) return;
  const int64_t least = std::max<int64_t>(1, kTask / std::max<int64_t>(work, 1));
  const int64_t tasks = std::min<int64_t>((n + least - 1) / least, int64_t{4} * threads_);
  if (threads_ <= 1 || tasks <= 1) return part(0, n);
  core::run_in_order(
      tasks, threads_,
      [&](int64_t task, int) { part(task * n / tasks, (task + 1) * n / tasks); },
      [](int64_t, int) {});
}

void copy(const View& from, const View& to, const Parallel& parallel) {
  if (from.size() == 0) return;
  const Loops loops(from.shape.data(), from.rank, {&from, &to});
  const int64_t width = width_of(from.type);
  const int last = loops.rank - 1;
  int64_t lines = 1;
  for (int k = 0; k < last; ++k) lines *= loops.shape[k];
  const int64_t length = loops.shape[last];
  if (lines == 1) {
    parallel(length, 1, [&](int64_t first, int64_t end) {
      copy_any(width, from.data + first * loops.strides[0][last] * width, loops.strides[0][last],
               to.data + first * loops.strides[1][last] * width, loops.strides[1][last],
               end - first);
    });
    return;
  }
  parallel(lines, length, [&](int64_t first, int64_t end) {
    for (int64_t line = first; line < end; ++line) {
      int64_t rest = line, x = 0, y = 0;
      for (int k = last - 1; k >= 0; --k) {
        const int64_t place = rest % loops.shape[k];
        rest /= loops.shape[k];
        x += place * loops.strides[0][k];
        y += place * loops.strides[1][k];
      }
      copy_any(width, from.data + x * width, loops.strides[0][last], to.data + y * width,
               loops.strides[1][last], length);
    }
  });
}

Block* Pool::take(int64_t size) {
  size = std::max<int64_t>(size, 1);
  auto best = spare_.end();
  for (auto it = spare_.begin(); it != spare_.end(); ++it) {
    if ((*it)->size >= size && (best == spare_.end() || (*it)->size < (*best)->size)) best = it;
  }
  if (best != spare_.end() && (*best)->size / 2 <= size + 4096) {
    Block* block = *best;
    spare_.erase(best);
    block->users = 1;
    return block;
  }
  // What is too small for this will hardly be used again.
  if (used_ + size > limit_) {
    for (Block* block : spare_) {
      used_ -= block->size;
      const auto place = std::find_if(all_.begin(), all_.end(),
                                      [&](const auto& one) { return one.get() == block; });
      all_.erase(place);
    }
    spare_.clear();
  }
  if (size > limit_ - used_) {
    throw Failure("the program asks for more memory than a model needs; write the file again");
  }
  auto block = std::make_unique<Block>();
  block->memory.reset(new char[static_cast<size_t>(size + kAlignment)]);
  const auto address = reinterpret_cast<uintptr_t>(block->memory.get());
  block->data = block->memory.get() + (kAlignment - address % kAlignment) % kAlignment;
  block->size = size;
  block->users = 1;
  used_ += size;
  all_.push_back(std::move(block));
  return all_.back().get();
}

void Pool::give(Block* block) {
  if (--block->users == 0) spare_.push_back(block);
}

void Pool::give_all() {
  spare_.clear();
  for (const auto& block : all_) {
    block->users = 0;
    spare_.push_back(block.get());
  }
}

}  // namespace deepmd::native::traced
