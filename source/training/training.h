// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Operations of a training step with their derivatives, on the kernels, for frameworks.
 *
 * A plain C interface. The embedding: with G a network of tanh layers of one number, and rows r of
 * DEEPMD_ROW numbers, T = sum over the k rows of a center of G(r_0) outer r. A training asks for
 *
 *   value       T (n, width, 4) from r (n, k, 4)
 *   vjp         r_bar from the adjoint t_bar of T: the forces
 *   jvp         t_dot from the tangent r_dot of r, the adjoint of r_bar
 *   vjp_of_vjp  the adjoints of the weights in both T, whose adjoint is given again, and r_bar
 *
 * in this order. The last rows of a center that are equal, the empty slots, are evaluated once.
 * Arrays are dense. Results do not depend on the number of threads.
 */
#ifndef DEEPMD_TRAINING_H
#define DEEPMD_TRAINING_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DEEPMD_DECLARE_TRAINING(T, S)                                                              \
  typedef struct deepmd_embedding_##S deepmd_embedding_##S;                                        \
  /** The rows of one evaluation. */                                                               \
  typedef struct deepmd_rows_##S {                                                                 \
    int64_t n, k;                                                                                  \
    const T* r;           /**< (n, k, 4) */                                                        \
    const int64_t* first; /**< (n + 1), from embedding_count */                                    \
    T* state;             /**< embedding_state numbers per row; from value to vjp_of_vjp */        \
    int32_t threads;                                                                               \
  } deepmd_rows_##S;                                                                               \
  /** Layers y = tanh(x w + b), plus x `copies` times; widths (layers + 1), the first of which     \
      is 1, w (width, next width). NULL if there is no memory. */                                  \
  deepmd_embedding_##S* deepmd_embedding_new_##S(int64_t layers, const int64_t* widths,            \
                                                 const int32_t* copies, const T* const* w,         \
                                                 const T* const* b);                               \
  void deepmd_embedding_free_##S(deepmd_embedding_##S* net);                                       \
  /** Numbers of state that a row takes. */                                                        \
  int64_t deepmd_embedding_state_##S(const deepmd_embedding_##S* net);                             \
  /** Write the number of the first different row of every center; the last is that of all. */     \
  void deepmd_embedding_count_##S(int64_t n, int64_t k, const T* r, int64_t* first);               \
  /** Each returns 0, or 1 if there is no memory. */                                               \
  int32_t deepmd_embedding_value_##S(const deepmd_embedding_##S* net, const deepmd_rows_##S* rows, \
                                     T* t);                                                        \
  int32_t deepmd_embedding_vjp_##S(const deepmd_embedding_##S* net, const deepmd_rows_##S* rows,   \
                                   const T* t_bar, T* r_bar);                                      \
  int32_t deepmd_embedding_jvp_##S(const deepmd_embedding_##S* net, const deepmd_rows_##S* rows,   \
                                   const T* r_dot, T* t_dot);                                      \
  /** `again` is the adjoint of T, `t_bar` that of the vjp before; w_bar and b_bar are written. */ \
  int32_t deepmd_embedding_vjp_of_vjp_##S(                                                         \
      const deepmd_embedding_##S* net, const deepmd_rows_##S* rows, const T* again,                \
      const T* t_bar, const T* r_dot, T* const* w_bar, T* const* b_bar);

DEEPMD_DECLARE_TRAINING(double, f64)
DEEPMD_DECLARE_TRAINING(float, f32)

#ifdef __cplusplus
}
#endif

#endif
