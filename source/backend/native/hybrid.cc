// SPDX-License-Identifier: LGPL-3.0-or-later
#include "hybrid.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "converted.h"

namespace deepmd::native {

namespace {

template <class T>
struct HybridState : DescriptorState {
  std::vector<std::unique_ptr<DescriptorState>> members;
  std::vector<T> rotation;
};

int64_t total(const std::vector<int64_t>& sel) {
  return std::accumulate(sel.begin(), sel.end(), int64_t{0});
}

/** Cutoff and numbers of neighbors of all members. */
Reach reach_of(const Node& members) {
  Reach all;
  for (size_t k = 0; k < members.size(); ++k) {
    const Node one = members[k];
    if (!one.has("rcut") || !one.has("sel")) one.unknown("a member of a hybrid that is one itself");
    const std::string type = one.text("type");
    all.rcut = std::max(all.rcut, one.number("rcut"));
    all.mixed_types = all.mixed_types || one.has("type_embedding");
  }
  for (size_t k = 0; k < members.size(); ++k) {
    std::vector<int64_t> sel = members[k].integers("sel");
    if (all.mixed_types) sel = {total(sel)};
    if (all.sel.size() < sel.size()) all.sel.resize(sel.size(), 0);
    for (size_t t = 0; t < sel.size(); ++t) all.sel[t] = std::max(all.sel[t], sel[t]);
  }
  return all;
}

}  // namespace

template <class T>
Hybrid<T>::Hybrid(const Node& node, Packings& packings) : reach_(reach_of(node["list"])) {
  const Node members = node["list"];
  const View view{reach_.rcut, total(reach_.sel)};
  for (size_t k = 0; k < members.size(); ++k) {
    auto one = descriptor_as<T>(members[k], packings, view);
    const int64_t width = one->width(), rotation = one->rotation_width() * 3;
    members_.push_back({std::move(one), width_, rotation, rotation_});
    width_ += width;
    rotation_ += rotation;
  }
  if (members_.empty()) node.fail("has no members");
}

template <class T>
int64_t Hybrid<T>::block() const {
  int64_t n = members_[0].descriptor->block();
  for (const auto& m : members_) n = std::min(n, m.descriptor->block());
  return n;
}

template <class T>
std::unique_ptr<DescriptorState> Hybrid<T>::state() const {
  auto state = std::make_unique<HybridState<T>>();
  for (const auto& m : members_) state->members.push_back(m.descriptor->state());
  return state;
}

template <class T>
void Hybrid<T>::forward(const Block& block, T* d, int64_t ldd, T* rotation,
                        DescriptorState& state) const {
  auto& s = static_cast<HybridState<T>&>(state);
  for (size_t k = 0; k < members_.size(); ++k) {
    const Member& m = members_[k];
    const int64_t n = rotation ? m.rotation_width : 0;
    T* turned = n > 0 ? sized(s.rotation, block.n * n) : nullptr;
    m.descriptor->forward(block, d + m.column, ldd, turned, *s.members[k]);
    for (int64_t c = 0; turned && c < block.n; ++c) {
      std::copy_n(turned + c * n, n, rotation + c * rotation_ + m.rotation_column);
    }
  }
}

template <class T>
void Hybrid<T>::backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                         double* gradient, int64_t stride, DescriptorState& state) const {
  auto& s = static_cast<HybridState<T>&>(state);
  for (size_t k = 0; k < members_.size(); ++k) {
    const Member& m = members_[k];
    const int64_t n = rotation_bar ? m.rotation_width : 0;
    T* turned = n > 0 ? sized(s.rotation, block.n * n) : nullptr;
    for (int64_t c = 0; turned && c < block.n; ++c) {
      std::copy_n(rotation_bar + c * rotation_ + m.rotation_column, n, turned + c * n);
    }
    m.descriptor->backward(block, d_bar + m.column, ldd, turned, gradient, stride, *s.members[k]);
  }
}

template class Hybrid<double>;
template class Hybrid<float>;

}  // namespace deepmd::native
