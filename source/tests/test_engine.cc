// SPDX-License-Identifier: LGPL-3.0-or-later
// Evaluation of frames with a backend that needs no framework (fake_backend): its pair sums are
// repeated here by brute force.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/model.h"
#include "deepmd/errors.h"

namespace {

using namespace deepmd::core;

void use_backends(const std::string& folder) {
  setenv("DP_BACKEND_PLUGIN_PATH", (std::string(DEEPMD_FAKE_BACKENDS) + "/" + folder).c_str(), 1);
}

std::shared_ptr<Model> open_text(const std::string& text, const std::string& name = "fake.pb") {
  use_backends("working");
  OpenOptions options;
  options.content = text;
  return Model::open(name, options);
}

/** Random atoms of two types, some of them virtual. */
struct Atoms {
  std::vector<double> coord, aparam;
  std::vector<int> atype;
  std::vector<double> cell;
  int64_t n;

  Atoms(unsigned seed, int64_t count, double edge, bool periodic = true, bool with_virtual = true)
      : n(count) {
    std::mt19937_64 generator(seed);
    std::uniform_real_distribution<double> u(0.0, 1.0);
    if (periodic) cell = {edge, 0.1 * edge, 0, 0, edge, -0.05 * edge, 0.2 * edge, 0, edge};
    for (int64_t a = 0; a < n; ++a) {
      for (int k = 0; k < 3; ++k) coord.push_back((3.0 * u(generator) - 1.0) * edge);
      atype.push_back(with_virtual && a % 7 == 3 ? (a % 2 ? -1 : 5) : int(a % 2));
      aparam.push_back(u(generator));
    }
    if (!periodic) {
      for (double& x : coord) x *= 0.4;
    }
  }

  Frame frame() const {
    Frame f;
    f.nall = n;
    f.coord = coord.data();
    f.atype = atype.data();
    f.cell = cell.empty() ? nullptr : cell.data();
    f.aparam = aparam.data();
    return f;
  }
};

const Wanted kAll{true, true};

/** Energy of the fake model, by definition. */
double brute_energy(const Atoms& atoms, double rcut, bool messages) {
  const int m = atoms.cell.empty() ? 0 : 6;
  const auto real = [&](int64_t a) { return atoms.atype[a] == 0 || atoms.atype[a] == 1; };
  const auto phi = [&](int64_t i, int64_t j) {
    double sum = 0.0;
    for (int a = -m; a <= m; ++a) {
      for (int b = -m; b <= m; ++b) {
        for (int c = -m; c <= m; ++c) {
          double r2 = 0.0;
          for (int k = 0; k < 3; ++k) {
            double d = atoms.coord[3 * j + k] - atoms.coord[3 * i + k];
            if (m) d += a * atoms.cell[k] + b * atoms.cell[3 + k] + c * atoms.cell[6 + k];
            r2 += d * d;
          }
          if (r2 <= 0.0 || r2 > rcut * rcut) continue;
          sum += (1.0 + 0.3 * (atoms.atype[i] + atoms.atype[j])) * std::pow(1 - r2 / rcut / rcut, 3);
        }
      }
    }
    return sum;
  };
  std::vector<double> matrix(atoms.n * atoms.n, 0.0), q(atoms.n, 0.0);
  double energy = 0.0;
  for (int64_t i = 0; i < atoms.n; ++i) {
    for (int64_t j = 0; j < atoms.n; ++j) {
      if (real(i) && real(j)) q[i] += matrix[i * atoms.n + j] = phi(i, j);
    }
  }
  for (int64_t i = 0; i < atoms.n; ++i) {
    energy += messages ? q[i] * q[i] : 0.5 * q[i];
    for (int64_t j = 0; messages && j < atoms.n; ++j) {
      energy += q[i] * q[j] * matrix[i * atoms.n + j];
    }
  }
  return energy;
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t k = 0; k < a.size(); ++k) ASSERT_NEAR(a[k], b[k], tolerance) << "number " << k;
}

