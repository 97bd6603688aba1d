// SPDX-License-Identifier: LGPL-3.0-or-later
#include "mesh_transform.h"

#include <algorithm>
#include <cstddef>
#include <unsupported/Eigen/FFT>

namespace deepmd_lmp {
namespace {

constexpr int lines = 8;  // adjacent lines gathered at once, so that whole cache lines are read

}  // namespace

struct MeshTransform::Plans {
  Eigen::FFT<double> fft;
};

MeshTransform::MeshTransform(const std::array<int, 3>& size)
    : size_(size), plans_(std::make_unique<Plans>()) {
  plans_->fft.SetFlag(Eigen::FFT<double>::HalfSpectrum);
  plans_->fft.SetFlag(Eigen::FFT<double>::Unscaled);
  const size_t longest = *std::max_element(size_.begin(), size_.end());
  in_.resize(lines * longest);
  out_.resize(longest);
}

MeshTransform::~MeshTransform() = default;

/** Transform up to `lines` adjacent lines of `length` waves, which lie `stride` apart. */
void MeshTransform::along(std::complex<double>* first, int length, int stride, bool back) {
  const int count = std::min(lines, stride);
  for (int begin = 0; begin < stride; begin += count) {
    const int now = std::min(count, stride - begin);
    for (int k = 0; k < length; ++k) {
      const std::complex<double>* row = first + static_cast<ptrdiff_t>(k) * stride + begin;
      for (int c = 0; c < now; ++c) in_[static_cast<size_t>(c) * length + k] = row[c];
    }
    for (int c = 0; c < now; ++c) {
      const std::complex<double>* line = in_.data() + static_cast<size_t>(c) * length;
      if (back) {
        plans_->fft.inv(out_.data(), line, length);
      } else {
        plans_->fft.fwd(out_.data(), line, length);
      }
      std::complex<double>* column = first + begin + c;
      for (int k = 0; k < length; ++k) column[static_cast<ptrdiff_t>(k) * stride] = out_[k];
    }
  }
}

/** Transform along the first or the second axis. */
void MeshTransform::planes(std::vector<std::complex<double>>& waves, int axis, bool back) {
  if (axis == 0) {
    along(waves.data(), size_[0], size_[1] * half(), back);
    return;
  }
  const size_t plane = static_cast<size_t>(size_[1]) * half();
  for (int i = 0; i < size_[0]; ++i) along(waves.data() + i * plane, size_[1], half(), back);
}

void MeshTransform::forward(const std::vector<double>& mesh,
                            std::vector<std::complex<double>>& waves) {
  const size_t rows = static_cast<size_t>(size_[0]) * size_[1];
  waves.resize(rows * half());
  for (size_t r = 0; r < rows; ++r) {
    plans_->fft.fwd(waves.data() + r * half(), mesh.data() + r * size_[2], size_[2]);
  }
  planes(waves, 1, false);
  planes(waves, 0, false);
}

void MeshTransform::backward(std::vector<std::complex<double>>& waves, std::vector<double>& mesh) {
  planes(waves, 0, true);
  planes(waves, 1, true);
  const size_t rows = static_cast<size_t>(size_[0]) * size_[1];
  mesh.resize(rows * size_[2]);
  for (size_t r = 0; r < rows; ++r) {
    plans_->fft.inv(mesh.data() + r * size_[2], waves.data() + r * half(), size_[2]);
  }
}

}  // namespace deepmd_lmp
