// SPDX-License-Identifier: LGPL-3.0-or-later
#include "three_body_types.h"

#include <algorithm>

namespace deepmd::native {

namespace {

/** The embeddings of a first and a second neighbor, one after the other. */
std::vector<double> both(const Rows& types, int64_t first, int64_t second) {
  std::vector<double> row = types[first];
  row.insert(row.end(), types[second].begin(), types[second].end());
  return row;
}

}  // namespace

template <class T>
SeE3Types<T>::SeE3Types(const Node& node, Packings& packings, const View& view)
    : environment_(node, packings, view, true, DEEPMD_ROW) {
  const int64_t nt = environment_.ntypes();
  for (int64_t t = 0; t < nt; ++t) {
    const double* empty = environment_.empty(t);
    if (std::any_of(empty + 1, empty + DEEPMD_ROW, [](double x) { return x != 0.0; })) {
      node.fail("has an angular mean that is not zero");
    }
  }
  scale_ = static_cast<T>(1.0 / (static_cast<double>(environment_.nnei()) * environment_.nnei()));
  const Rows types = embedded_types<T>(node["type_embedding"], nt);
  if (node.flag("concat_output_tebd", true)) tails_.assign(types.begin(), types.begin() + nt);
  if (node.text("tebd_input_mode", "concat") == "strip") {
    smooth_ = node.flag("smooth", true);
    read_strip(node, types);
  } else {
    read_concat(node["embeddings"]["networks"][0], types);
  }
}

template <class T>
void SeE3Types<T>::read_concat(const Node& network, const Rows& types) {
  const int64_t nt = environment_.ntypes();
  for (int64_t a = 0; a < nt; ++a) {
    for (int64_t b = 0; b < nt; ++b) {
      Network<T> one(network);
      one.fix_inputs(network, both(types, a, b));
      embeddings_.emplace_back(std::move(one));
    }
  }
  ng_ = embeddings_.front().width();
  ld_ = row_length<T>(ng_);
}

template <class T>
void SeE3Types<T>::read_strip(const Node& node, const Rows& types) {
  const int64_t nt = environment_.ntypes(), kinds = nt + 1;
  const bool compressed = node.has("compress");
  if (compressed && node["compress"].flag("geo_compress", false)) {
    const Node all = node["compress"]["@variables"];
    embeddings_.emplace_back(all["compress_data"][0], all["compress_info"][0], true);
  } else {
    embeddings_.emplace_back(Network<T>(node["embeddings"]["networks"][0]));
  }
  ng_ = embeddings_.front().width();
  ld_ = row_length<T>(ng_);
  const Network<T> network(node["embeddings_strip"]["networks"][0]);
  const auto inputs = static_cast<int64_t>(2 * types[0].size());
  std::vector<double> stored;
  if (compressed) stored = node["compress"].variable("type_embd_data");
  const auto wanted = static_cast<size_t>(stored.empty() ? 0 : kinds * kinds * ng_);
  if (network.n_out() != ng_ || network.n_in() != inputs || stored.size() != wanted) {
    node.fail("has gates of another width");
  }
  for (int64_t a = 0; a < nt; ++a) {
    for (int64_t b = 0; b < nt; ++b) {
      const double* from = stored.data() + (a * kinds + b) * ng_;
      const std::vector<double> row = stored.empty() ? outputs(network, {both(types, a, b)}).front()
                                                     : std::vector<double>(from, from + ng_);
      gates_.emplace_back(row.begin(), row.end());
      gates_.back().resize(static_cast<size_t>(ld_), T(0));
    }
  }
}

template <class T>
void SeE3Types<T>::find(const Block& block, State& s) const {
  s.neighbors.resize(static_cast<size_t>(environment_.ntypes()));
  for (int64_t b = 0; b < environment_.ntypes(); ++b) {
    environment_.find(block, b, s.neighbors[b]);
    if (smooth_) environment_.weigh(block, s.neighbors[b]);
  }
}

template <class T>
int64_t SeE3Types<T>::prepare(int64_t center, int64_t a, int64_t b, State& s) const {
  const Neighbors<T>&one = s.neighbors[a], &other = s.neighbors[b];
  const int64_t n_one = one.start[center + 1] - one.start[center],
                n_other = other.start[center + 1] - other.start[center], n = n_one * n_other;
  T* product = sized(s.product, n);
  s.rows.assign(static_cast<size_t>(n * DEEPMD_ROW), T(0));
  int64_t at = 0;
  for (int64_t j = one.start[center]; j < one.start[center + 1]; ++j) {
    const T* x = one.r.data() + DEEPMD_ROW * j + 1;
    for (int64_t k = other.start[center]; k < other.start[center + 1]; ++k, ++at) {
      const T* y = other.r.data() + DEEPMD_ROW * k + 1;
      product[at] = x[0] * y[0] + x[1] * y[1] + x[2] * y[2];
      T* row = s.rows.data() + DEEPMD_ROW * at;
      row[0] = product[at];
      if (!gates_.empty())
        row[1] = product[at] * (smooth_ ? one.weight[j] * other.weight[k] : T(1));
    }
  }
  embedding(a, b).prepare(n, product, 1, s.embedding);
  return n;
}

template <class T>
void SeE3Types<T>::forward(const Block& block, T* d, int64_t ldd, T* /*rotation*/,
                           DescriptorState& state) const {
  auto& s = static_cast<State&>(state);
  const int64_t nt = environment_.ntypes();
  find(block, s);
  for (int64_t c = 0; c < block.n; ++c) {
    T* row = d + c * ldd;
    std::fill_n(row, ng_, T(0));
    for (int64_t a = 0; a < nt; ++a) {
      for (int64_t b = 0; b < nt; ++b) {
        const int64_t n = prepare(c, a, b, s);
        if (n == 0) continue;
        s.sums.assign(static_cast<size_t>(DEEPMD_ROW * ld_), T(0));
        embedding(a, b).contract(0, n, s.rows.data(), s.sums.data(), ld_, s.embedding);
        const T* gate = this->gate(a, b);
        for (int64_t m = 0; m < ng_; ++m) {
          row[m] += scale_ * (s.sums[m] + (gate ? gate[m] * s.sums[ld_ + m] : T(0)));
        }
      }
    }
    if (tails_.empty()) continue;
    T* to = row + ng_;
    for (const double x : tails_[block.type]) *to++ = static_cast<T>(x);
  }
}

template <class T>
void SeE3Types<T>::backward(const Block& block, const T* d_bar, int64_t ldd,
                            const T* /*rotation_bar*/, double* gradient, int64_t stride,
                            DescriptorState& state) const {
  auto& s = static_cast<State&>(state);
  const int64_t nt = environment_.ntypes();
  for (Neighbors<T>& found : s.neighbors) {
    found.r_bar.assign(found.edge.size() * DEEPMD_ROW, T(0));
    found.weight_bar.assign(found.edge.size(), T(0));
  }
  for (int64_t c = 0; c < block.n; ++c) {
    for (int64_t a = 0; a < nt; ++a) {
      for (int64_t b = 0; b < nt; ++b) {
        const int64_t n = prepare(c, a, b, s);
        if (n == 0) continue;
        s.sums.assign(static_cast<size_t>(DEEPMD_ROW * ld_), T(0));
        const T* gate = this->gate(a, b);
        for (int64_t m = 0; m < ng_; ++m) {
          s.sums[m] = scale_ * d_bar[c * ldd + m];
          if (gate) s.sums[ld_ + m] = s.sums[m] * gate[m];
        }
        embedding(a, b).contract_backward(0, n, s.rows.data(), s.sums.data(), ld_,
                                          sized(s.rows_bar, n * DEEPMD_ROW), sized(s.s_bar, n),
                                          s.embedding);
        scatter(c, a, b, s);
      }
    }
  }
  for (const Neighbors<T>& found : s.neighbors) {
    environment_.add_gradient(block, found, gradient, stride);
    if (smooth_) environment_.add_weights(block, found, gradient, stride);
  }
}

template <class T>
void SeE3Types<T>::scatter(int64_t center, int64_t a, int64_t b, State& s) const {
  Neighbors<T>&one = s.neighbors[a], &other = s.neighbors[b];
  int64_t at = 0;
  for (int64_t j = one.start[center]; j < one.start[center + 1]; ++j) {
    for (int64_t k = other.start[center]; k < other.start[center + 1]; ++k, ++at) {
      const T* bars = s.rows_bar.data() + DEEPMD_ROW * at;
      T bar = bars[0] + s.s_bar[at];
      if (smooth_) {
        const T gated = bars[1] * s.product[at];
        bar += bars[1] * one.weight[j] * other.weight[k];
        one.weight_bar[j] += gated * other.weight[k];
        other.weight_bar[k] += gated * one.weight[j];
      } else if (!gates_.empty()) {
        bar += bars[1];
      }
      for (int64_t q = 1; q < DEEPMD_ROW; ++q) {
        one.r_bar[DEEPMD_ROW * j + q] += bar * other.r[DEEPMD_ROW * k + q];
        other.r_bar[DEEPMD_ROW * k + q] += bar * one.r[DEEPMD_ROW * j + q];
      }
    }
  }
}

template class SeE3Types<double>;
template class SeE3Types<float>;

}  // namespace deepmd::native
