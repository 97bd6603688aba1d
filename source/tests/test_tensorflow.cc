// SPDX-License-Identifier: LGPL-3.0-or-later
// Files of TensorFlow through the library: opened, evaluated, damaged. Their numbers are compared
// with the frames inside of them when they are opened, and by the tests in Python.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/model.h"
#include "deepmd/errors.h"

#ifdef DEEPMD_HAS_TENSORFLOW

/** Memory that TensorFlow keeps until the process ends is no leak of ours. */
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libtensorflow_cc\nleak:libtensorflow_framework\n";
}

namespace {

using namespace deepmd::core;
namespace fs = std::filesystem;

const fs::path kModels = fs::path(DEEPMD_SOURCE_DIR) / "tests/golden/ours/v2/models";

std::shared_ptr<Model> open(const std::string& path) {
  unsetenv("DP_BACKEND_PLUGIN_PATH");
  OpenOptions options;
  options.engine = "framework";
  return Model::open(path, options);
}

/** Energy and forces of a few atoms, with parameters where the model takes some. */
Prediction evaluate(Model& model) {
  const std::vector<double> coord = {0, 0, 0, 1, 0.1, 0, -0.3, 0.9, 0.2, 1.2, 1.1, 0.8};
  const std::vector<int> atype = {0, 1, 1, 0};
  const std::vector<double> numbers(64, 0.5);
  Frame frame;
  frame.nall = 4;
  frame.coord = coord.data();
  frame.atype = atype.data();
  const auto given = [&](const char* name) {
    return model.info().size_of(name) > 0 ? numbers.data() : nullptr;
  };
  frame.fparam = given("fparam");
  frame.aparam = given("aparam");
  frame.chg_spin = given("charge_spin");
  frame.spin = model.info().has_spin ? numbers.data() : nullptr;
  return model.evaluate(frame, {}).front();
}

class TensorFlowFiles : public testing::TestWithParam<const char*> {};

TEST_P(TensorFlowFiles, AreEvaluated) {
  const auto model = open((kModels / GetParam()).string());
  const Prediction first = evaluate(*model), again = evaluate(*model);
  EXPECT_EQ(first.value, again.value);
  EXPECT_EQ(first.force, again.force);
  double total[3] = {};
  for (size_t k = 0; k < first.force.size(); ++k) total[k % 3] += first.force[k];
  for (const double x : total) EXPECT_NEAR(x, 0.0, 1e-10);
}

INSTANTIATE_TEST_SUITE_P(Golden, TensorFlowFiles,
                         testing::Values("se_e2_a.pb", "compressed.pb", "spin.pb",
                                         "parameters.savedmodeltf", "parameters.savedmodel"));

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/** Some damage: bits, a part that is missing, an end that is missing, other bytes. */
std::string damaged(std::string bytes, int kind, std::mt19937& random) {
  const auto below = [&](size_t n) { return static_cast<size_t>(random()) % n; };
  const size_t place = below(bytes.size()), length = 1 + below(64);
  if (kind == 0) {
    bytes[place] = static_cast<char>(bytes[place] ^ (1 << below(8)));
  } else if (kind == 1) {
    bytes.erase(place, length);
  } else if (kind == 2) {
    bytes.resize(place);
  } else {
    for (size_t k = place; k < std::min(place + length, bytes.size()); ++k) {
      bytes[k] = static_cast<char>(below(256));
    }
  }
  return bytes;
}

/** A folder of its own, removed at the end. */
struct Folder {
  Folder()
      : path(fs::temp_directory_path() / ("deepmd_tf_" + std::to_string(std::random_device{}()))) {
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  const fs::path path;
};

TEST(TensorFlowDamage, OfAGraphIsRefused) {
  const std::string whole = bytes_of(kModels / "se_e2_a.pb");
  const Folder folder;
  const std::string path = (folder.path / "model.pb").string();
  std::mt19937 random(1);
  for (int k = 0; k < 40; ++k) {
    write(path, damaged(whole, k % 4, random));
    EXPECT_THROW(open(path), deepmd::deepmd_exception) << "damage " << k;
  }
}

/** Without a checksum damage may be anywhere: it is refused, or does not matter. */
TEST(TensorFlowDamage, OfASavedModelEndsNoProcess) {
  const Folder folder;
  const fs::path path = folder.path / "model.savedmodeltf", program = path / "saved_model.pb";
  fs::copy(kModels / "parameters.savedmodeltf", path, fs::copy_options::recursive);
  const std::string whole = bytes_of(program);
  std::mt19937 random(1);
  int refused = 0;
  for (int k = 0; k < 8; ++k) {
    write(program, damaged(whole, 1 + k % 2, random));
    try {
      evaluate(*open(path.string()));
    } catch (const deepmd::deepmd_exception&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace

#endif