void expect_close(const std::vector<Prediction>& a, const std::vector<Prediction>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t k = 0; k < a.size(); ++k) {
    expect_near(a[k].value, b[k].value, 1e-10);
    expect_near(a[k].atom_value, b[k].atom_value, 1e-11);
    expect_near(a[k].force, b[k].force, 1e-11);
    expect_near(a[k].virial, b[k].virial, 1e-9);
    expect_near(a[k].atom_virial, b[k].atom_virial, 1e-10);
  }
}

void expect_same(const std::vector<Prediction>& a, const std::vector<Prediction>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t k = 0; k < a.size(); ++k) {
    EXPECT_EQ(a[k].value, b[k].value);
    EXPECT_EQ(a[k].atom_value, b[k].atom_value);
    EXPECT_EQ(a[k].force, b[k].force);
    EXPECT_EQ(a[k].virial, b[k].virial);
    EXPECT_EQ(a[k].atom_virial, b[k].atom_virial);
  }
}

template <class F>
void expect_error(const F& function, const std::vector<std::string>& parts) {
  try {
    function();
    FAIL() << "no error; expected: " << parts[0];
  } catch (const deepmd::deepmd_exception& error) {
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "\"" << part << "\" is not in: " << error.what();
    }
  }
}

// -- numbers ------------------------------------------------------------------------------------

struct Kind {
  const char* text;
  bool messages;
};
const Kind kKinds[] = {{"entries 1\n", false},
                       {"entries 1\ntyped 1\n", false},
                       {"entries 2\n", false},
                       {"entries 1\nmessage_passing 1\n", true},
                       {"entries 1\nmessage_passing 1\ntyped 1\n", true},
                       {"entries 2\nmessage_passing 1\n", true}};

class EngineKinds : public testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(All, EngineKinds, testing::ValuesIn(kKinds));

TEST_P(EngineKinds, EnergyIsTheDefinition) {
  const auto model = open_text(GetParam().text);
  for (const bool periodic : {true, false}) {
    for (const double edge : {2.5, 7.0}) {
      const Atoms atoms(1, 12, edge, periodic);
      const auto found = model->evaluate(atoms.frame(), kAll);
      const double expected = brute_energy(atoms, 4.0, GetParam().messages);
      EXPECT_NEAR(found[0].value[0], expected, 1e-11 * std::abs(expected));
      for (int64_t a = 0; a < atoms.n; ++a) {
        if (atoms.atype[a] == 0 || atoms.atype[a] == 1) continue;
        EXPECT_EQ(found[0].atom_value[a], 0.0);
        EXPECT_EQ(found[0].force[3 * a], 0.0);
      }
    }
  }
}

TEST_P(EngineKinds, ForceAndVirialAreDerivatives) {
  const auto model = open_text(GetParam().text);
  const Atoms atoms(2, 10, 5.0);
  const auto found = model->evaluate(atoms.frame(), kAll);
  const double h = 1e-5;
  for (size_t output = 0; output < 2; ++output) {
    const size_t size = found[output].value.size();
    const auto value = [&](const Atoms& at) { return model->evaluate(at.frame(), {})[output].value; };
    const auto slope = [&](const Atoms& up, const Atoms& down, size_t c) {
      return -(value(up)[c] - value(down)[c]) / (2 * h);
    };
    for (size_t c = 0; c < size; ++c) {
      for (size_t k = 0; k < 9; ++k) {
        Atoms up = atoms, down = atoms;
        up.coord[k] += h;
        down.coord[k] -= h;
        EXPECT_NEAR(slope(up, down, c), found[output].force[c * 30 + k], 1e-6);
      }
      for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) {  // r -> r (1 + strain), component a along b
          Atoms up = atoms, down = atoms;
          for (auto member : {&Atoms::coord, &Atoms::cell}) {
            for (size_t k = 0; k < (atoms.*member).size(); k += 3) {
              (up.*member)[k + a] += h * (atoms.*member)[k + b];
              (down.*member)[k + a] -= h * (atoms.*member)[k + b];
            }
          }
          EXPECT_NEAR(slope(up, down, c), found[output].virial[9 * c + 3 * a + b], 1e-5);
        }
      }
    }
  }
}

