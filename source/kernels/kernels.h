// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Kernels of the native engine: matrix products, activations, embedding tables, environment rows.
 *
 * A plain C interface without any framework. Every function works on one block of atoms or edges,
 * on the calling thread only, and takes no memory. The same sources are compiled for several
 * instruction sets; deepmd_kernels_f64 and deepmd_kernels_f32 return the functions for the
 * processor that runs them. Layouts that depend on its vectors are opaque: arrays are packed and
 * read by functions of one table.
 *
 * Matrices are dense, row by row, with the distance of two rows given. Lengths are in Angstrom.
 */
#ifndef DEEPMD_KERNELS_H
#define DEEPMD_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Activation functions; see deepmd/dpmodel/nn/activation.py. */
enum deepmd_activation {
  DEEPMD_LINEAR = 0,
  DEEPMD_TANH = 1,
  DEEPMD_GELU = 2,
  DEEPMD_RELU = 3,
  DEEPMD_RELU6 = 4,
  DEEPMD_SOFTPLUS = 5,
  DEEPMD_SIGMOID = 6,
  DEEPMD_SILU = 7,
  DEEPMD_SILUT = 8,
};

/** Functions of the elements of one or two arrays. */
enum deepmd_map {
  DEEPMD_MAP_ADD,
  DEEPMD_MAP_SUB,
  DEEPMD_MAP_MUL,
  DEEPMD_MAP_DIV,
  DEEPMD_MAP_MAXIMUM,
  DEEPMD_MAP_MINIMUM,
  DEEPMD_MAP_POW,
  DEEPMD_MAP_NEG,
  DEEPMD_MAP_ABS,
  DEEPMD_MAP_SIGN,
  DEEPMD_MAP_EXP,
  DEEPMD_MAP_EXPM1,
  DEEPMD_MAP_LOG,
  DEEPMD_MAP_LOG1P,
  DEEPMD_MAP_SQRT,
  DEEPMD_MAP_TANH,
  DEEPMD_MAP_SIGMOID,
  DEEPMD_MAP_SIN,
  DEEPMD_MAP_COS,
  DEEPMD_MAP_FLOOR,
  DEEPMD_MAP_ERF,
};

/** Comparisons of the elements of two arrays. */
enum deepmd_compare {
  DEEPMD_COMPARE_LT,
  DEEPMD_COMPARE_LE,
  DEEPMD_COMPARE_GT,
  DEEPMD_COMPARE_GE,
  DEEPMD_COMPARE_EQ,
  DEEPMD_COMPARE_NE,
};

/** Components of a row of the environment matrix. */
#define DEEPMD_ROW 4

/** Most functions of a scalar network: its layers' widths and one, added up. */
#define DEEPMD_SCALAR_ROWS 64

/** Most terms of a polynomial of deepmd_pieces; their number is even. */
#define DEEPMD_PIECE_TERMS 16

/** What the derivatives of an environment row by the vector need, per edge. */
#define DEEPMD_ROW_SLOPES 4

/** Switch and protection of an environment matrix; mean and deviation of the center's type. */
typedef struct deepmd_environment {
  double rcut, rcut_smth, protection; /**< [Angstrom] */
  double mean[DEEPMD_ROW];
  double inverse_deviation[DEEPMD_ROW];
} deepmd_environment;

