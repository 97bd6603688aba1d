// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Fourier transform of real values on a mesh of three dimensions, by Eigen's (kissfft).
 */
#pragma once

#include <array>
#include <complex>
#include <memory>
#include <vector>

namespace deepmd_lmp {

class MeshTransform {
 public:
  explicit MeshTransform(const std::array<int, 3>& size);
  ~MeshTransform();

  /** Waves along the last axis: the others are conjugates of these. */
  int half() const { return size_[2] / 2 + 1; }

  /** ``F(n) = Σ_k Q(k) exp(-2πi n·k/K)``: mesh (K1, K2, K3) to waves (K1, K2, half). */
  void forward(const std::vector<double>& mesh, std::vector<std::complex<double>>& waves);

  /** ``Q(k) = Σ_n F(n) exp(2πi n·k/K)``, without a factor; the waves are overwritten. */
  void backward(std::vector<std::complex<double>>& waves, std::vector<double>& mesh);

 private:
  struct Plans;
  void along(std::complex<double>* first, int length, int stride, bool back);
  void planes(std::vector<std::complex<double>>& waves, int axis, bool back);

  std::array<int, 3> size_;
  std::unique_ptr<Plans> plans_;
  std::vector<std::complex<double>> in_, out_;
};

}  // namespace deepmd_lmp
