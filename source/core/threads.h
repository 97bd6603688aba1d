// SPDX-License-Identifier: LGPL-3.0-or-later
/** Threads that wait for work between calls, and loops over tasks that use them. */
#pragma once

#include <cstdint>
#include <functional>

namespace deepmd::core {

/** Do a task; `buffer` is a number that no other task has at the same time. */
using Task = std::function<void(int64_t task, int buffer)>;

/** How many buffers run_in_order may use at the same time. */
int buffers_for(int64_t n_tasks, int threads);

/**
 * Do tasks 0 to n_tasks - 1 on several threads, this one included.
 *
 * `work` runs in parallel; `finish` is called for one task after the other, in their order, while
 * the task's buffer is still its own. So what `finish` sums up does not depend on the threads. The
 * exception of a task that failed is thrown again here, after all others have stopped.
 */
void run_in_order(int64_t n_tasks, int threads, const Task& work, const Task& finish);

}  // namespace deepmd::core