TEST_P(EngineKinds, AtomicVirialsAddUp) {
  const auto found = open_text(GetParam().text)->evaluate(Atoms(3, 20, 6.0).frame(), kAll);
  for (const Prediction& p : found) {
    std::vector<double> sum(p.virial.size(), 0.0);
    for (size_t c = 0; 9 * c < sum.size(); ++c) {
      for (size_t k = 0; k < 20 * 9; ++k) sum[9 * c + k % 9] += p.atom_virial[c * 180 + k];
    }
    expect_near(sum, p.virial, 1e-10);
  }
}

// -- lists --------------------------------------------------------------------------------------

/** A frame with ghosts, and a list with a skin, as a molecular dynamics program has them. */
struct Listed {
  std::vector<double> coord;
  std::vector<int> atype, mapping, ilist, numneigh;
  std::vector<std::vector<int>> rows;
  std::vector<const int*> firstneigh;
  NeighborList list;
  int64_t nloc;

  Listed(const Atoms& atoms, double rcut, double skin) : nloc(atoms.n) {
    coord = atoms.coord;
    atype = atoms.atype;
    for (int a = 0; a < nloc; ++a) mapping.push_back(a);
    for (int x = -4; x <= 4; ++x) {
      for (int y = -4; y <= 4; ++y) {
        for (int z = -4; z <= 4; ++z) {
          if (x == 0 && y == 0 && z == 0) continue;
          for (int a = 0; a < nloc; ++a) {
            for (int k = 0; k < 3; ++k) {
              coord.push_back(atoms.coord[3 * a + k] + x * atoms.cell[k] + y * atoms.cell[3 + k] +
                              z * atoms.cell[6 + k]);
            }
            atype.push_back(atoms.atype[a]);
            mapping.push_back(a);
          }
        }
      }
    }
    const auto nall = static_cast<int>(atype.size());
    for (int i = static_cast<int>(nloc) - 1; i >= 0; --i) {  // any order of centres
      ilist.push_back(i);
      rows.emplace_back();
      for (int j = nall - 1; j >= 0; --j) {
        double r2 = 0.0;
        for (int k = 0; k < 3; ++k) r2 += std::pow(coord[3 * j + k] - coord[3 * i + k], 2);
        if (j != i && r2 <= (rcut + skin) * (rcut + skin)) {
          rows.back().push_back(j | (j % 3 << 29));  // bits that are no number
        }
      }
    }
    for (const auto& row : rows) {
      numneigh.push_back(static_cast<int>(row.size()));
      firstneigh.push_back(row.data());
    }
    list.inum = static_cast<int>(nloc);
    list.ilist = ilist.data();
    list.numneigh = numneigh.data();
    list.firstneigh = firstneigh.data();
    list.mask = 0x1FFFFFFF;
    list.mapping = mapping.data();
  }
  Listed(const Listed&) = delete;

  Frame frame(const Atoms& atoms) const {
    Frame f = atoms.frame();
    f.nall = static_cast<int64_t>(atype.size());
    f.nghost = f.nall - nloc;
    f.coord = coord.data();
    f.atype = atype.data();
    f.list = &list;
    return f;
  }
};

TEST_P(EngineKinds, GhostsAndAListGiveTheSame) {
  const auto model = open_text(GetParam().text);
  Atoms atoms(4, 15, 6.0);
  const Listed listed(atoms, 4.0, 1.0);
  const Frame frame = listed.frame(atoms);
  auto found = model->evaluate(frame, kAll);
  const auto expected = model->evaluate(atoms.frame(), kAll);
  for (size_t k = 0; k < found.size(); ++k) {  // ghosts give back their share
    const auto n = static_cast<size_t>(listed.nloc), nall = static_cast<size_t>(frame.nall);
    const auto fold = [&](std::vector<double>& all, size_t width) {
      const size_t size = all.size() / nall / width;
      std::vector<double> folded(size * n * width, 0.0);
      for (size_t c = 0; c < size; ++c) {
        for (size_t a = 0; a < nall * width; ++a) {
          folded[(c * n + listed.mapping[a / width]) * width + a % width] +=
              all[c * nall * width + a];
        }
      }
      all = folded;
    };
    const size_t size = found[k].value.size();
    found[k].atom_value.resize(n * size);
    fold(found[k].force, 3);
    fold(found[k].atom_virial, 9);
  }
  expect_close(found, expected);
}

