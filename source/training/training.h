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
 *
 * By interpolation, G is evaluated at the nodes of a series of Chebyshev polynomials that has all
 * of its digits, instead of for every row.
 *
 * The activated sum: y = f(z), S_a = sum over the rows of segment a of w y for the first columns,
 * the others of y as they are. With A and R the adjoints of the two, and the segment of a row, the
 * adjoint of y is (w A, R), that of w the sum of y A.
 *
 * The scalar sum: with G a small network of tanh layers of one number, S = sum over the k numbers s
 * of a center of s G(s). Nothing is kept between the four functions.
 *
 * Attention: the layer of attention.h, and that of pair_attention.h, the derivatives as for the
 * embedding.
 *
 * The convolution, and moments, of features y (k, c) of the neighbors of a center, with weights of
 * pairs f (k, a), directions h (k, 3) and a projection w (a, c): the sum over neighbors of (f w) y,
 * and h^T y (3, c). The derivatives as for the embedding.
 *
 * Arrays are dense. Results do not depend on the number of threads.
 */
#ifndef DEEPMD_TRAINING_H
#define DEEPMD_TRAINING_H

#include <stdint.h>

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Run work on the threads of a framework from now on, by its GOMP_parallel; NULL: on own ones. */
void deepmd_training_use_threads(void (*team)(void (*f)(void*), void* data, unsigned threads,
                                              unsigned flags));

/** 1 if all of the segments (k) are rows of an array of n, 2 if they are in ascending order, too.
 */
