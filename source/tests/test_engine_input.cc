// SPDX-License-Identifier: LGPL-3.0-or-later
// Frames that are empty or wrong, files, and libraries of backends.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "fake_model.h"

namespace {

using namespace fake;

// -- input --------------------------------------------------------------------------------------

TEST(Engine, OfNoAtomsGivesZeros) {
  for (const char* text : {"rcut 4", "entries 2", "message_passing 1"}) {
    Atoms atoms(1, 3, 5.0);
    atoms.atype = {-1, -1, 2};
    for (const int64_t n : {0, 3}) {
      Frame frame = atoms.frame();
      frame.nall = n;
      const auto found = open_text(text)->evaluate(frame, kAll);
      ASSERT_EQ(found.size(), 3u);
      EXPECT_EQ(found[0].value, std::vector<double>(1, 0.0));
      EXPECT_EQ(found[1].force, std::vector<double>(3 * n * 3, 0.0));
      EXPECT_EQ(found[0].virial, std::vector<double>(9, 0.0));
    }
  }
}

TEST(Engine, SpinsMustBeGivenWhereTheyBelong) {
  Atoms atoms(1, 3, 5.0);
  atoms.atype = {0, 1, -1};
  std::vector<double> spin(9, 0.5);
  Frame frame = atoms.frame();
  const auto model = open_text("spin 0.25");
  expect_error([&] { model->evaluate(frame, kAll); }, {"fake.pb", "needs the spins", "deepspin"});
  frame.spin = spin.data();
  EXPECT_EQ(model->evaluate(frame, kAll)[0].force_mag.size(), 9u);
  expect_error([&] { open_text("rcut 4")->evaluate(frame, kAll); }, {"fake.pb", "knows none"});
  spin[8] = std::nan("");  // of an atom that is ignored
  EXPECT_NO_THROW(model->evaluate(frame, kAll));
  spin[4] = std::nan("");
  expect_error([&] { model->evaluate(frame, kAll); }, {"spin of atom 1", "not finite"});
  // Edges of a model without virtual atoms cannot be those of spins.
  expect_error([] { open_text("spin 0.25\nedges_only 1"); }, {"description", "contributing_types"});
}

TEST(Engine, OfLonelyAtomsGivesNoForce) {
  const std::vector<double> coord = {0, 0, 0, 100, 0, 0};
  const std::vector<int> types = {0, 1};
  Frame frame;
  frame.nall = 2;
  frame.coord = coord.data();
  frame.atype = types.data();
  for (const char* text : {"rcut 4", "typed 1", "entries 2", "message_passing 1"}) {
    const auto found = open_text(text)->evaluate(frame, kAll);
    EXPECT_EQ(found[0].value[0], 0.0);
    EXPECT_EQ(found[0].force, std::vector<double>(6, 0.0));
  }
}

TEST(Engine, FillsOnlyWhatIsWanted) {
  const Atoms atoms(1, 8, 5.0);
  const auto model = open_text("rcut 4");
  const auto value = model->evaluate(atoms.frame(), {false, false});
  EXPECT_TRUE(value[0].force.empty() && value[0].virial.empty() && value[0].atom_virial.empty());
  EXPECT_FALSE(model->evaluate(atoms.frame(), {true, false})[0].force.empty());
  EXPECT_TRUE(model->evaluate(atoms.frame(), {true, false})[0].atom_virial.empty());
  EXPECT_EQ(value[0].value, model->evaluate(atoms.frame(), kAll)[0].value);
}

TEST(Engine, TakesParameters) {
  Atoms atoms(1, 8, 5.0, true, false);
  const double energy = open_text("rcut 4")->evaluate(atoms.frame(), {})[0].value[0];
  const auto model = open_text("fparam 1\naparam 1");
  EXPECT_EQ(model->info().size_of("fparam"), 1);
  Frame frame = atoms.frame();
  const double fparam = 0.25;
  expect_error([&] { model->evaluate(frame, {}); }, {"fparam"});
  frame.fparam = &fparam;
  double sum = 8 * 0.25;
  for (const double x : atoms.aparam) sum += x;
  EXPECT_NEAR(model->evaluate(frame, {})[0].value[0], energy + sum, 1e-12);
  frame.aparam = nullptr;
  expect_error([&] { model->evaluate(frame, {}); }, {"aparam"});
  const auto other = open_text("fparam 1\ndefault_fparam 0.5");
  EXPECT_NEAR(other->evaluate(atoms.frame(), {})[0].value[0], energy + 8 * 0.5, 1e-12);
  frame.aparam = atoms.aparam.data();
  const auto extended = open_text("entries 2\nfparam 1\naparam 1");
  EXPECT_NEAR(extended->evaluate(frame, {})[0].value[0], energy + sum, 1e-12);
}

TEST(Engine, RefusesNaNAndCellsWithoutVolume) {
  Atoms atoms(1, 8, 5.0);
  const auto model = open_text("rcut 4");
  atoms.cell.assign(9, 1.0);
  expect_error([&] { model->evaluate(atoms.frame(), {}); }, {"no volume"});
  Atoms other(1, 8, 5.0);
  const Listed listed(other, 4.0, 1.0);
  other.coord[4] = std::nan("");
  expect_error([&] { model->evaluate(other.frame(), {}); }, {"atom 1", "NaN"});
  Frame frame = listed.frame(other);
  std::vector<double> coord = listed.coord;
  coord.back() = std::nan("");
  frame.coord = coord.data();
  expect_error([&] { model->evaluate(frame, {}); }, {"NaN"});
}

TEST(Engine, CountsCentersWithTooManyNeighbors) {
  const Atoms atoms(1, 30, 5.0);
  for (const char* text : {"sel 5\ntyped 1", "sel 5\nentries 2"}) {
    const auto model = open_text(text);
    EXPECT_EQ(model->overflow(), 0);
    model->evaluate(atoms.frame(), {});
    EXPECT_GE(model->overflow(), 20);
    EXPECT_GT(model->most_neighbors(), 10);
  }
  const auto roomy = open_text("sel 200");
  roomy->evaluate(atoms.frame(), {});
  EXPECT_EQ(roomy->overflow(), 0);
}

// -- files and libraries ------------------------------------------------------------------------

TEST(Engine, TellsWhatIsInAFile) {
  use_backends("working");
  const std::string path = testing::TempDir() + "model_" + std::to_string(getpid()) + ".pb";
  std::ofstream(path) << "ntypes 3\nrcut 5.5\n";
  const auto model = Model::open(path);
  std::remove(path.c_str());
  EXPECT_EQ(model->info().type_map, (std::vector<std::string>{"T0", "T1", "T2"}));
  EXPECT_EQ(model->info().rcut, 5.5);
  EXPECT_EQ(model->info().outputs[1].name, "dipole");
  EXPECT_EQ(model->info().path, path);
  EXPECT_EQ(model->info().framework, "fake 1.0");
  expect_error([&] { Model::open(path); }, {path, "no such model file"});
  expect_error([] { open_text("\n", "empty.pb"); }, {"empty.pb", "no fake model"});
}

TEST(Engine, RefusesOtherFiles) {
  for (const char* name : {"model.jax", "model.pt", "model.pt2", "model", ".pbx"}) {
    expect_error([&] { open_text("rcut 4", name); },
                 {name, "Unsupported model file format", "dp convert-backend"});
  }
  EXPECT_NO_THROW(open_text("rcut 4", "a.savedmodel/"));
}

TEST(Engine, SaysWhatIsWrongWithALibrary) {
  OpenOptions options;
  options.content = "rcut 4";
  const auto open = [&] { Model::open("fake.savedmodel", options); };
#ifndef DEEPMD_HAS_TENSORFLOW  // beside the library, where it is always found
  use_backends("nowhere");
  expect_error(open, {"Unable to load", "TensorFlow", "nowhere", "libdeepmd_backend_tensorflow",
                      "DP_BACKEND_PLUGIN_PATH"});
#endif
  use_backends("outdated");
  expect_error(open, {"version 999", "outdated/", "one release"});
  use_backends("incomplete");
  expect_error(open, {"Unable to load", "libfake_framework", "pip install tensorflow"});
  const std::string fake = DEEPMD_FAKE_BACKENDS;
  setenv("DP_BACKEND_PLUGIN_PATH", (fake + "/nowhere;" + fake + "/working:/").c_str(), 1);
  EXPECT_NO_THROW(open());
  use_backends("working");
  bool found = false;
  for (const std::string& line : describe_backends()) {
    found = found || line.find("fake 1.0 (no framework)") != std::string::npos;
  }
  EXPECT_TRUE(found);
  expect_error([] { open_text("short_info 1"); }, {"does not say", "one release"});
}

TEST(Engine, ComparesProbes) {
  // Two atoms at 1.5 Å, each with q = (1 - 2.25/16)³ and half of it as energy.
  const double energy = std::pow(1.0 - 2.25 / 16.0, 3);
  const auto text = [](double x) {
    char line[64];
    std::snprintf(line, sizeof(line), "probe %.17g\n", x);
    return std::string(line);
  };
  EXPECT_NO_THROW(open_text(text(energy)));
  EXPECT_NO_THROW(open_text(text(energy) + "entries 2\n"));
}

TEST(Engine, RefusesAModelWithOtherResults) {
  expect_error([] { open_text("probe 0.7\n"); }, {"fake.pb", "energy differs by", "freeze"});
  use_backends("working");
  OpenOptions options;
  options.content = "probe 0.7\n";
  options.check_probes = false;
  EXPECT_NO_THROW(Model::open("fake.pb", options));
}

}  // namespace
