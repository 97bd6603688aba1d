// SPDX-License-Identifier: LGPL-3.0-or-later
/** Standard deviations of a last layer (deepmd/dpmodel/uncertainty.py, atom_deviations.py). */
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dictionary.h"
#include "kernels/precision.h"

namespace deepmd::native {

/** An upper triangle (width, width), packed for products with it, in strips of its rows. */
class Triangle {
 public:
  Triangle(const double* data, int64_t width);
  /** Numbers of a row of the result; what lies beyond the width is zero. */
  int64_t ld() const { return ld_; }
  /** y (m, ld) = R x for rows x (m, width). */
  void multiply(int64_t m, const double* x, double* y) const;

 private:
  struct Strip {
    int64_t first, rows;
    std::vector<double> packed;
  };
  int64_t width_, ld_;
  std::vector<Strip> strips_;
};

/** The section of a file, as far as it is evaluated here. */
class Uncertainty {
 public:
  /**
   * Read the section of a model with a last hidden layer of that width; `predicted` says of which
   * types energies are predicted. Throws Failure if it is damaged.
   */
  Uncertainty(const Node& section, int64_t width, std::vector<int64_t> predicted);
  /** None, for a reason in words that follow the name of the file. */
  explicit Uncertainty(std::string missing);

  /** For deepmd_info; belongs to this object. */
  const deepmd_uncertainty* facts() const { return &facts_; }

  /** Deviations (n_atoms, 2) of energies [eV] and of components of forces [eV/Å] of atoms. */
  void evaluate(int64_t n_atoms, const int64_t* atype, const double* hidden,
                double* deviations) const;

 private:
  void read(const Node& section);

  std::string missing_;
  deepmd_uncertainty facts_{};
  std::vector<int64_t> predicted_;
  std::vector<double> factor_, offset_, corner_, center_, floor_, slope_;
  std::vector<Triangle> triangles_;
};

/** The uncertainty in a file, or the reason why there is none. */
std::unique_ptr<Uncertainty> read_uncertainty(const Node& root, int64_t width,
                                              std::vector<int64_t> predicted);

}  // namespace deepmd::native
