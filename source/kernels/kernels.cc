// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The kernels for one instruction set; compiled for several, with DEEPMD_KERNELS its name.
 *
 * Nothing but the two tables of functions is seen from outside.
 */
#include "kernels.h"

#include "activated.h"
#include "attention.h"
#include "chebyshev.h"
#include "descriptor.h"
#include "gemm.h"
#include "maps.h"
#include "network.h"
#include "pair_attention.h"
#include "pieces.h"
#include "scalar.h"
#include "table.h"

#define DEEPMD_JOIN_NAMES(a, b) a##b
#define DEEPMD_JOIN(a, b) DEEPMD_JOIN_NAMES(a, b)
#define DEEPMD_TEXT_OF(a) #a
#define DEEPMD_TEXT(a) DEEPMD_TEXT_OF(a)

#define DEEPMD_DEFINE_KERNELS(T, S)                                                                \
  extern "C" const deepmd_kernels_##S DEEPMD_JOIN(deepmd_kernels_##S##_, DEEPMD_KERNELS);          \
  const deepmd_kernels_##S DEEPMD_JOIN(deepmd_kernels_##S##_, DEEPMD_KERNELS) = {                  \
      DEEPMD_TEXT(DEEPMD_KERNELS),                                                                 \
      kLanes<T>,                                                                                   \
      packed_size<T>,                                                                              \
      pack<T>,                                                                                     \
      multiply<T>,                                                                                 \
      multiply_turned<T>,                                                                          \
      activate<T, deepmd_layer_##S>,                                                               \
      activate_tangent<T, deepmd_layer_##S>,                                                       \
      activate_backward<T>,                                                                        \
      tanh_pair_backward<T, deepmd_layer_##S>,                                                     \
      add_copies<T, deepmd_layer_##S>,                                                             \
      activated_value<T, deepmd_activated_##S>,                                                    \
      activated_vjp<T, deepmd_activated_##S>,                                                      \
      activated_jvp<T, deepmd_activated_##S>,                                                      \
      activated_vjp_of_vjp<T, deepmd_activated_##S>,                                               \
      scalar_value<T, deepmd_scalar_##S>,                                                          \
      scalar_vjp<T, deepmd_scalar_##S>,                                                            \
      scalar_jvp<T, deepmd_scalar_##S>,                                                            \
      scalar_vjp_of_vjp<T, deepmd_scalar_##S>,                                                     \
      attention_state<T, deepmd_attention_##S, deepmd_attended_##S>,                               \
      attention_work<T, deepmd_attention_##S, deepmd_attended_##S>,                                \
      attention_value<T, deepmd_attention_##S, deepmd_attended_##S>,                               \
      attention_vjp<T, deepmd_attention_##S, deepmd_attended_##S>,                                 \
      attention_jvp<T, deepmd_attention_##S, deepmd_attended_##S>,                                 \
      attention_vjp_of_vjp<T, deepmd_attention_##S, deepmd_attended_##S>,                          \
      pair_attention_state<T, deepmd_pair_attention_##S, deepmd_attended_##S>,                     \
      pair_attention_work<T, deepmd_pair_attention_##S, deepmd_attended_##S>,                      \
      pair_attention_value<T, deepmd_pair_attention_##S, deepmd_attended_##S>,                     \
      pair_attention_vjp<T, deepmd_pair_attention_##S, deepmd_attended_##S>,                       \
      pair_attention_jvp<T, deepmd_pair_attention_##S, deepmd_attended_##S>,                       \
      pair_attention_vjp_of_vjp<T, deepmd_pair_attention_##S, deepmd_attended_##S>,                \
      table_size<T>,                                                                               \
      table_pack<T>,                                                                               \
      table_places<T, deepmd_table_##S>,                                                           \
      table_contract<T, deepmd_table_##S>,                                                         \
      table_contract_backward<T, deepmd_table_##S>,                                                \
      table_sum<T, deepmd_table_##S>,                                                              \
      table_sum_backward<T, deepmd_table_##S>,                                                     \
      pieces_places<T, deepmd_pieces_##S>,                                                         \
      pieces_contract<T, deepmd_pieces_##S>,                                                       \
      pieces_contract_backward<T, deepmd_pieces_##S>,                                              \
      jet_contract<T>,                                                                             \
      jet_contract_backward<T>,                                                                    \
      jet_sum<T>,                                                                                  \
      jet_sum_backward<T>,                                                                         \
      symmetrize<T>,                                                                               \
      symmetrize_backward<T>,                                                                      \
      environment<T>,                                                                              \
      environment_backward<T>,                                                                     \
      map<T>,                                                                                      \
      compare<T>,                                                                                  \
      choose<T>,                                                                                   \
      accumulate<T>,                                                                               \
      total<T>,                                                                                    \
      chebyshev<T>,                                                                                \
  };

DEEPMD_DEFINE_KERNELS(double, f64)
DEEPMD_DEFINE_KERNELS(float, f32)
