// SPDX-License-Identifier: LGPL-3.0-or-later
/** Work in parts that do not depend on the number of threads. */
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace deepmd::training {

/** Parts that work is cut into: enough for the threads of a workstation. */
constexpr int64_t kParts = 32;

/** Numbers first to last of one of `parts` parts of n. */
struct Range {
  int64_t first, last;
};

inline Range part_of(int64_t n, int64_t part, int64_t parts) {
  return {n * part / parts, n * (part + 1) / parts};
}

/**
 * Runs f(data) on several threads, the calling one among them, as GOMP_parallel of OpenMP does.
 *
 * A framework's threads wait for work in a loop for a while: threads beside them would share their
 * processors.
 */
using Team = void (*)(void (*f)(void*), void* data, unsigned threads, unsigned flags);
inline std::atomic<Team> team{nullptr};

/**
 * Call work(arrays, part) for every part, by several threads that have arrays of their own, from
 * make(); throws what the first failure threw.
 */
template <class Make, class Work>
void in_parts(int64_t parts, int32_t threads, const Make& make, const Work& work) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr reason;
  const auto run = [&] {
    try {
      auto arrays = make();
      for (int64_t part = next++; part < parts; part = next++) work(arrays, part);
    } catch (...) {
      if (!failed.exchange(true)) reason = std::current_exception();
      next = parts;
    }
  };
  const int64_t more = std::min<int64_t>(threads, parts) - 1;
  const Team together = more > 0 ? team.load() : nullptr;
  if (together) {
    const auto call = [](void* f) { (*static_cast<decltype(run)*>(f))(); };
    together(call, const_cast<void*>(static_cast<const void*>(&run)),
             static_cast<unsigned>(more + 1), 0);
  } else {
    std::vector<std::thread> others;
    try {
      for (int64_t t = 0; t < more; ++t) others.emplace_back(run);
    } catch (const std::exception&) {
      // Fewer threads than asked for do the same work.
    }
    run();
    for (std::thread& other : others) other.join();
  }
  if (reason) std::rethrow_exception(reason);
}

}  // namespace deepmd::training
