/* SPDX-License-Identifier: LGPL-3.0-or-later */
/*
 * A backend in C that was built against an earlier release of backend.h: its structures end where
 * those of that release ended. It opens every file *.short, and its energy is that of fake_backend:
 * e_i = 1/2 sum_j c (1 - r_ij^2 / 16)^3 with c = 1 + 0.3 (t_i + t_j).
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend.h"

/** deepmd_info up to the entries: no framework and no probes. */
struct short_info {
  size_t struct_size;
  const char* description;
  uint32_t entries;
};

/** deepmd_edges_request up to the results: arrays that came later are not looked at. */
struct short_request {
  size_t struct_size;
  int64_t n_edges;
  int64_t n_atoms;
  int64_t n_frames;
  deepmd_array vec;
  deepmd_array i;
  deepmd_array j;
  deepmd_array atype;
  deepmd_array frame;
  const deepmd_input* inputs;
  const deepmd_array* slots;
  int32_t n_inputs;
  int32_t n_slots;
  const deepmd_result* results;
};

/** deepmd_result up to the gradient. */
struct short_result {
  size_t struct_size;
  const char* name;
  deepmd_array value;
  deepmd_array gradient;
};

/** deepmd_backend_functions up to close. */
struct short_functions {
  size_t struct_size;
  uint32_t version;
  const char* name;
  const char* suffixes;
  int (*open)(const deepmd_source*, deepmd_backend_model**, char*, size_t);
  int (*query)(deepmd_backend_model*, const deepmd_info**, char*, size_t);
  int (*evaluate)(deepmd_backend_model*, const deepmd_edges_request*, char*, size_t);
  void (*close)(deepmd_backend_model*);
};

_Static_assert(sizeof(struct short_info) < sizeof(deepmd_info), "shorter");
_Static_assert(sizeof(struct short_request) < sizeof(deepmd_edges_request), "shorter");
_Static_assert(sizeof(struct short_result) < sizeof(deepmd_result), "shorter");
_Static_assert(sizeof(struct short_functions) < sizeof(deepmd_backend_functions), "shorter");
_Static_assert(offsetof(struct short_info, entries) == offsetof(deepmd_info, entries), "begin");
_Static_assert(offsetof(struct short_request, results) == offsetof(deepmd_edges_request, results),
               "begin");

static const char description[] =
    "{\"schema\": 1, \"type_map\": [\"T0\", \"T1\"], \"rcut\": 4.0, \"interaction_range\": 4.0,"
    " \"sel\": [200, 200], \"inputs\": [], \"outputs\": [{\"name\": \"energy\", \"level\": "
    "\"atom\","
    " \"size\": 1, \"differentiable\": true, \"intensive\": false}],"
    " \"packings\": [{\"layout\": \"flat\", \"ntypes\": 2, \"rcut\": 4.0, \"sel\": [200, 200],"
    " \"by_centre\": false, \"exclude\": [], \"nearest\": 0, \"edge_rcut\": 0.0, \"edge_sel\": 0}],"
    " \"core_types\": 2, \"contributing_types\": [true, true], \"selected_types\": [],"
    " \"use_spin\": [], \"spin_scale\": [], \"precision\": \"float64\", \"message_passing\": false,"
    " \"mixed_types\": false}";

/** Everything lies in blocks of exactly its size, so that reading beyond it is noticed. */
struct deepmd_backend_model {
  struct short_info* info;
};

static void close_model(deepmd_backend_model* model) {
  free(model->info);
  free(model);
}

static int open_model(const deepmd_source* source, deepmd_backend_model** model, char* error,
                      size_t error_size) {
  deepmd_backend_model* made = calloc(1, sizeof(*made));
  (void)source, (void)error, (void)error_size;
  made->info = calloc(1, sizeof(*made->info));
  made->info->struct_size = sizeof(*made->info);
  made->info->description = description;
  made->info->entries = DEEPMD_EDGES;
  *model = made;
  return 0;
}

static int query(deepmd_backend_model* model, const deepmd_info** info, char* error,
                 size_t error_size) {
  (void)error, (void)error_size;
  *info = (const deepmd_info*)model->info;
  return 0;
}

static int evaluate(deepmd_backend_model* model, const deepmd_edges_request* given, char* error,
                    size_t error_size) {
  struct short_request request;
  struct short_result result;
  (void)model;
  deepmd_read(&request, sizeof(request), given);
  deepmd_read(&result, sizeof(result), request.results);
  if (request.vec.device != DEEPMD_CPU || request.vec.dtype != DEEPMD_FLOAT64) {
    snprintf(error, error_size, "vec is no float64 array on the CPU");
    return 1;
  }
  const double* vec = request.vec.data;
  const int64_t *i = request.i.data, *j = request.j.data, *atype = request.atype.data;
  double *energy = result.value.data, *gradient = result.gradient.data;
  for (int64_t a = 0; a < request.n_atoms; ++a) energy[a] = 0.0;
  for (int64_t e = 0; e < request.n_edges; ++e) {
    const double* d = vec + 3 * e;
    const double x = 1.0 - (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / 16.0;
    const double c = 1.0 + 0.3 * (double)(atype[i[e]] + atype[j[e]]);
    energy[i[e]] += 0.5 * c * x * x * x;
    for (int k = 0; gradient && k < 3; ++k) gradient[3 * e + k] = -3.0 * c * x * x / 16.0 * d[k];
  }
  return 0;
}

static const struct short_functions functions = {
    sizeof(functions), DEEPMD_BACKEND_VERSION, "Short", ".short", open_model, query, evaluate,
    close_model,
};

__attribute__((visibility("default"))) const deepmd_backend_functions* deepmd_backend(void) {
  return (const deepmd_backend_functions*)&functions;
}