#define DEEPMD_DECLARE_KERNELS(T, S)                                                               \
  /** A dense layer, without its weights: y = act(z + bias) * step, plus the input `copies` times. \
   */                                                                                              \
  typedef struct deepmd_layer_##S {                                                                \
    int32_t activation; /**< one of deepmd_activation */                                           \
    int32_t copies;     /**< 0; 1: y += x; 2: y += [x, x] */                                       \
    double threshold;   /**< of DEEPMD_SILUT */                                                    \
    int64_t width;      /**< of y */                                                               \
    const T* bias;      /**< (width) or NULL */                                                    \
    const T* step;      /**< (width) or NULL: time steps */                                        \
  } deepmd_layer_##S;                                                                              \
                                                                                                   \
  /** Rows z (rows, columns) that are activated, y = f(z), by DEEPMD_TANH, DEEPMD_SILU or          \
      DEEPMD_SILUT; the first columns are summed, weighted, over segments, the others remain. */   \
  typedef struct deepmd_activated_##S {                                                            \
    int32_t activation;                                                                            \
    double threshold; /**< of DEEPMD_SILUT */                                                      \
    int64_t rows, columns;                                                                         \
    int64_t summed;         /**< number of columns that are summed */                              \
    const T* weight;        /**< (rows) */                                                         \
    const int64_t* segment; /**< (rows), row of the sums */                                        \
  } deepmd_activated_##S;                                                                          \
                                                                                                   \
  /** A network G of one number s: layers y = tanh(x w + b), plus x `copies` times; `widths`       \
      (layers + 1), the first of which is 1, w (width, next width). */                             \
  typedef struct deepmd_scalar_##S {                                                               \
    int64_t layers;                                                                                \
    const int64_t* widths;                                                                         \
    const int32_t* copies;                                                                         \
    const T* const* w;                                                                             \
    const T* const* b;                                                                             \
  } deepmd_scalar_##S;                                                                             \
                                                                                                   \
  /** Attention of width e and hidden width h, with packed weights; see attention.h. */            \
  typedef struct deepmd_attention_##S {                                                            \
    int64_t e, h;                                                                                  \
    double scale, eps;                    /**< factor of the logits; of the normalization */       \
    const T *w_in, *w_in_turned;          /**< (e, 3 h) and its transpose */                       \
    const T *w_out, *w_out_turned;        /**< (h, e) and its transpose */                         \
    const T *b_in, *b_out, *gamma, *beta; /**< (3 h), (e), (e), (e) */                             \
  } deepmd_attention_##S;                                                                          \
                                                                                                   \
  /** Attention of width e with several heads, see pair_attention.h: weights, packed, of queries,  \
      then of values, head by head. */                                                             \
  typedef struct deepmd_pair_attention_##S {                                                       \
    int64_t e, heads;                                                                              \
    double scale;          /**< factor of the logits */                                            \
    int32_t gated;         /**< whether logits are multiplied by cosines */                        \
    const T *w, *w_turned; /**< (e, 2 heads e) and its transpose */                                \
    const T* b;            /**< (e) */                                                             \
  } deepmd_pair_attention_##S;                                                                     \
                                                                                                   \
  /** Slots of one center, n neighbors first; `more` slots are empty, here or beyond. */           \
  typedef struct deepmd_attended_##S {                                                             \
    int64_t n, rows, more;                                                                         \
    const T *x, *sw, *unit; /**< (rows, e), (rows), (rows, 3) */                                   \
    T *state, *work;        /**< attention_state and attention_work numbers */                     \
  } deepmd_attended_##S;                                                                           \
                                                                                                   \
  /** Embedding table in the layout of a processor. */                                             \
  typedef struct deepmd_table_##S {                                                                \
    const T* data;            /**< from table_pack */                                              \
    int64_t rows;             /**< intervals */                                                    \
    int64_t width;            /**< functions */                                                    \
    double lower, upper, end; /**< fine part, then coarse part */                                  \
    double fine, coarse;      /**< lengths of the intervals */                                     \
    int32_t symmetric;        /**< whether there is a coarse part before the fine one, too */      \
  } deepmd_table_##S;                                                                              \
                                                                                                   \
  /** Functions of one number s that are polynomials on pieces of its range: of the place          \
      t = (s - middle) scale, which goes from -1 to 1. Pieces are found by cells of equal length.  \
   */                                                                                              \
  typedef struct deepmd_pieces_##S {                                                               \
    const T* data;        /**< matrices (terms, width), each from pack */                          \
    int64_t terms, width; /**< of a polynomial; functions */                                       \
    int64_t cells;                                                                                 \
    double lower, inverse; /**< start, and one divided by the length of a cell */                  \
    const int32_t* piece;  /**< (cells) */                                                         \
    const double* middle;  /**< (pieces) */                                                        \
    const double* scale;   /**< (pieces) */                                                        \
  } deepmd_pieces_##S;                                                                             \
                                                                                                   \
  typedef struct deepmd_kernels_##S {                                                              \
    const char* name; /**< instruction set */                                                      \
    /** Numbers in a vector. Rows of work arrays (z, y, slope, sums, g, bias, step) take a         \
        multiple of twice this; what lies beyond the width may be read and written. */             \
    int64_t lanes;                                                                                 \
    /** Numbers that a packed matrix (k, n) takes. */                                              \
    int64_t (*packed_size)(int64_t k, int64_t n);                                                  \
    /** Pack b (k, n) or, transposed, the transpose of b (n, k). */                                \
    void (*pack)(int64_t k, int64_t n, const T* b, int64_t ldb, int32_t transposed, T* packed);    \
    /** c (m, n) = a (m, k) b, plus c itself with `add`. */                                        \
    void (*multiply)(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* packed,    \
                     T* c, int64_t ldc, int32_t add);                                              \
    /** The same with a given by its transpose (k, m). */                                          \
    void (*multiply_turned)(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda,              \
                            const T* packed, T* c, int64_t ldc, int32_t add);                      \
    /** y (m, width) from z, where it may lie, and the input x; slope dy/dz or NULL. */            \
    void (*activate)(const deepmd_layer_##S* layer, int64_t m, const T* z, const T* x,             \
                     int64_t ldx, T* y, T* slope, int64_t ld);                                     \
    /** Derivative dy of y by a parameter from that of z, where it may lie, and of x. */           \
    void (*activate_tangent)(const deepmd_layer_##S* layer, int64_t m, const T* slope,             \
                             const T* dz, const T* dx, int64_t ldx, T* dy, int64_t ld);            \
    /** z_bar = y_bar * slope, n numbers. */                                                       \
    void (*activate_backward)(int64_t n, const T* y_bar, const T* slope, T* z_bar);                \
    /** A layer of tanh and its derivative by one number: y = tanh(z) + copies of x and            \
        dy = tanh'(z) dz + copies of dx. Adjoints of [z; dz] from those of [y; dy], two blocks     \
        of m rows each, as in y and x. */                                                          \
    void (*tanh_pair_backward)(const deepmd_layer_##S* layer, int64_t m, const T* y, const T* x,   \
                               int64_t ldx, const T* y_bar, T* z_bar, int64_t ld);                 \
    /** x_bar (m, n_in) += y_bar as far as a layer adds its input. */                              \
    void (*add_copies)(const deepmd_layer_##S* layer, int64_t m, const T* y_bar, int64_t ld,       \
                       T* x_bar, int64_t ldx);                                                     \
    /** sums (., summed) += w y, others (rows, columns - summed) = y. */                           \
    void (*activated_value)(const deepmd_activated_##S* a, const T* z, T* sums, T* others);        \
    /** Adjoints of z and of the weights from those of sums and others. */                         \
    void (*activated_vjp)(const deepmd_activated_##S* a, const T* z, const T* sums_bar,            \
                          const T* others_bar, T* z_bar, T* w_bar);                                \
    /** Tangents, those of the sums being added, from tangents of z and the weights. */            \
    void (*activated_jvp)(const deepmd_activated_##S* a, const T* z, const T* z_dot,               \
                          const T* w_dot, T* sums_dot, T* others_dot);                             \
    /** Adjoint of z in the value, whose adjoints are given again, and in the vjp, whose results   \
        have the adjoints z_dot and w_dot. */                                                      \
    void (*activated_vjp_of_vjp)(const deepmd_activated_##S* a, const T* z, const T* sums_again,   \
                                 const T* others_again, const T* sums_bar, const T* others_bar,    \
                                 const T* z_dot, const T* w_dot, T* z_bar);                        \
    /** sums (width) += sum over n numbers of s G(s). */                                           \
    void (*scalar_value)(const deepmd_scalar_##S* net, int64_t n, const T* s, T* sums);            \
    /** Adjoint s_bar (n) from that of the sums. */                                                \
    void (*scalar_vjp)(const deepmd_scalar_##S* net, int64_t n, const T* s, const T* bar,          \
                       T* s_bar);                                                                  \
    /** sums_dot (width) += tangent of the sums from that of s. */                                 \
    void (*scalar_jvp)(const deepmd_scalar_##S* net, int64_t n, const T* s, const T* s_dot,        \
                       T* sums_dot);                                                               \
    /** Adjoints of weights and biases, layer by layer, in the sums, whose adjoint is given again, \
        and in s_bar, whose adjoint is s_dot; each is the total of `lanes` numbers, which are      \
        added to. */                                                                               \
    void (*scalar_vjp_of_vjp)(const deepmd_scalar_##S* net, int64_t n, const T* s, const T* again, \
                              const T* bar, const T* s_dot, T* sums);                              \
    /** Numbers that are kept from value to vjp_of_vjp for n neighbors, and those of scratch. */   \
    int64_t (*attention_state)(const deepmd_attention_##S* net, int64_t n, int64_t rows);          \
    int64_t (*attention_work)(const deepmd_attention_##S* net, int64_t rows);                      \
    /** y (rows, e) */                                                                             \
    void (*attention_value)(const deepmd_attention_##S* net, const deepmd_attended_##S* c, T* y);  \
    /** Adjoints of x, sw and unit; those of switches of empty slots are 0. */                     \
    void (*attention_vjp)(const deepmd_attention_##S* net, const deepmd_attended_##S* c,           \
                          const T* y_bar, T* x_bar, T* sw_bar, T* unit_bar);                       \
    /** Tangent of y; those of switches of empty slots are 0. */                                   \
    void (*attention_jvp)(const deepmd_attention_##S* net, const deepmd_attended_##S* c,           \
                          const T* x_dot, const T* sw_dot, const T* unit_dot, T* y_dot);           \
    /** Adjoint of x in the value, whose adjoint is given again, and in the vjp; those of w_in,    \
        b_in, w_out, b_out, gamma and beta, one after the other, which are added to. */            \
    void (*attention_vjp_of_vjp)(const deepmd_attention_##S* net, const deepmd_attended_##S* c,    \
                                 const T* again, const T* y_bar, const T* x_dot, T* x_bar,         \
                                 T* grads);                                                        \
    /** The same of the attention of pairs; the weights are w and b, the directions of any length. \
     */                                                                                            \
    int64_t (*pair_attention_state)(const deepmd_pair_attention_##S* net, int64_t n,               \
                                    int64_t rows);                                                 \
    int64_t (*pair_attention_work)(const deepmd_pair_attention_##S* net, int64_t rows);            \
    void (*pair_attention_value)(const deepmd_pair_attention_##S* net,                             \
                                 const deepmd_attended_##S* c, T* y);                              \
    void (*pair_attention_vjp)(const deepmd_pair_attention_##S* net, const deepmd_attended_##S* c, \
                               const T* y_bar, T* x_bar, T* sw_bar, T* unit_bar);                  \
    void (*pair_attention_jvp)(const deepmd_pair_attention_##S* net, const deepmd_attended_##S* c, \
                               const T* x_dot, const T* sw_dot, const T* unit_dot, T* y_dot);      \
    void (*pair_attention_vjp_of_vjp)(const deepmd_pair_attention_##S* net,                        \
                                      const deepmd_attended_##S* c, const T* again,                \
                                      const T* y_bar, const T* x_dot, T* x_bar, T* grads);         \
    /** Numbers that a packed table takes. */                                                      \
    int64_t (*table_size)(int64_t rows, int64_t width);                                            \
    /** Pack coefficients (rows, width, 6). */                                                     \
    void (*table_pack)(int64_t rows, int64_t width, const T* data, T* packed);                     \
    /** Interval of every s, place in it, and how far beyond the table it lies. */                 \
    void (*table_places)(const deepmd_table_##S* table, int64_t n, const T* s, int64_t stride,     \
                         int32_t* row, T* place, T* beyond);                                       \
    /** sums (4, lds) += sum over n edges of G(s) r; r (n, 4). */                                  \
    void (*table_contract)(const deepmd_table_##S* table, int64_t n, const int32_t* row,           \
                           const T* place, const T* beyond, const T* r, T* sums, int64_t lds);     \
    /** r_bar (n, 4) from sums_bar (4, lds), and s_bar (n), the derivative by the argument of G;   \
        without s_bar it is added to the first component. */                                       \
    void (*table_contract_backward)(const deepmd_table_##S* table, int64_t n, const int32_t* row,  \
                                    const T* place, const T* beyond, const T* r,                   \
                                    const T* sums_bar, int64_t lds, T* r_bar, T* s_bar);           \
    /** sums (width) += sum over n edges of G(s). */                                               \
    void (*table_sum)(const deepmd_table_##S* table, int64_t n, const int32_t* row,                \
                      const T* place, const T* beyond, T* sums);                                   \
    /** s_bar (n) with the given stride from sums_bar (width). */                                  \
    void (*table_sum_backward)(const deepmd_table_##S* table, int64_t n, const int32_t* row,       \
                               const T* place, const T* beyond, const T* sums_bar, T* s_bar,       \
                               int64_t stride);                                                    \
    /** Piece of every s and place in it; -1 outside. Whether there is none of these. */           \
    int32_t (*pieces_places)(const deepmd_pieces_##S* pieces, int64_t n, const T* s,               \
                             int64_t stride, int32_t* piece, T* place);                            \
    /** The two contractions with polynomials on pieces. */                                        \
    void (*pieces_contract)(const deepmd_pieces_##S* pieces, int64_t n, const int32_t* piece,      \
                            const T* place, const T* r, T* sums, int64_t lds);                     \
    void (*pieces_contract_backward)(const deepmd_pieces_##S* pieces, int64_t n,                   \
                                     const int32_t* piece, const T* place, const T* r,             \
                                     const T* sums_bar, int64_t lds, T* r_bar, T* s_bar);          \
    /** The same two contractions with values g and slopes dg (n, width) by s. */                  \
    void (*jet_contract)(int64_t n, int64_t width, const T* g, int64_t ldg, const T* r, T* sums,   \
                         int64_t lds);                                                             \
    void (*jet_contract_backward)(int64_t n, int64_t width, const T* g, const T* dg, int64_t ldg,  \
                                  const T* r, const T* sums_bar, int64_t lds, T* r_bar, T* s_bar); \
    void (*jet_sum)(int64_t n, int64_t width, const T* g, int64_t ldg, T* sums);                   \
    void (*jet_sum_backward)(int64_t n, int64_t width, const T* dg, int64_t ldg,                   \
                             const T* sums_bar, T* s_bar, int64_t stride);                         \
    /** d (width, axis) = sums^T sums_<, sums (4, lds). Folded: rows below `axis` begin at the     \
        diagonal, as the square before it is symmetric. */                                         \
    void (*symmetrize)(int64_t width, int64_t axis, const T* sums, int64_t lds, int32_t folded,    \
                       T* d);                                                                      \
    /** sums_bar (4, lds) from d_bar (width, axis), or folded. */                                  \
    void (*symmetrize_backward)(int64_t width, int64_t axis, const T* sums, int64_t lds,           \
                                const T* d_bar, int32_t folded, T* sums_bar);                      \
    /** Normalized rows r (n, 4) of vectors vec[3 edge[k]], and what derivatives need. */          \
    void (*environment)(const deepmd_environment* settings, int64_t n, const int64_t* edge,        \
                        const double* vec, T* r, double* slopes);                                  \
    /** gradient[3 edge[k]] += r_bar (n, 4) times the derivatives of the rows. */                  \
    void (*environment_backward)(const deepmd_environment* settings, int64_t n,                    \
                                 const int64_t* edge, const double* vec, const double* slopes,     \
                                 const T* r_bar, double* gradient, int64_t stride);                \
    /** z (n) from x and, where the function has two arguments, y; z may be one of them. */        \
    void (*map)(int32_t op, int64_t n, const T* x, const T* y, T* z);                              \
    /** z (n): 1 where the comparison of x and y holds, or 0. */                                   \
    void (*compare)(int32_t op, int64_t n, const T* x, const T* y, uint8_t* z);                    \
    /** z (n): x where the condition holds, y elsewhere. */                                        \
    void (*choose)(int64_t n, const uint8_t* condition, const T* x, const T* y, T* z);             \
    /** y (n) += x. */                                                                             \
    void (*accumulate)(int64_t n, const T* x, T* y);                                               \
    /** Sum of x (n). */                                                                           \
    T (*total)(int64_t n, const T* x);                                                             \
    /** Chebyshev polynomials T_0, T_1, ... (n, terms) of x (n); up to a multiple of `lanes` terms \
        are written. */                                                                            \
    void (*chebyshev)(int64_t n, int64_t terms, const T* x, T* values, int64_t ld);                \
  } deepmd_kernels_##S;                                                                            \
                                                                                                   \
  /** Functions for this processor. */                                                             \
  const deepmd_kernels_##S* deepmd_kernels_for_##S(void);

DEEPMD_DECLARE_KERNELS(double, f64)
DEEPMD_DECLARE_KERNELS(float, f32)

#ifdef __cplusplus
}
#endif

#endif
