// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Smooth particle-mesh Ewald: the energy of Gaussian charges by B-splines on a mesh.
 *
 * ``E = k/(2πV) Σ_{m≠0} exp(-π²m²/β²)/m² |S(m)|²``, without the energies of the charges with
 * themselves taken away: as deepmd/dpmodel/ewald.py, which sums directly.
 *
 * Source: Essmann et al., J. Chem. Phys. 103, 8577 (1995).
 */
#pragma once

#include <array>
#include <complex>
#include <vector>

#include "mesh_transform.h"

namespace deepmd_lmp {

constexpr double coulomb = 14.39964535475696995031;  ///< [eV Å], that of the training

/** Cell of periodic images. */
struct Cell {
  std::array<double, 9> rows{};     ///< cell vectors [Å]
  std::array<double, 9> inverse{};  ///< its columns are the reciprocal vectors without 2π [1/Å]
  double volume = 0.0;              ///< [Å³]

  Cell() = default;
  explicit Cell(const std::array<double, 9>& rows);
};

/** Mesh points per axis, and how values get there and back. */
struct MeshScheme {
  std::array<int, 3> size{};
  int order = 5;            ///< points per axis that a charge touches
  double splitting = 0.0;   ///< β [1/Å]
  bool from_waves = false;  ///< forces are interpolated from a field made of waves ("ik")

  /**
   * Root mean square over positions of the error of the force between two unit charges [e²/Å²],
   * less the Coulomb constant: waves beyond the mesh, and those that it mixes up.
   */
  double force_error(const Cell& cell) const;
};

/** The smallest mesh of fast sizes whose error is below `error`; throws std::range_error. */
std::array<int, 3> choose_mesh(MeshScheme scheme, const Cell& cell, double error);

class ParticleMesh {
 public:
  explicit ParticleMesh(const MeshScheme& scheme);

  /** Take a cell; costs as much as the mesh has points, if it is another one. */
  void set_cell(const Cell& cell);

  /** Spread n charges [e] at positions (n, 3) [Å]; what other ranks spread is added to mesh(). */
  void spread(int n, const double* coord, const double* charge);
  std::vector<double>& mesh() { return mesh_; }

  /** Energy and field of what is on the mesh; `potential`: gather() will be asked for it. */
  void solve(bool potential);
  double energy() const { return energy_; }                        ///< [eV]
  const std::array<double, 9>& virial() const { return virial_; }  ///< [eV], of fixed fractions

  /** Forces (n, 3) [eV/Å] on the charges that were spread. */
  void gather(double* force) const;
  /** Potentials (n) [V] at them: half of the sum of charge times potential is the energy. */
  void potentials(double* potential) const;

  const MeshScheme& scheme() const { return scheme_; }
  double bytes() const;

 private:
  struct Splines;
  void sum_waves();
  void sum_field(int axis);

  MeshScheme scheme_;
  Cell cell_;
  MeshTransform transform_;
  std::array<std::vector<double>, 3> euler_;  ///< squares of spline factors of waves
  std::vector<double> weight_;                ///< of |F|² in the energy, both halves
  std::vector<double> mesh_;                  ///< charges
  std::vector<double> potential_;
  std::array<std::vector<double>, 3> field_;  ///< if forces are not derivatives of the above
  std::vector<std::complex<double>> waves_, scratch_;
  std::vector<double> fractions_, charges_;
  double energy_ = 0.0;
  std::array<double, 9> virial_{};
};

}  // namespace deepmd_lmp
