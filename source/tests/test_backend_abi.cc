// SPDX-License-Identifier: LGPL-3.0-or-later
// The border to backends: structures of other releases, arrays, named inputs, finding libraries.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend/arrays.h"
#include "core/packing.h"
#include "fake_model.h"

namespace {

using namespace fake;

// -- structures and arrays ----------------------------------------------------------------------

TEST(BackendAbi, ReadsStructuresOfAnySize) {
  deepmd_output whole{sizeof(deepmd_output), "energy", 3, 1, 1};
  for (const size_t size : {offsetof(deepmd_output, differentiable), sizeof(deepmd_output)}) {
    // No byte more than the writer knows.
    std::vector<char> block(2 * size);
    whole.struct_size = size;
    for (size_t k = 0; k < 2; ++k) {
      whole.size = 3 + static_cast<int64_t>(k);
      std::memcpy(block.data() + k * size, &whole, size);
    }
    const auto* array = reinterpret_cast<const deepmd_output*>(block.data());
    const deepmd_output second = deepmd::backend::element(array, 1);
    EXPECT_EQ(second.size, 4);
    EXPECT_EQ(second.differentiable, size == sizeof(deepmd_output));
  }
  // A later release has more behind.
  struct {
    deepmd_output known;
    int64_t later;
  } longer{{sizeof(longer), "energy", 3, 1, 0}, 7};
  EXPECT_EQ(deepmd::backend::read(&longer.known).size, 3);
}

TEST(BackendAbi, TakesArraysOfItsKindOnly) {
  std::vector<double> x(6);
  deepmd_array array = deepmd::backend::array_of(x.data(), {2, 3});
  EXPECT_EQ(deepmd::backend::numbers<double>(array, "x"), x.data());
  EXPECT_EQ(deepmd::backend::numbers<double>(deepmd_array{}, "x"), nullptr);
  const auto message = [](const deepmd_array& a) {
    try {
      deepmd::backend::numbers<double>(a, "x");
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  array.device = DEEPMD_CUDA;
  EXPECT_NE(message(array).find("x lies on device 2"), std::string::npos);
  array.device = DEEPMD_CPU;
  array.dtype = DEEPMD_FLOAT32;
  EXPECT_NE(message(array).find("takes float64"), std::string::npos);
  array.dtype = DEEPMD_FLOAT64;
  array.n_dims = DEEPMD_MAX_DIMS + 1;
  EXPECT_NE(message(array).find("5 dimensions"), std::string::npos);
}

TEST(BackendAbi, LayoutsHaveTheirNumbers) {
  EXPECT_EQ(static_cast<int>(Layout::typed), DEEPMD_TYPED);
  EXPECT_EQ(static_cast<int>(Layout::first_type), DEEPMD_FIRST_TYPE);
}

// -- a backend in C of an earlier release -------------------------------------------------------

TEST(BackendAbi, ABackendWithShorterStructuresWorks) {
  use_backends("short");
  OpenOptions options;
  options.content = "nothing";
  const auto model = Model::open("model.short", options);
  EXPECT_EQ(model->info().framework, "Short");
  EXPECT_TRUE(model->info().inputs.empty());
  const auto expected = open_text("rcut 4");
  for (const bool periodic : {true, false}) {
    const Atoms atoms(3, 40, 6.0, periodic);
    const Prediction found = model->evaluate(atoms.frame(), kAll).at(0);
    const Prediction other = expected->evaluate(atoms.frame(), kAll).at(0);
    EXPECT_NEAR(found.value[0], other.value[0], 1e-11);
    ASSERT_EQ(found.force.size(), other.force.size());
    for (size_t k = 0; k < found.force.size(); ++k) {
      EXPECT_NEAR(found.force[k], other.force[k], 1e-12);
    }
    for (size_t k = 0; k < 9; ++k) EXPECT_NEAR(found.virial[k], other.virial[k], 1e-10);
  }
}

TEST(BackendAbi, FindsBackendsByTheirOwnSuffixes) {
  OpenOptions options;
  options.content = "rcut 4";
  const auto open = [&](const char* name) { return Model::open(name, options); };
  use_backends("nowhere");
  expect_error([&] { open("model.short"); }, {"model.short", "Unsupported", ".pth", ".savedmodel"});
  // Found by the variable of the dynamic loader.
  const char* variable = "LD_LIBRARY_PATH";
  const char* saved = std::getenv(variable);
  const std::string before = saved ? saved : "";
  setenv(variable, (std::string(DEEPMD_FAKE_BACKENDS) + "/short:" + before).c_str(), 1);
  EXPECT_NO_THROW(open("model.short"));
  saved ? setenv(variable, before.c_str(), 1) : unsetenv(variable);
  // One that is known by name opens what it states, no more.
  use_backends("working");
  EXPECT_NO_THROW(open("model.pb"));
  expect_error([&] { open("model.savedmodeltf"); }, {"Unsupported model file format"});
  use_backends("short");
  bool found = false;
  for (const std::string& line : describe_backends()) {
    found = found || line == "Short (.short): available";
  }
  EXPECT_TRUE(found);
}

// -- requests -----------------------------------------------------------------------------------

TEST(BackendAbi, NamesInputs) {
  Atoms atoms(1, 8, 5.0, true, false);
  const double energy = open_text("rcut 4")->evaluate(atoms.frame(), {})[0].value[0];
  expect_error([] { open_text("field 1"); }, {"fake.pb", "\"field\"", "cannot give"});
  for (const char* entry : {"entries 1\n", "entries 2\n"}) {
    const auto model =
        open_text(entry + std::string("field 1\ndefault_field 0.5\nfparam 1\naparam 1"));
    EXPECT_EQ(model->info().size_of("fparam"), 1);
    EXPECT_EQ(model->info().size_of("charge_spin"), 0);
    EXPECT_TRUE(model->info().input("aparam")->per_atom);
    Frame frame = atoms.frame();
    const double fparam = 0.25;
    frame.fparam = &fparam;
    double sum = 8 * 0.75;
    for (const double x : atoms.aparam) sum += x;
    EXPECT_NEAR(model->evaluate(frame, {})[0].value[0], energy + sum, 1e-12);
  }
}

int count_exchange(void* context, const deepmd_array* values, char*, size_t) {
  EXPECT_EQ(values->n_dims, 2);
  ++*static_cast<int*>(context);
  return 0;
}

TEST(BackendAbi, PassesTheExchangeOfGhostsOn) {
  const Atoms atoms(1, 8, 5.0);
  const Listed listed(atoms, 4.0, 1.0);
  NeighborList list = listed.list;
  Frame frame = listed.frame(atoms);
  frame.list = &list;
  for (const char* text : {"exchange 1\nwhole 1", "exchange 1\nwhole 1\nentries 2"}) {
    const auto model = open_text(text);
    int calls = 0;
    const deepmd_exchange exchange{sizeof(exchange), &calls, count_exchange, count_exchange};
    list.exchange = &exchange;
    model->evaluate(frame, {});
    EXPECT_EQ(calls, 1);
    list.exchange = nullptr;
    expect_error([&] { model->evaluate(frame, {}); }, {"no exchange of ghosts"});
  }
}

}  // namespace
