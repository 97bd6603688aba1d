// SPDX-License-Identifier: LGPL-3.0-or-later
#include "threads.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "model.h"

namespace deepmd::core {

namespace {

/** A positive number in an environment variable, which may go on after it, or 0. */
int number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (!text) return 0;
  const long value = std::strtol(text, nullptr, 10);
  return value > 0 && value < 100000 ? static_cast<int>(value) : 0;
}

/** A function that threads may join while its caller is running it. */
struct Offer {
  const std::function<void()>* body;
  int wanted;   ///< threads that may still join
  int running;  ///< threads that have joined and not left
};

/**
 * Threads that live as long as the process. They are never needed: whoever runs a function runs it
 * to the end alone if nobody joins, as in a process made by fork, which has lost them.
 */
class Pool {
 public:
  static Pool& instance() {
    // Never destroyed: its threads may wait in it while the process ends.
    static Pool* pool = new Pool;
    return *pool;
  }

  /** Run `body`, which must not throw, here and on up to `threads` - 1 others at the same time. */
  void run(int threads, const std::function<void()>& body) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (; size_ < threads - 1; ++size_) std::thread([this] { serve(); }).detach();
    const auto offer = offers_.insert(offers_.end(), Offer{&body, threads - 1, 0});
    lock.unlock();
    offered_.notify_all();
    body();
    lock.lock();
    offer->wanted = 0;
    left_.wait(lock, [&] { return offer->running == 0; });
    offers_.erase(offer);
  }

 private:
  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      const auto offer =
          std::find_if(offers_.begin(), offers_.end(), [](const Offer& o) { return o.wanted > 0; });
      if (offer == offers_.end()) {
        offered_.wait(lock);
        continue;
      }
      --offer->wanted;
      ++offer->running;
      lock.unlock();
      (*offer->body)();
      lock.lock();
      --offer->running;
      left_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable offered_, left_;
  std::list<Offer> offers_;
  int size_ = 0;
};

/** The state of one loop over tasks. */
class OrderedLoop {
 public:
  OrderedLoop(int64_t n_tasks, int buffers, const Task& work, const Task& finish)
      : n_tasks_(n_tasks), work_(work), finish_(finish), buffer_of_(n_tasks, -1) {
    for (int b = buffers - 1; b >= 0; --b) free_.push_back(b);
  }

  void run_here() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopped() || !free_.empty(); });
      if (stopped()) return;
      const int64_t task = next_++;
      const int buffer = free_.back();
      free_.pop_back();
      if (!try_unlocked(lock, work_, task, buffer)) return;
      buffer_of_[task] = buffer;
      finish_ready(lock);
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  bool stopped() const { return error_ || next_ >= n_tasks_; }

  /** Finish all tasks whose turn it is, unless another thread is at it: then it does these, too. */
  void finish_ready(std::unique_lock<std::mutex>& lock) {
    if (finishing_) return;
    finishing_ = true;
    while (!error_ && finished_ < n_tasks_ && buffer_of_[finished_] >= 0) {
      const int buffer = buffer_of_[finished_];
      if (!try_unlocked(lock, finish_, finished_, buffer)) break;
      free_.push_back(buffer);
      ++finished_;
      changed_.notify_all();
    }
    finishing_ = false;
  }

  bool try_unlocked(std::unique_lock<std::mutex>& lock, const Task& f, int64_t task, int buffer) {
    lock.unlock();
    std::exception_ptr error;
    try {
      f(task, buffer);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (!error) return true;
    if (!error_) error_ = error;
    changed_.notify_all();
    return false;
  }

  const int64_t n_tasks_;
  const Task& work_;
  const Task& finish_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> buffer_of_;  ///< of tasks that are done and not finished
  std::vector<int> free_;
  int64_t next_ = 0, finished_ = 0;
  bool finishing_ = false;
  std::exception_ptr error_;
};

}  // namespace

int buffers_for(int64_t n_tasks, int threads) {
  if (threads <= 1 || n_tasks <= 1) return 1;
  return static_cast<int>(std::min<int64_t>(n_tasks, 2 * int64_t{threads}));
}

void run_in_order(int64_t n_tasks, int threads, const Task& work, const Task& finish) {
  if (threads <= 1 || n_tasks <= 1) {
    for (int64_t task = 0; task < n_tasks; ++task) {
      work(task, 0);
      finish(task, 0);
    }
    return;
  }
  OrderedLoop loop(n_tasks, buffers_for(n_tasks, threads), work, finish);
  const auto workers = static_cast<int>(std::min<int64_t>(n_tasks, threads));
  Pool::instance().run(workers, [&loop] { loop.run_here(); });
  loop.rethrow();
}

int number_of_threads() {
  for (const char* variable : {"DP_INTRA_OP_PARALLELISM_THREADS", "OMP_NUM_THREADS"}) {
    if (const int threads = number_in(variable)) return threads;
  }
  const int cores = std::max(1u, std::thread::hardware_concurrency());
  // As many threads as cores in each of several ranks would slow each other down.
  for (const char* variable : {"MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "PMI_LOCAL_SIZE",
                               "MV2_COMM_WORLD_LOCAL_SIZE", "SLURM_STEP_TASKS_PER_NODE"}) {
    if (const int ranks = number_in(variable)) return std::max(1, cores / ranks);
  }
  return cores;
}

}  // namespace deepmd::core
