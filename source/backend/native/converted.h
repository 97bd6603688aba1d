// SPDX-License-Identifier: LGPL-3.0-or-later
/** Descriptors of one precision in a model of another. */
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "descriptor.h"

namespace deepmd::native {

/** A descriptor of another precision than the fitting. */
template <class T, class U>
class Converted : public Descriptor<T> {
  struct State : DescriptorState {
    std::unique_ptr<DescriptorState> inner;
    std::vector<U> d, rotation;
  };

 public:
  explicit Converted(std::unique_ptr<Descriptor<U>> inner) : inner_(std::move(inner)) {}

  Reach reach() const override { return inner_->reach(); }
  int64_t width() const override { return inner_->width(); }
  int64_t rotation_width() const override { return inner_->rotation_width(); }
  int64_t block() const override { return inner_->block(); }
  std::unique_ptr<DescriptorState> state() const override {
    auto state = std::make_unique<State>();
    state->inner = inner_->state();
    return state;
  }

  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override {
    auto& s = static_cast<State&>(state);
    const int64_t w = width(), turned = block.n * rotation_width() * 3;
    U* from = sized(s.d, block.n * w);
    U* turned_from = rotation ? sized(s.rotation, turned) : nullptr;
    inner_->forward(block, from, w, turned_from, *s.inner);
    for (int64_t c = 0; c < block.n; ++c) {
      for (int64_t k = 0; k < w; ++k) d[c * ldd + k] = static_cast<T>(from[c * w + k]);
    }
    if (rotation) std::copy(turned_from, turned_from + turned, rotation);
  }

  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override {
    auto& s = static_cast<State&>(state);
    const int64_t w = width(), turned = block.n * rotation_width() * 3;
    U* to = sized(s.d, block.n * w);
    for (int64_t c = 0; c < block.n; ++c) {
      for (int64_t k = 0; k < w; ++k) to[c * w + k] = static_cast<U>(d_bar[c * ldd + k]);
    }
    U* turned_to = rotation_bar ? sized(s.rotation, turned) : nullptr;
    for (int64_t k = 0; rotation_bar && k < turned; ++k) {
      turned_to[k] = static_cast<U>(rotation_bar[k]);
    }
    inner_->backward(block, to, w, turned_to, gradient, stride, *s.inner);
  }

 private:
  std::unique_ptr<Descriptor<U>> inner_;
};

/** Read a descriptor of any precision as one of precision T. */
template <class T>
std::unique_ptr<Descriptor<T>> descriptor_as(const Node& node, Packings& packings,
                                             const View& view = {}) {
  using Other = std::conditional_t<std::is_same_v<T, double>, float, double>;
  if (node.text("type") == "hybrid" || is_single(node) == std::is_same_v<T, float>)
    return read_descriptor<T>(node, packings, view);
  return std::make_unique<Converted<T, Other>>(read_descriptor<Other>(node, packings, view));
}

}  // namespace deepmd::native
