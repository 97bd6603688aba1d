// SPDX-License-Identifier: LGPL-3.0-or-later
// The border to backends: structures of other releases, arrays, named inputs, finding libraries.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend/arrays.h"
#include "core/description.h"
#include "fake_model.h"

namespace {

using namespace fake;

// -- structures and arrays ----------------------------------------------------------------------

TEST(BackendAbi, ReadsStructuresOfAnySize) {
  deepmd_input whole{sizeof(deepmd_input), "fparam", 3, 0, {}};
  whole.data.n_dims = 2;
  for (const size_t size : {offsetof(deepmd_input, data), sizeof(deepmd_input)}) {
    // No byte more than the writer knows.
    std::vector<char> block(2 * size);
    whole.struct_size = size;
    for (size_t k = 0; k < 2; ++k) {
      whole.level = 3 + static_cast<int32_t>(k);
      std::memcpy(block.data() + k * size, &whole, size);
    }
    const auto* array = reinterpret_cast<const deepmd_input*>(block.data());
    const deepmd_input second = deepmd::backend::element(array, 1);
    EXPECT_EQ(second.level, 4);
    EXPECT_EQ(second.data.n_dims, size == sizeof(deepmd_input) ? 2 : 0);
  }
  // A later release has more behind.
  struct {
    deepmd_input known;
    int64_t later;
  } longer{{sizeof(longer), "fparam", 3, 0, {}}, 7};
  EXPECT_EQ(deepmd::backend::read(&longer.known).level, 3);
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

// -- the description of a model ------------------------------------------------------------------

/** A description that every part of is read. */
std::string description() {
  return R"({"schema": 1, "type_map": ["O", "H"], "rcut": 6.0, "interaction_range": 12.0,
    "sel": [46, 92], "core_types": 2, "contributing_types": [true, false], "probes": 0,
    "inputs": [{"name": "fparam", "level": "frame", "size": 2, "default": [0.1, 1e-17]},
               {"name": "aparam", "level": "atom", "size": 1, "default": null}],
    "outputs": [{"name": "property", "level": "atom", "size": 5, "differentiable": false,
                 "intensive": true, "magnetic": false}],
    "packings": [{"layout": "typed", "ntypes": 2, "rcut": 6.0, "sel": [46, 92], "by_centre": true,
                  "exclude": [[0, 1]], "nearest": 7, "edge_rcut": 1.5, "edge_sel": 3},
                 {"layout": "first_type", "ntypes": 2, "rcut": 0.0, "sel": [], "by_centre": false,
                  "exclude": [], "nearest": 0, "edge_rcut": 0.0, "edge_sel": 0}],
    "selected_types": [1], "use_spin": [], "spin_scale": [], "precision": "float32",
    "message_passing": true, "mixed_types": true, "compressed": false, "of_a_later_release": 3})";
}

/** The description with one text in it replaced. */
std::string with(const std::string& old_text, const std::string& new_text) {
  std::string text = description();
  const size_t place = text.find(old_text);
  EXPECT_NE(place, std::string::npos) << old_text;
  return text.replace(place, old_text.size(), new_text);
}

TEST(Description, IsReadOnce) {
  const Info info = read_description(description(), "a.pth", true);
  EXPECT_EQ(info.path, "a.pth");
  EXPECT_EQ(info.type_map, (std::vector<std::string>{"O", "H"}));
  EXPECT_EQ(info.rcut, 6.0);
  EXPECT_EQ(info.sel, (std::vector<int64_t>{46, 92}));
  EXPECT_EQ(info.input("fparam")->default_value, (std::vector<double>{0.1, 1e-17}));
  EXPECT_TRUE(info.input("aparam")->per_atom && info.input("aparam")->default_value.empty());
  EXPECT_EQ(info.outputs[0].name, "property");
  EXPECT_EQ(info.outputs[0].size, 5);
  EXPECT_TRUE(info.outputs[0].intensive && !info.outputs[0].differentiable);
  EXPECT_EQ(info.sel_type, std::vector<int>{1});
  EXPECT_EQ(info.contributing, (std::vector<bool>{true, false}));
  EXPECT_TRUE(info.message_passing && info.mixed_types && info.single_precision && !info.has_spin);
  ASSERT_EQ(info.packings.size(), 2u);
  const Packing& p = info.packings[0];
  EXPECT_EQ(p.layout, Layout::typed);
  EXPECT_EQ(p.exclude, (std::vector<std::pair<int, int>>{{0, 1}}));
  EXPECT_TRUE(p.by_centre && p.rcut == 6.0 && p.nearest == 7 && p.edge_rcut == 1.5);
  EXPECT_EQ(p.edge_sel, 3);
  EXPECT_EQ(info.packings[1].layout, Layout::first_type);
  // Without an entry for edges nobody packs.
  EXPECT_TRUE(read_description(description(), "a.pth", false).packings.empty());
  const Info all = read_description(with("[1], \"use", "[0, 1], \"use"), "a.pth", true);
  EXPECT_TRUE(all.sel_type.empty());
}

