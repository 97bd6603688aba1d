// SPDX-License-Identifier: LGPL-3.0-or-later
/** The native engine on stored models of all kinds: frames of odd sizes, threads, damage. */
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "deepmd/DeepPot.h"
#include "deepmd/DeepTensor.h"
#include "deepmd/errors.h"

namespace {

const std::string folder = std::string(DEEPMD_SOURCE_DIR) + "/tests/golden/ours/v2/models/";

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Found {
  double energy = 0.0;
  std::vector<double> force, virial, atom_energy, atom_virial;
};

/** Random atoms at about the density of the probes; all types occur. */
Found evaluate(deepmd::DeepPot& model, int natoms, bool periodic, unsigned seed = 1) {
  const double size = 1.9 * std::cbrt(std::max(natoms, 1)) + 0.5;
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> u(0.0, size);
  std::vector<double> coord, box, fparam(static_cast<size_t>(model.dim_fparam()), 0.3),
      aparam(static_cast<size_t>(model.dim_aparam() * natoms), 0.2);
  std::vector<int> types;
  for (int k = 0; k < natoms; ++k) {
    for (int a = 0; a < 3; ++a) coord.push_back(u(generator));
    types.push_back(k % model.numb_types());
  }
  if (periodic) box = {size, 0.0, 0.0, 0.1, size, 0.0, 0.0, 0.2, size};
  Found found;
  model.compute(found.energy, found.force, found.virial, found.atom_energy, found.atom_virial,
                coord, types, box, fparam, aparam);
  return found;
}

class Files : public testing::TestWithParam<const char*> {};

TEST_P(Files, FramesOfAnySize) {
  deepmd::DeepPot model(folder + GetParam(), 0, "", "native");
  EXPECT_EQ(model.engine().rfind("native", 0), 0u);
  for (const int natoms : {0, 1, 2, 7, 33}) {
    for (const bool periodic : {false, true}) {
      const Found found = evaluate(model, natoms, periodic);
      EXPECT_EQ(found.force.size(), static_cast<size_t>(3 * natoms));
      double total[3] = {0.0, 0.0, 0.0}, sum = 0.0, virial = 0.0, largest = 1.0;
      for (size_t k = 0; k < found.force.size(); ++k) {
        total[k % 3] += found.force[k];
        largest = std::max(largest, std::abs(found.force[k]));
      }
      for (const double x : found.atom_energy) sum += x;
      for (size_t k = 0; k < found.atom_virial.size(); k += 9) virial += found.atom_virial[k];
      for (const double x : total) EXPECT_NEAR(x, 0.0, 1e-11 * largest * (natoms + 1));
      EXPECT_NEAR(sum, found.energy, 1e-11 * (std::abs(sum) + 1.0));
      if (natoms > 0) EXPECT_NEAR(virial, found.virial[0], 1e-11 * largest * (natoms + 1));
    }
  }
}

TEST_P(Files, ContentAndPathAreTheSame) {
  const std::string path = folder + GetParam();
  deepmd::DeepPot one(path, 0, "", "native"), other(path, 0, content_of(path), "native");
  EXPECT_EQ(evaluate(one, 9, true).force, evaluate(other, 9, true).force);
}

TEST_P(Files, SeveralThreadsAtOnce) {
  deepmd::DeepPot model(folder + GetParam(), 0, "", "native");
  std::vector<Found> found(4);
  std::vector<std::thread> threads;
  for (size_t k = 0; k < found.size(); ++k) {
    threads.emplace_back([&, k] { found[k] = evaluate(model, 120, true, 3); });
  }
  for (std::thread& one : threads) one.join();
  for (const Found& one : found) {
    EXPECT_EQ(one.energy, found[0].energy);
    EXPECT_EQ(one.force, found[0].force);
  }
}

TEST_P(Files, DamageIsNoticedOrHarmless) {
  const std::string whole = content_of(folder + GetParam());
  std::mt19937 generator(5);
  int refused = 0;
  for (int k = 0; k < 60; ++k) {
    std::string damaged = whole;
    if (k % 3 == 0) damaged.resize(generator() % damaged.size());
    for (int b = 0; k % 3 != 0 && b < 4; ++b) {
      // Half of the damage is where the structure of a file is: at its beginning and end.
      const size_t range = b % 2 ? damaged.size() : std::min<size_t>(damaged.size(), 2048);
      const size_t at = generator() % range;
      damaged[k % 3 == 1 ? at : damaged.size() - 1 - at] = static_cast<char>(generator());
    }
    if (damaged.empty()) continue;
    try {
      deepmd::DeepPot model(folder + GetParam(), 0, damaged, "native");
      evaluate(model, 5, false);
    } catch (const deepmd::deepmd_exception&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 20);
}

INSTANTIATE_TEST_SUITE_P(Native, Files,
                         testing::Values("se_e2_a.dp", "se_e2_a.hlo", "se_e2_a.pb", "se_e2_a.pth",
                                         "se_e2_r.dp", "se_e3.dp", "se_e3_tebd.dp", "se_atten.dp",
                                         "se_atten_v2.dp", "hybrid.dp", "parameters.dp",
                                         "compressed.dp", "linear_ener.dp", "zbl.dp",
                                         "se_e2_a.yaml"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name[name.find('.')] = '_';
                           return name;
                         });

TEST(Native, InputThatIsNotFiniteIsRefused) {
  deepmd::DeepPot model(folder + "se_e2_a.dp", 0, "", "native");
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    double energy = 0.0;
    std::vector<double> force, virial, coord = {0.0, 0.0, 0.0, 0.0, bad, 0.0};
    EXPECT_THROW(model.compute(energy, force, virial, coord, {0, 1}, {}), deepmd::deepmd_exception);
  }
}

TEST(Native, TensorsAndTheirDerivatives) {
  deepmd::DeepTensor model(folder + "dipole.dp", 0, "", "native");
  const std::vector<double> coord = {0.0, 0.0, 0.0, 1.1, 0.2, 0.0, 0.0, 1.3, 0.4};
  std::vector<double> tensor, force, virial, moved_tensor, moved = coord;
  model.compute(tensor, force, virial, coord, {0, 1, 1}, {});
  const double h = 1e-5;
  for (size_t x = 0; x < coord.size(); ++x) {
    std::vector<double> up, down;
    moved[x] = coord[x] + h;
    model.compute(up, moved_tensor, virial, moved, {0, 1, 1}, {});
    moved[x] = coord[x] - h;
    model.compute(down, moved_tensor, virial, moved, {0, 1, 1}, {});
    moved[x] = coord[x];
    for (size_t c = 0; c < tensor.size(); ++c) {
      EXPECT_NEAR((down[c] - up[c]) / (2.0 * h), force[c * coord.size() + x], 1e-8);
    }
  }
}

}  // namespace
