// SPDX-License-Identifier: LGPL-3.0-or-later
// Evaluation of frames with a backend that needs no framework (fake_backend): its pair sums are
// repeated here by brute force.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "fake_model.h"

namespace {

using namespace fake;

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
          const double strength = 1.0 + 0.3 * (atoms.atype[i] + atoms.atype[j]);
          sum += strength * std::pow(1 - r2 / rcut / rcut, 3);
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

/** Names of tests that are the same in every run. */
void PrintTo(const Kind& kind, std::ostream* out) {
  for (const char* c = kind.text; *c; ++c) *out << (*c == '\n' ? ' ' : *c);
}

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
    const auto value = [&](const Atoms& at) {
      return model->evaluate(at.frame(), {})[output].value;
    };
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

/** Random spins of atoms, none where there are no atoms. */
std::vector<double> some_spins(int64_t n) {
  std::vector<double> spin;
  for (int64_t k = 0; k < 3 * n; ++k) spin.push_back(std::sin(1.7 * static_cast<double>(k)));
  return spin;
}

TEST(Engine, ForcesOnSpinsAreDerivatives) {
  const auto model = open_text("spin 0.3");
  const Atoms atoms(3, 12, 5.0);
  std::vector<double> spin = some_spins(atoms.n);
  Frame frame = atoms.frame();
  frame.spin = spin.data();
  const auto found = model->evaluate(frame, kAll);
  const double h = 1e-6;
  for (size_t k = 0; k < spin.size(); ++k) {
    double energy[2];
    const double here = spin[k];
    for (int side = 0; side < 2; ++side) {
      spin[k] = here + (side ? h : -h);
      energy[side] = model->evaluate(frame, {})[0].value[0];
    }
    spin[k] = here;
    EXPECT_NEAR(found[0].force_mag[k], (energy[0] - energy[1]) / (2 * h), 1e-6);
  }
}

TEST(Engine, SpinsReachBeyondTheCutoff) {
  const auto model = open_text("spin 0.5");
  const std::vector<double> coord = {0, 0, 0, 4.8, 0, 0};
  const std::vector<int> types = {0, 0};
  const auto energy = [&](double x) {
    const std::vector<double> spin = {-x, 0, 0, -3.0 * x, 0, 0};  // one end is x nearer
    Frame frame;
    frame.nall = 2;
    frame.coord = coord.data();
    frame.atype = types.data();
    frame.spin = spin.data();
    return model->evaluate(frame, {})[0].value[0];
  };
  EXPECT_NEAR(energy(0.5), 2.5, 1e-12) << "the squares alone";
  EXPECT_NEAR(energy(1.0), 16.0, 1e-12) << "the products, too";
}

TEST(Engine, ChunksDoNotChangeForcesOnSpins) {
  const Atoms atoms(5, 1500, 20.0);
  const std::vector<double> spin = some_spins(atoms.n);
  Frame frame = atoms.frame();
  frame.spin = spin.data();
  const auto whole = open_text("spin 0.2\nchunk_edges 100000000")->evaluate(frame, kAll);
  const auto parts = open_text("spin 0.2\nchunk_edges 5000")->evaluate(frame, kAll);
  expect_close(parts, whole);
  expect_near(parts[0].force_mag, whole[0].force_mag, 1e-11);
}

// -- lists --------------------------------------------------------------------------------------

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
               {"4 ranks", "halo", "OMP_NUM_THREADS=4"});
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
  expect_error([&] { model->evaluate(frame, {}); }, {"neighbor 7", "3 atoms"});
  row[0] = -1;
  expect_error([&] { model->evaluate(frame, {}); }, {"neighbor -1"});
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

TEST(Engine, RefusesHalfAList) {
  const Atoms atoms(4, 30, 9.0);
  const auto model = open_text("rcut 4");
  Listed listed(atoms, 4.0, 1.0);
  for (size_t k = 0; k < listed.rows.size(); ++k) {  // each pair at one of its atoms only
    int* row = listed.rows[k].data();
    listed.numneigh[k] = static_cast<int>(
        std::remove_if(row, row + listed.numneigh[k],
                       [&](int j) { return (j & listed.list.mask) < listed.ilist[k]; }) -
        row);
  }
  expect_error([&] { model->evaluate(listed.frame(atoms), {}); }, {"full list", "other way"});
  // Pairs with atoms that are no centers are listed once.
  listed.list.inum = 0;
  EXPECT_NO_THROW(model->evaluate(listed.frame(atoms), {}));
}

// -- chunks and threads -------------------------------------------------------------------------

TEST(Engine, ChunksDoNotChangeResults) {
  // 3000 atoms with about 50 neighbors are many chunks, or one for a file that wants them all.
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

}  // namespace
