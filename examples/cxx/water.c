/* SPDX-License-Identifier: LGPL-3.0-or-later */
/* Energy, forces and virial of two water molecules: water_c MODEL */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deepmd/c_api.h"

/* Leave with the message of the handle, if there is one. */
static void check(DP_DeepPot* dp) {
  const char* message = DP_DeepPotCheckOK(dp);
  if (message[0] != '\0') {
    fprintf(stderr, "%s\n", message);
    exit(1);
  }
  DP_DeleteChar(message);
}

/* The model's number of an element. */
static int type_of(DP_DeepPot* dp, const char* element) {
  const char* names = DP_DeepPotGetTypeMap(dp);
  char copy[256];
  char* name;
  int type = 0;
  strncpy(copy, names, sizeof copy - 1);
  copy[sizeof copy - 1] = '\0';
  DP_DeleteChar(names);
  for (name = strtok(copy, " "); name; name = strtok(NULL, " "), ++type) {
    if (strcmp(name, element) == 0) {
      return type;
    }
  }
  fprintf(stderr, "the model does not know %s\n", element);
  exit(1);
}

int main(int argc, char** argv) {
  const double coord[18] = {0.00, 0.00,  0.00, 0.76, 0.59,  0.00, -0.76, 0.59,  0.00,
                            0.00, -2.80, 0.10, 0.05, -1.84, 0.05, 0.55,  -3.10, 0.82};
  const double cell[9] = {9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0};
  double energy, force[18], virial[9];
  int atype[6], i;
  DP_DeepPot* dp;

  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  dp = DP_NewDeepPot(argv[1]);
  check(dp);
  for (i = 0; i < 6; ++i) {
    atype[i] = type_of(dp, i % 3 == 0 ? "O" : "H");
  }
  /* NULL: not wanted. A cell of NULL: an open system. */
  DP_DeepPotCompute(dp, 6, coord, atype, cell, &energy, force, virial, NULL, NULL);
  check(dp);

  printf("energy %.12f\n", energy);
  for (i = 0; i < 6; ++i) {
    printf("force %.12f %.12f %.12f\n", force[3 * i], force[3 * i + 1], force[3 * i + 2]);
  }
  printf("virial");
  for (i = 0; i < 9; ++i) {
    printf(" %.12f", virial[i]);
  }
  printf("\n");
  DP_DeleteDeepPot(dp);
  return 0;
}