TEST(Description, OfSpinsIsThatOfAtoms) {
  std::string text = with("\"use_spin\": [], \"spin_scale\": []",
                          "\"use_spin\": [true, false], \"spin_scale\": [0.3, 0.0]");
  text.replace(text.find("[true, false], \"probes\""), 13, "[true, true, false, false]");
  text.replace(text.find("aparam\", \"level\": \"atom\", \"size\": 1"), 6, "spin");
  // By edges it would be evaluated with atoms and partners, of which this one knows the first only.
  EXPECT_THROW(read_description(text, "a.pth", true), deepmd::deepmd_exception);
  const Info info = read_description(text, "a.pth", false);
  EXPECT_TRUE(info.has_spin);
  EXPECT_EQ(info.use_spin, (std::vector<bool>{true, false}));
  EXPECT_EQ(info.contributing, (std::vector<bool>{true, true}));
  EXPECT_EQ(info.reach_of_spins(2.0), 6.0 + 2 * 2.0 * 0.3);
  EXPECT_EQ(info.input("spin"), nullptr);  // comes with the positions
  EXPECT_TRUE(info.packings.empty());
}

TEST(Description, RefusesWhatNoModelCanBe) {
  const auto refuse = [](const std::string& text, const std::string& word) {
    expect_error([&] { read_description(text, "a.pth", true); }, {"a.pth: the desc", word, "; "});
  };
  refuse("", "parse error");
  refuse(description().substr(0, 300), "parse error");
  refuse("[]", "schema");
  refuse(with("\"schema\": 1", "\"schema\": 2"), "has version 2; 1 is read here");
  refuse(with("\"rcut\": 6.0", "\"cutoff\": 6.0"), "\"rcut\" is missing");
  refuse(with("\"rcut\": 6.0", "\"rcut\": -6.0"), "no cutoff");
  refuse(with("\"rcut\": 6.0", "\"rcut\": \"6\""), "\"rcut\" is \"6\"");
  refuse(with("[\"O\", \"H\"]", "[]"), "no types");
  std::string local = with("\"interaction_range\": 12.0", "\"interaction_range\": null");
  EXPECT_NO_THROW(read_description(local, "a.pth", true));  // its messages go anywhere
  const std::string passes = "\"message_passing\": true";
  local.replace(local.find(passes), passes.size(), "\"message_passing\": false");
  refuse(local, "no range");
  refuse(with("\"sel\": [46, 92]", "\"sel\": [46, -1]"), "holds -1");
  refuse(with("\"size\": 2", "\"size\": 99999999999"), "99999999999");
  refuse(with("\"size\": 2", "\"size\": 3"), "another size");
  refuse(with("\"frame\"", "\"edge\""), "\"edge\"");
  refuse(with("\"size\": 5", "\"size\": 0"), "property");
  refuse(with("\"typed\"", "\"odd\""), "\"odd\"");
  refuse(with("\"ntypes\": 2", "\"ntypes\": 3"), "another number of types");
  refuse(with("[[0, 1]]", "[[0, 2]]"), "out of range");
  refuse(with("[[0, 1]]", "[[0]]"), "exclude");
  refuse(with("\"selected_types\": [1]", "\"selected_types\": [2]"), "holds 2");
  refuse(with("[true, false]", "[true]"), "1 entries for 2 types");
}

TEST(Description, HasProbes) {
  const Info info = read_description(description(), "a.pth", true);
  const auto probes = read_probes(R"([{"coord": [[0, 0.5, 0], [1, 2, 3]], "atype": [0, -1],
    "value": [1, 2, 3, 4, 5], "fparam": [[0.25, 0.5]], "aparam": [[1], [2]], "force": null}])",
                                  info);
  ASSERT_EQ(probes.size(), 1u);
  EXPECT_EQ(probes[0].natoms, 2);
  EXPECT_EQ(probes[0].atype, (std::vector<int>{0, -1}));
  EXPECT_EQ(probes[0].coord, (std::vector<double>{0, 0.5, 0, 1, 2, 3}));
  EXPECT_TRUE(probes[0].cell.empty() && probes[0].force.empty());
  EXPECT_EQ(probes[0].input("fparam")[1], 0.5);
  EXPECT_EQ(probes[0].input("aparam")[1], 2.0);
  EXPECT_TRUE(read_probes("[]", info).empty());
  for (const char* text : {"[", R"([{"atype": [0]}])", R"([{"atype": [0], "coord": [1, 2]}])",
                           R"([{"atype": [0], "coord": [1, 2, "x"]}])"}) {
    expect_error([&] { read_probes(text, info); }, {"a.pth: the frames", "freeze"});
  }
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
