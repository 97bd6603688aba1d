// SPDX-License-Identifier: LGPL-3.0-or-later
/** Several descriptors side by side. */
#pragma once

#include "descriptor.h"

namespace deepmd::native {

template <class T>
class Hybrid : public Descriptor<T> {
 public:
  Hybrid(const Node& node, Packings& packings);

  Reach reach() const override { return reach_; }
  int64_t width() const override { return width_; }
  int64_t rotation_width() const override { return rotation_ / 3; }
  int64_t block() const override;
  std::unique_ptr<DescriptorState> state() const override;
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;
  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override;

 private:
  struct Member {
    std::unique_ptr<Descriptor<T>> descriptor;
    int64_t column;                           ///< of its first value in a row
    int64_t rotation_width, rotation_column;  ///< of its rotation in a row, in numbers
  };

  Reach reach_;
  std::vector<Member> members_;
  int64_t width_ = 0, rotation_ = 0;  ///< numbers of a row
};

}  // namespace deepmd::native
