// SPDX-License-Identifier: LGPL-3.0-or-later
// A backend of somebody else: it needs the installed header deepmd/backend.h only. A model file
// holds its cutoff. With phi(r) = c (1 - r^2/rcut^2)^3 and c = 1 + 0.3 (t_i + t_j), energies of
// atoms are the halves of sums of phi over neighbors.
#include <stdio.h>
#include <stdlib.h>

#include "deepmd/backend.h"

struct deepmd_backend_model {
  double rcut;
  char description[1024];
  deepmd_info info;
};

static int open_file(const deepmd_source* source, deepmd_backend_model** model, char* error,
                     size_t size) {
  FILE* file = fopen(source->path, "r");
  deepmd_backend_model* made = calloc(1, sizeof(*made));
  const int read = file && made ? fscanf(file, "%lf", &made->rcut) : 0;
  if (file) fclose(file);
  if (read != 1) {
    free(made);
    snprintf(error, size, "%s: there is no cutoff in the file; write one", source->path);
    return 1;
  }
  snprintf(
      made->description, sizeof(made->description),
      "{\"schema\": 1, \"type_map\": [\"A\", \"B\"], \"rcut\": %.17g, \"interaction_range\": %.17g,"
      "\"sel\": [200], \"inputs\": [], \"outputs\": [{\"name\": \"energy\", \"level\": \"atom\","
      "\"size\": 1, \"differentiable\": true, \"intensive\": false}],"
      "\"packings\": [{\"layout\": \"flat\", \"ntypes\": 2, \"rcut\": %.17g, \"sel\": [200],"
      "\"by_centre\": false, \"exclude\": [], \"nearest\": 0, \"edge_rcut\": 0.0, \"edge_sel\": "
      "0}],"
      "\"core_types\": 2, \"contributing_types\": [true, true], \"selected_types\": [],"
      "\"use_spin\": [], \"spin_scale\": [0, 0], \"precision\": \"float64\","
      "\"message_passing\": false, \"mixed_types\": false}",
      made->rcut, made->rcut, made->rcut);
  made->info.struct_size = sizeof(made->info);
  made->info.description = made->description;
  made->info.entries = DEEPMD_EDGES;
  *model = made;
  return 0;
}

static int query(deepmd_backend_model* model, const deepmd_info** info, char* error, size_t size) {
  (void)error, (void)size;
  *info = &model->info;
  return 0;
}

static int evaluate(deepmd_backend_model* model, const deepmd_edges_request* given, char* error,
                    size_t size) {
  (void)error, (void)size;
  deepmd_edges_request request;
  deepmd_result result;
  deepmd_read(&request, sizeof(request), given);
  deepmd_read(&result, sizeof(result), request.results);
  const double *vec = request.vec.data, square = model->rcut * model->rcut;
  const int64_t *i = request.i.data, *j = request.j.data, *type = request.atype.data;
  double *value = result.value.data, *gradient = result.gradient.data;
  for (int64_t a = 0; value && a < request.n_atoms; ++a) value[a] = 0.0;
  for (int64_t e = 0; e < request.n_edges; ++e) {
    const double* d = vec + 3 * e;
    const double x = 1.0 - (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / square;
    const double c = x > 0.0 ? 1.0 + 0.3 * (double)(type[i[e]] + type[j[e]]) : 0.0;
    if (value) value[i[e]] += 0.5 * c * x * x * x;
    for (int k = 0; gradient && k < 3; ++k) gradient[3 * e + k] = -3.0 * c * x * x * d[k] / square;
  }
  return 0;
}

static void close_model(deepmd_backend_model* model) { free(model); }

const deepmd_backend_functions* deepmd_backend(void) {
  static const deepmd_backend_functions functions = {
      .struct_size = sizeof(functions),
      .version = DEEPMD_BACKEND_VERSION,
      .name = "third",
      .suffixes = ".third",
      .open = open_file,
      .query = query,
      .evaluate = evaluate,
      .close = close_model,
  };
  return &functions;
}