TEST(Engine, NeedsAMappingForMessagesOnly) {
  Atoms atoms(4, 6, 6.0);
  Listed listed(atoms, 4.0, 1.0);
  listed.list.mapping = nullptr;
  EXPECT_NO_THROW(open_text("rcut 4")->evaluate(listed.frame(atoms), {}));
  EXPECT_NO_THROW(open_text("entries 2")->evaluate(listed.frame(atoms), {}));
  const auto model = open_text("message_passing 1");
  expect_error([&] { model->evaluate(listed.frame(atoms), {}); },
               {"fake.pb", "messages", "atom_modify map yes"});
  listed.list.mapping = listed.mapping.data();
  listed.list.nprocs = 4;
  expect_error([&] { model->evaluate(listed.frame(atoms), {}); },
               {"one rank", "OMP_NUM_THREADS=4"});
  EXPECT_NO_THROW(open_text("rcut 4")->evaluate(listed.frame(atoms), {}));
  listed.list.nprocs = 1;
  listed.mapping.back() = 1000;
  expect_error([&] { model->evaluate(listed.frame(atoms), {}); }, {"mapping", "1000"});
  std::fill(listed.mapping.begin() + listed.nloc, listed.mapping.end(), -1);
  expect_error([&] { model->evaluate(listed.frame(atoms), {}); }, {"mapping", "no local atom"});
}

TEST(Engine, TakesAListWithoutGhostsOfAnOpenSystem) {
  Atoms atoms(4, 15, 6.0, false);
  const auto model = open_text("message_passing 1");
  const auto expected = model->evaluate(atoms.frame(), kAll);
  std::vector<int> all(15), count(15, 15);
  std::vector<const int*> rows(15, all.data());
  for (int a = 0; a < 15; ++a) all[a] = a;
  NeighborList list;
  list.inum = 15;
  list.ilist = all.data();
  list.numneigh = count.data();
  list.firstneigh = rows.data();
  Frame frame = atoms.frame();
  frame.list = &list;
  expect_close(model->evaluate(frame, kAll), expected);
}

TEST(Engine, RefusesABrokenList) {
  Atoms atoms(4, 3, 6.0);
  const auto model = open_text("rcut 4");
  int ilist[2] = {0, 1}, count[2] = {1, 0}, row[1] = {7};
  const int* rows[2] = {row, row};
  NeighborList list;
  list.inum = 2;
  list.ilist = ilist;
  list.numneigh = count;
  list.firstneigh = rows;
  Frame frame = atoms.frame();
  frame.list = &list;
  expect_error([&] { model->evaluate(frame, {}); }, {"neighbour 7", "3 atoms"});
  row[0] = -1;
  expect_error([&] { model->evaluate(frame, {}); }, {"neighbour -1"});
  row[0] = 2;
  ilist[1] = 0;
  expect_error([&] { model->evaluate(frame, {}); }, {"twice"});
  ilist[1] = 3;
  expect_error([&] { model->evaluate(frame, {}); }, {"local atoms"});
  list.ilist = nullptr;
  expect_error([&] { model->evaluate(frame, {}); }, {"ilist"});
  frame.list = nullptr;
  frame.nghost = 1;
  expect_error([&] { model->evaluate(frame, {}); }, {"ghosts"});
}

// -- chunks and threads -------------------------------------------------------------------------

TEST(Engine, ChunksDoNotChangeResults) {
  // 3000 atoms with about 50 neighbours are many chunks, or one for a file that wants them all.
  const Atoms atoms(5, 3000, 25.0);
  const auto whole = open_text("whole 1\naparam 1")->evaluate(atoms.frame(), kAll);
  EXPECT_GT(whole[2].value[0], 40.0);
  for (const char* text : {"typed 1\naparam 1", "entries 2\naparam 1", "chunk_edges 1\naparam 1",
                           "chunk_edges 1000000\naparam 1", "first_release 1\naparam 1"}) {
    expect_close(open_text(text)->evaluate(atoms.frame(), kAll), whole);
  }
}

