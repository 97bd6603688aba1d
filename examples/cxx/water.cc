// SPDX-License-Identifier: LGPL-3.0-or-later
/** Energy, forces and virial of two water molecules: water_cc MODEL */
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "deepmd/DeepPot.h"

/** The model's number of an element. */
int type_of(deepmd::DeepPot& dp, const std::string& element) {
  std::string names;
  dp.get_type_map(names);
  std::istringstream words(names);
  int type = 0;
  for (std::string name; words >> name; ++type) {
    if (name == element) {
      return type;
    }
  }
  throw deepmd::deepmd_exception("the model does not know " + element);
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  try {
    deepmd::DeepPot dp(argv[1]);
    const int O = type_of(dp, "O"), H = type_of(dp, "H");
    const std::vector<double> coord = {0.00, 0.00,  0.00, 0.76, 0.59,  0.00, -0.76, 0.59,  0.00,
                                       0.00, -2.80, 0.10, 0.05, -1.84, 0.05, 0.55,  -3.10, 0.82};
    const std::vector<int> atype = {O, H, H, O, H, H};
    const std::vector<double> box = {9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0};

    double energy;                                         // eV
    std::vector<double> force, virial;                     // eV/A (6, 3), eV (9)
    dp.compute(energy, force, virial, coord, atype, box);  // an empty box: an open system

    std::printf("energy %.12f\n", energy);
    for (size_t i = 0; i < atype.size(); ++i) {
      std::printf("force %.12f %.12f %.12f\n", force[3 * i], force[3 * i + 1], force[3 * i + 2]);
    }
    std::printf("virial");
    for (const double v : virial) {
      std::printf(" %.12f", v);
    }
    std::printf("\n");
  } catch (const deepmd::deepmd_exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
