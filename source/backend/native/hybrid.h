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
  int64_t width() const override;
  int64_t rotation_width() const override;
  int64_t block() const override;
  std::unique_ptr<DescriptorState> state() const override;
  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override;
  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override;

 private:
  Reach reach_;
  std::vector<std::unique_ptr<Descriptor<T>>> members_;
};

}  // namespace deepmd::native