TEST(Engine, ThreadsDoNotChangeABit) {
  const Atoms atoms(6, 4000, 27.0);
  for (const char* text : {"typed 1", "entries 2", "message_passing 1"}) {
    std::vector<std::vector<Prediction>> found;
    for (const char* threads : {"1", "2", "3", "8", "8"}) {
      setenv("DP_INTRA_OP_PARALLELISM_THREADS", threads, 1);
      found.push_back(open_text(text)->evaluate(atoms.frame(), kAll));
    }
    unsetenv("DP_INTRA_OP_PARALLELISM_THREADS");
    for (const auto& other : found) expect_same(other, found[0]);
  }
}

TEST(Engine, ServesSeveralThreadsAtOnce) {
  setenv("DP_INTRA_OP_PARALLELISM_THREADS", "3", 1);
  const auto model = open_text("typed 1");
  unsetenv("DP_INTRA_OP_PARALLELISM_THREADS");
  const Atoms atoms(7, 1500, 20.0);
  const auto expected = model->evaluate(atoms.frame(), kAll);
  std::vector<std::vector<Prediction>> found(4);
  std::vector<std::thread> threads;
  for (auto& mine : found) {
    threads.emplace_back([&] {
      for (int k = 0; k < 3; ++k) mine = model->evaluate(atoms.frame(), kAll);
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& mine : found) expect_same(mine, expected);
}

TEST(Engine, CountsThreads) {
  const auto count = [](std::vector<std::pair<const char*, const char*>> variables) {
    for (const auto& [name, value] : variables) setenv(name, value, 1);
    const int threads = number_of_threads();
    for (const auto& [name, value] : variables) unsetenv(name);
    return threads;
  };
  const char* saved = std::getenv("OMP_NUM_THREADS");
  const std::string before = saved ? saved : "";
  unsetenv("OMP_NUM_THREADS");
  const int cores = count({});
  EXPECT_GE(cores, 1);
  EXPECT_EQ(count({{"OMP_NUM_THREADS", "5"}}), 5);
  EXPECT_EQ(count({{"OMP_NUM_THREADS", "5"}, {"DP_INTRA_OP_PARALLELISM_THREADS", "3"}}), 3);
  EXPECT_EQ(count({{"OMP_NUM_THREADS", "4,2"}}), 4);
  EXPECT_EQ(count({{"OMP_NUM_THREADS", "none"}}), cores);
  EXPECT_EQ(count({{"MPI_LOCALNRANKS", "1000"}}), 1);
  EXPECT_EQ(count({{"SLURM_STEP_TASKS_PER_NODE", "1(x2)"}}), cores);
  if (saved) setenv("OMP_NUM_THREADS", before.c_str(), 1);
}

TEST(Engine, PassesOnAFailureInAnyThread) {
  setenv("DP_INTRA_OP_PARALLELISM_THREADS", "4", 1);
  const auto model = open_text("fail 1");
  unsetenv("DP_INTRA_OP_PARALLELISM_THREADS");
  const Atoms atoms(8, 2000, 20.0);
  for (int k = 0; k < 5; ++k) {
    expect_error([&] { model->evaluate(atoms.frame(), kAll); }, {"fake.pb", "told to fail"});
  }
}

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
  EXPECT_EQ(model->info().dim_fparam, 1);
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

TEST(Engine, CountsCentresWithTooManyNeighbors) {
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
  for (const char* name : {"model.hlo", "model.dp", "model.yaml", "model.pt", "model", ".pbx"}) {
    expect_error([&] { open_text("rcut 4", name); },
                 {name, "Unsupported model file format", "dp convert-backend"});
  }
  EXPECT_EQ(backend_of("a/b.pth"), "torch");
  EXPECT_EQ(backend_of("b.pt2"), "torch");
  EXPECT_EQ(backend_of("c.savedmodel/"), "tf");
}

TEST(Engine, SaysWhatIsWrongWithALibrary) {
  OpenOptions options;
  options.content = "rcut 4";
  const auto open = [&] { Model::open("fake.savedmodel", options); };
  use_backends("nowhere");
  expect_error(open, {"Unable to load", "TensorFlow", "nowhere", "libdeepmd_backend_tf",
                      "DP_BACKEND_PLUGIN_PATH"});
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
  expect_error([] { open_text("short_info 1"); }, {"too short"});
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