int32_t deepmd_are_segments(int64_t k, const int64_t* segment, int64_t n);

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
      const T* t_bar, const T* r_dot, T* const* w_bar, T* const* b_bar);                           \
  typedef struct deepmd_interpolated_##S deepmd_interpolated_##S;                                  \
  /** The rows of one evaluation by interpolation. */                                              \
  typedef struct deepmd_batch_##S {                                                                \
    int64_t n, k;                                                                                  \
    const T* r;          /**< (n, k, 4) */                                                         \
    const int64_t* kind; /**< (n, k), or NULL: all of kind 0 */                                    \
    int32_t threads;                                                                               \
  } deepmd_batch_##S;                                                                              \
  /** The embedding by interpolation of G: for every kind of row a network, with a bias of its own \
      in the first layer, b[0] (kinds, width). NULL if this is no less work, if G has no series of \
      few terms, or if there is no memory. */                                                      \
  deepmd_interpolated_##S* deepmd_interpolated_new_##S(                                            \
      int64_t layers, const int64_t* widths, const int32_t* copies, const T* const* w,             \
      const T* const* b, int64_t kinds, const deepmd_batch_##S* batch);                            \
  void deepmd_interpolated_free_##S(deepmd_interpolated_##S* net);                                 \
  int32_t deepmd_interpolated_value_##S(deepmd_interpolated_##S* net,                              \
                                        const deepmd_batch_##S* batch, T* t);                      \
  int32_t deepmd_interpolated_vjp_##S(deepmd_interpolated_##S* net, const deepmd_batch_##S* batch, \
                                      const T* t_bar, T* r_bar);                                   \
  int32_t deepmd_interpolated_jvp_##S(deepmd_interpolated_##S* net, const deepmd_batch_##S* batch, \
                                      const T* r_dot, T* t_dot);                                   \
  int32_t deepmd_interpolated_vjp_of_vjp_##S(                                                      \
      deepmd_interpolated_##S* net, const deepmd_batch_##S* batch, const T* again, const T* t_bar, \
      const T* r_dot, T* const* w_bar, T* const* b_bar);                                           \
  /** The arrays of kernels.h; segments are in ascending order, and sums are written. */           \
  int32_t deepmd_activated_value_##S(const deepmd_activated_##S* a, int64_t n, int32_t threads,    \
                                     const T* z, T* sums, T* others);                              \
  int32_t deepmd_activated_vjp_##S(const deepmd_activated_##S* a, int32_t threads, const T* z,     \
                                   const T* sums_bar, const T* others_bar, T* z_bar, T* w_bar);    \
  int32_t deepmd_activated_jvp_##S(const deepmd_activated_##S* a, int64_t n, int32_t threads,      \
                                   const T* z, const T* z_dot, const T* w_dot, T* sums_dot,        \
                                   T* others_dot);                                                 \
  int32_t deepmd_activated_vjp_of_vjp_##S(const deepmd_activated_##S* a, int32_t threads,          \
                                          const T* z, const T* sums_again, const T* others_again,  \
                                          const T* sums_bar, const T* others_bar, const T* z_dot,  \
                                          const T* w_dot, T* z_bar);                               \
  /** Sums (n, width) over s (n, k), and the derivatives as for the embedding. The widths of a     \
      network add up to less than DEEPMD_SCALAR_ROWS. */                                           \
  int32_t deepmd_scalar_value_##S(const deepmd_scalar_##S* net, int64_t n, int64_t k, const T* s,  \
                                  int32_t threads, T* sums);                                       \
  int32_t deepmd_scalar_vjp_##S(const deepmd_scalar_##S* net, int64_t n, int64_t k, const T* s,    \
                                const T* bar, int32_t threads, T* s_bar);                          \
  int32_t deepmd_scalar_jvp_##S(const deepmd_scalar_##S* net, int64_t n, int64_t k, const T* s,    \
                                const T* s_dot, int32_t threads, T* sums_dot);                     \
  int32_t deepmd_scalar_vjp_of_vjp_##S(const deepmd_scalar_##S* net, int64_t n, int64_t k,         \
                                       const T* s, const T* again, const T* bar, const T* s_dot,   \
                                       int32_t threads, T* const* w_bar, T* const* b_bar);         \
  /** Attention of width e and hidden width h: w_in (e, 3 h), b_in (3 h), w_out (h, e), b_out (e), \
      gamma (e), beta (e). */                                                                      \
  typedef struct deepmd_attention_layer_##S {                                                      \
    int64_t e, h;                                                                                  \
    double scale, eps;                                                                             \
    const T *w_in, *b_in, *w_out, *b_out, *gamma, *beta;                                           \
  } deepmd_attention_layer_##S;                                                                    \
  /** Slots of n centers, k each, and `more` empty ones each that are not here. */                 \
  typedef struct deepmd_slots_##S {                                                                \
    int64_t n, k, more;                                                                            \
    const T *x, *sw, *unit;        /**< (n, k, e), (n, k), (n, k, 3) */                            \
    const int64_t *filled, *first; /**< (n), (n + 1), from attention_count */                      \
    T* state;                      /**< the last of `first` numbers; from value to vjp_of_vjp */   \
    int32_t threads;                                                                               \
  } deepmd_slots_##S;                                                                              \
  /** Slots up to the last that is not empty (mask 0), and where the state of every center is. */  \
  void deepmd_attention_count_##S(const deepmd_attention_layer_##S* layer, int64_t n, int64_t k,   \
                                  const T* mask, int64_t* filled, int64_t* first);                 \
  int32_t deepmd_attention_value_##S(const deepmd_attention_layer_##S* layer,                      \
                                     const deepmd_slots_##S* slots, T* y);                         \
  int32_t deepmd_attention_vjp_##S(const deepmd_attention_layer_##S* layer,                        \
                                   const deepmd_slots_##S* slots, const T* y_bar, T* x_bar,        \
                                   T* sw_bar, T* unit_bar);                                        \
  int32_t deepmd_attention_jvp_##S(const deepmd_attention_layer_##S* layer,                        \
                                   const deepmd_slots_##S* slots, const T* x_dot, const T* sw_dot, \
                                   const T* unit_dot, T* y_dot);                                   \
  /** grads: adjoints of the six arrays of the layer, one after the other. */                      \
  int32_t deepmd_attention_vjp_of_vjp_##S(const deepmd_attention_layer_##S* layer,                 \
                                          const deepmd_slots_##S* slots, const T* again,           \
                                          const T* y_bar, const T* x_dot, T* x_bar, T* grads);     \
  /** Attention of pairs of width e, the kernel pair_attention.h: w (e, 2 heads e), b (e). */      \
  typedef struct deepmd_pair_attention_layer_##S {                                                 \
    int64_t e, heads;                                                                              \
    double scale;                                                                                  \
    int32_t gated;                                                                                 \
    const T *w, *b;                                                                                \
  } deepmd_pair_attention_layer_##S;                                                               \
  /** As for the layers above; grads: adjoints of w and b. */                                      \
  void deepmd_pair_attention_count_##S(const deepmd_pair_attention_layer_##S* layer, int64_t n,    \
                                       int64_t k, const T* mask, int64_t* filled, int64_t* first); \
  int32_t deepmd_pair_attention_value_##S(const deepmd_pair_attention_layer_##S* layer,            \
                                          const deepmd_slots_##S* slots, T* y);                    \
  int32_t deepmd_pair_attention_vjp_##S(const deepmd_pair_attention_layer_##S* layer,              \
                                        const deepmd_slots_##S* slots, const T* y_bar, T* x_bar,   \
                                        T* sw_bar, T* unit_bar);                                   \
  int32_t deepmd_pair_attention_jvp_##S(const deepmd_pair_attention_layer_##S* layer,              \
                                        const deepmd_slots_##S* slots, const T* x_dot,             \
                                        const T* sw_dot, const T* unit_dot, T* y_dot);             \
  int32_t deepmd_pair_attention_vjp_of_vjp_##S(                                                    \
      const deepmd_pair_attention_layer_##S* layer, const deepmd_slots_##S* slots, const T* again, \
      const T* y_bar, const T* x_dot, T* x_bar, T* grads);                                         \
  /** Convolution of n centers with k slots each: w (a, c), y (n, k, c), f (n, k, a), h (n, k, 3); \
      `state`, from value to vjp_of_vjp, takes deepmd_convolution_state numbers. */                \
  typedef struct deepmd_convolution_##S {                                                          \
    int64_t n, k, a, c;                                                                            \
    const T *w, *y, *f, *h;                                                                        \
    T* state;                                                                                      \
    int32_t threads;                                                                               \
  } deepmd_convolution_##S;                                                                        \
  int64_t deepmd_convolution_state_##S(const deepmd_convolution_##S* layer);                       \
  /** sums (n, c), moments (n, 3, c) */                                                            \
  int32_t deepmd_convolution_value_##S(const deepmd_convolution_##S* layer, T* sums, T* moments);  \
  /** bar: adjoints of sums and moments; out: those of y, f and h, which are written. */           \
  int32_t deepmd_convolution_vjp_##S(const deepmd_convolution_##S* layer, const T* const* bar,     \
                                     T* const* out);                                               \
  /** dot: tangents of y, f and h. */                                                              \
  int32_t deepmd_convolution_jvp_##S(const deepmd_convolution_##S* layer, const T* const* dot,     \
                                     T* sums_dot, T* moments_dot);                                 \
  /** Adjoints of y, f, h and w in the value, whose adjoints are given again, and in the vjp. */   \
  int32_t deepmd_convolution_vjp_of_vjp_##S(const deepmd_convolution_##S* layer,                   \
                                            const T* const* again, const T* const* bar,            \
                                            const T* const* dot, T* const* out, T* w_bar);         \
  /** out (n, c) = sums of rows x (k, c) by index (k), each from 0 to n - 1, in their order. */    \
  int32_t deepmd_segment_sum_##S(int64_t k, int64_t c, int64_t n, const T* x,                      \
                                 const int64_t* index, int32_t threads, T* out);

DEEPMD_DECLARE_TRAINING(double, f64)
DEEPMD_DECLARE_TRAINING(float, f32)

#ifdef __cplusplus
}
#endif

#endif
