// SPDX-License-Identifier: LGPL-3.0-or-later
#include "three_body.h"

#include <algorithm>

namespace deepmd::native {

template <class T>
SeE3<T>::SeE3(const Node& node, Packings& packings, const View& view)
    : environment_(node, packings, view, false, DEEPMD_ROW) {
  const int64_t nt = environment_.ntypes();
  const Node networks = node["embeddings"]["networks"];
  if (static_cast<int64_t>(networks.size()) < nt * nt) node.fail("has too few networks");
  for (int64_t k = 0; k < nt * nt; ++k) {
    // Networks of types in the other order are not used, and may be missing.
    const int64_t a = std::min(k % nt, k / nt), b = std::max(k % nt, k / nt);
    const auto at = static_cast<size_t>(a + b * nt);
    if (node.has("compress")) {
      const Node all = node["compress"]["@variables"];
      if (all["compress_data"][at].array().size() > 0) {
        embeddings_.emplace_back(all["compress_data"][at], all["compress_info"][at], true);
        continue;
      }
    }
    embeddings_.emplace_back(Network<T>(networks[at]));
  }
  ng_ = embeddings_.front().width();
  ld_ = row_length<T>(ng_);
  for (const Embedding<T>& one : embeddings_) {
    if (one.width() != ng_) node.fail("has embedding networks of several widths");
  }
  for (int64_t t = 0; t < nt; ++t) {
    for (int64_t c = 1; c < DEEPMD_ROW; ++c) {
      empty_.push_back(static_cast<T>(environment_.empty(t)[c]));
    }
  }
}

template <class T>
typename SeE3<T>::Side SeE3<T>::side(const Block& block, int64_t center, int64_t type,
                                     const State& state) const {
  const Neighbors<T>& found = state.neighbors[type];
  const int64_t first = found.start[center];
  Side side{found.r.data() + DEEPMD_ROW * first, found.start[center + 1] - first,
            empty_.data() + 3 * block.type, T(0)};
  // Without a mean, the angles of empty slots are 0, and so are their terms.
  if (std::any_of(side.empty, side.empty + 3, [](T x) { return x != T(0); })) {
    const auto taken = static_cast<double>(found.slots[center]);
    side.missing = static_cast<T>(environment_.sel(type) - taken);
  }
  return side;
}

template <class T>
int64_t SeE3<T>::prepare(const Side& a, const Side& b, const Embedding<T>& embedding,
                         Angles& angles) const {
  const int64_t n = a.count() * b.count();
  T* product = sized(angles.product, n);
  T* weight = sized(angles.weight, n);
  angles.rows.assign(static_cast<size_t>(n * DEEPMD_ROW), T(0));
  int64_t at = 0;
  for (int64_t j = 0; j < a.count(); ++j) {
    const T* x = a.row(j);
    for (int64_t k = 0; k < b.count(); ++k, ++at) {
      const T* y = b.row(k);
      product[at] = x[0] * y[0] + x[1] * y[1] + x[2] * y[2];
      weight[at] = a.weight(j) * b.weight(k);
      angles.rows[DEEPMD_ROW * at] = weight[at] * product[at];
    }
  }
  embedding.prepare(n, product, 1, angles.embedding);
  return n;
}

template <class T>
void SeE3<T>::forward(const Block& block, T* d, int64_t ldd, T* /*rotation*/,
                      DescriptorState& state) const {
  auto& s = static_cast<State&>(state);
  const int64_t nt = environment_.ntypes();
  s.neighbors.resize(static_cast<size_t>(nt));
  for (int64_t b = 0; b < nt; ++b) environment_.find(block, b, s.neighbors[b]);
  for (int64_t c = 0; c < block.n; ++c) {
    std::fill_n(d + c * ldd, ng_, T(0));
    for (int64_t b = 0; b < nt; ++b) {
      for (int64_t a = 0; a <= b; ++a) {
        const Embedding<T>& embedding = this->embedding(a, b);
        const int64_t n = prepare(side(block, c, a, s), side(block, c, b, s), embedding, s.angles);
        s.angles.sums.assign(static_cast<size_t>(DEEPMD_ROW * ld_), T(0));
        embedding.contract(0, n, s.angles.rows.data(), s.angles.sums.data(), ld_,
                           s.angles.embedding);
        for (int64_t m = 0; m < ng_; ++m) d[c * ldd + m] += scale(a, b) * s.angles.sums[m];
      }
    }
  }
}

template <class T>
void SeE3<T>::backward(const Block& block, const T* d_bar, int64_t ldd, const T* /*rotation_bar*/,
                       double* gradient, int64_t stride, DescriptorState& state) const {
  auto& s = static_cast<State&>(state);
  const int64_t nt = environment_.ntypes();
  for (Neighbors<T>& found : s.neighbors) {
    found.r_bar.assign(found.edge.size() * DEEPMD_ROW, T(0));
  }
  Angles& angles = s.angles;
  for (int64_t c = 0; c < block.n; ++c) {
    for (int64_t b = 0; b < nt; ++b) {
      for (int64_t a = 0; a <= b; ++a) {
        const Embedding<T>& embedding = this->embedding(a, b);
        const Side one = side(block, c, a, s), other = side(block, c, b, s);
        const int64_t n = prepare(one, other, embedding, angles);
        angles.sums.assign(static_cast<size_t>(DEEPMD_ROW * ld_), T(0));
        for (int64_t m = 0; m < ng_; ++m) angles.sums[m] = scale(a, b) * d_bar[c * ldd + m];
        embedding.contract_backward(0, n, angles.rows.data(), angles.sums.data(), ld_,
                                    sized(angles.rows_bar, n * DEEPMD_ROW), sized(angles.s_bar, n),
                                    angles.embedding);
        T* first = s.neighbors[a].r_bar.data() + DEEPMD_ROW * s.neighbors[a].start[c];
        T* second = s.neighbors[b].r_bar.data() + DEEPMD_ROW * s.neighbors[b].start[c];
        int64_t at = 0;
        for (int64_t j = 0; j < one.count(); ++j) {
          for (int64_t k = 0; k < other.count(); ++k, ++at) {
            const T bar = angles.weight[at] * angles.rows_bar[DEEPMD_ROW * at] + angles.s_bar[at];
            for (int q = 0; q < 3; ++q) {
              if (j < one.n) first[DEEPMD_ROW * j + 1 + q] += bar * other.row(k)[q];
              if (k < other.n) second[DEEPMD_ROW * k + 1 + q] += bar * one.row(j)[q];
            }
          }
        }
      }
    }
  }
  for (const Neighbors<T>& found : s.neighbors) {
    environment_.add_gradient(block, found, gradient, stride);
  }
}

template class SeE3<double>;
template class SeE3<float>;

}  // namespace deepmd::native
