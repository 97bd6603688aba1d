// SPDX-License-Identifier: LGPL-3.0-or-later
/** Frames and models of the tests of the C++ and C interfaces; models are those of fake_backend. */
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace frames {

/** A model file of the fake backend, removed at the end. */
class ModelFile {
 public:
  explicit ModelFile(const std::string& text, const std::string& name = "fake") {
    setenv("DP_BACKEND_PLUGIN_PATH", (std::string(DEEPMD_FAKE_BACKENDS) + "/working").c_str(), 1);
    path_ = testing::TempDir() + name + std::to_string(getpid()) + ".pb";
    std::ofstream(path_) << text;
  }
  ~ModelFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/** Frames of the same atoms, of types 0 and 1, with a virtual one. */
template <typename T>
struct Frames {
  std::vector<T> coord, box;
  std::vector<int> atype;
  int nframes, natoms;

  explicit Frames(int frames = 1, int atoms = 12) : nframes(frames), natoms(atoms) {
    std::mt19937_64 generator(7);
    std::uniform_real_distribution<double> u(0.0, 8.0);
    for (int k = 0; k < frames; ++k) {
      for (int x = 0; x < 3 * atoms; ++x) {
        // the same numbers in both precisions
        coord.push_back(static_cast<T>(static_cast<float>(u(generator))));
      }
      for (const double x : {8.0, 0.5, 0.0, 0.0, 9.0, 0.25, 0.0, 1.0, 8.5}) {
        box.push_back(static_cast<T>(x));
      }
    }
    for (int i = 0; i < atoms; ++i) {
      atype.push_back(i == 5 ? -1 : i % 2);
    }
  }

  std::vector<T> coord_of(int k) const {
    return {coord.begin() + k * 3 * natoms, coord.begin() + (k + 1) * 3 * natoms};
  }
  std::vector<T> box_of(int k) const { return {box.begin() + 9 * k, box.begin() + 9 * (k + 1)}; }
};

/** The first frame with ghosts, and all pairs within a little more than the cutoff. */
struct Extended {
  std::vector<double> coord;
  std::vector<int> atype, mapping, ilist, numneigh;
  std::vector<std::vector<int>> neighbors;
  std::vector<int*> firstneigh;
  int nloc, nghost;

  explicit Extended(const Frames<double>& frame, double rcut = 4.0) : nloc(frame.natoms) {
    coord = frame.coord_of(0);
    atype = frame.atype;
    for (int i = 0; i < nloc; ++i) mapping.push_back(i);
    const int m = 2;
    for (int a = -m; a <= m; ++a) {
      for (int b = -m; b <= m; ++b) {
        for (int c = -m; c <= m; ++c) {
          if (a || b || c) add_images(frame, a, b, c);
        }
      }
    }
    nghost = static_cast<int>(atype.size()) - nloc;
    for (int i = 0; i < nloc; ++i) {
      ilist.push_back(i);
      neighbors.emplace_back();
      for (int j = 0; j < nloc + nghost; ++j) {
        if (j != i && distance(i, j) < rcut + 0.5) neighbors.back().push_back(j);
      }
      numneigh.push_back(static_cast<int>(neighbors.back().size()));
    }
    for (auto& row : neighbors) firstneigh.push_back(row.data());
  }

  void add_images(const Frames<double>& frame, int a, int b, int c) {
    for (int i = 0; i < nloc; ++i) {
      for (int k = 0; k < 3; ++k) {
        coord.push_back(coord[3 * i + k] + a * frame.box[k] + b * frame.box[3 + k] +
                        c * frame.box[6 + k]);
      }
      atype.push_back(frame.atype[i]);
      mapping.push_back(i);
    }
  }

  double distance(int i, int j) const {
    return std::hypot(coord[3 * i] - coord[3 * j], coord[3 * i + 1] - coord[3 * j + 1],
                      coord[3 * i + 2] - coord[3 * j + 2]);
  }
};

template <typename A, typename B>
void expect_near(const std::vector<A>& a, const std::vector<B>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t k = 0; k < a.size(); ++k) {
    ASSERT_NEAR(a[k], b[k], tolerance * std::max(1.0, std::abs(double(b[k])))) << "number " << k;
  }
}

/** Run `function`; its message must have all parts. */
template <typename Exception, typename Function>
void expect_error(const Function& function, const std::vector<std::string>& parts) {
  try {
    function();
    FAIL() << "no error; expected: " << parts[0];
  } catch (const Exception& error) {
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
}

}  // namespace frames
