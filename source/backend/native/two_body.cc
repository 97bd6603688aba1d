// SPDX-License-Identifier: LGPL-3.0-or-later
#include "two_body.h"

#include <algorithm>
#include <numeric>

namespace deepmd::native {

namespace {

/** The fixed factor of se_e2_r. */
constexpr double kRadialScale = 0.2;

}  // namespace

EnvironmentSettings::EnvironmentSettings(const Node& node, Packings& packings, bool mixed,
                                         int64_t width) {
  const Node sel = node["sel"];
  reach_.rcut = node.get<double>("rcut");
  reach_.mixed_types = mixed;
  reach_.sel = sel.json().is_array() ? node.get<std::vector<int64_t>>("sel")
                                     : std::vector<int64_t>{node.get<int64_t>("sel")};
  ntypes_ = mixed ? node.get<int64_t>("ntypes") : static_cast<int64_t>(reach_.sel.size());
  nnei_ = std::accumulate(reach_.sel.begin(), reach_.sel.end(), int64_t{0});
  if (ntypes_ < 1 || ntypes_ != packings.ntypes() || nnei_ < 1 || !(reach_.rcut > 0.0)) {
    node.fail("has another number of types, no neighbors or no cutoff");
  }
  slot_ = packings.add(mixed ? "mixed" : "typed", reach_.rcut, reach_.sel);
  const auto count = static_cast<size_t>(ntypes_ * nnei_ * width);
  const std::vector<double> mean = node.variable("davg", count),
                            deviation = node.variable("dstd", count);
  for (int64_t t = 0; t < ntypes_; ++t) {
    deepmd_environment one{};
    one.rcut = reach_.rcut;
    one.rcut_smth = node.get<double>("rcut_smth");
    one.protection = node.get<double>("env_protection", 0.0);
    for (int64_t c = 0; c < DEEPMD_ROW; ++c) {
      const int64_t at = t * nnei_ * width + c;
      one.mean[c] = c < width ? mean[at] : 0.0;
      one.inverse_deviation[c] = c < width ? 1.0 / deviation[at] : 0.0;
      empty_.push_back(c < width ? -mean[at] / deviation[at] : 0.0);
      for (int64_t k = 1; k < nnei_ && c < width; ++k) {
        if (mean[at] != mean[at + k * width] || deviation[at] != deviation[at + k * width]) {
          node.fail("has statistics that differ between the slots of a type");
        }
      }
    }
    settings_.push_back(one);
  }
  excluded_.assign(static_cast<size_t>(ntypes_ * ntypes_), 0);
  for (const auto& pair : node.get<std::vector<std::vector<int64_t>>>("exclude_types", {})) {
    if (pair.size() != 2 || std::min(pair[0], pair[1]) < 0 ||
        std::max(pair[0], pair[1]) >= ntypes_) {
      node.fail("excludes a pair of types that are not there");
    }
    excluded_[pair[0] * ntypes_ + pair[1]] = excluded_[pair[1] * ntypes_ + pair[0]] = 1;
  }
}

bool EnvironmentSettings::has_mean(int64_t center) const {
  const double* row = empty(center);
  return std::any_of(row, row + DEEPMD_ROW, [](double x) { return x != 0.0; });
}

template <class T>
void EnvironmentSettings::find(const Block& block, int64_t neighbor, Neighbors<T>& found) const {
  const Chunk& chunk = block.chunk;
  const Slots& table = chunk.slots[slot_ + (reach_.mixed_types ? 0 : neighbor)];
  const bool counted = !excluded(block.type, neighbor);
  found.edge.clear();
  found.start.assign(1, 0);
  found.slots.clear();
  for (int64_t c = 0; c < block.n; ++c) {
    const int64_t* row = table.data + block.centers[c] * table.columns;
    int64_t taken = 0;
    for (int64_t k = 0; k < table.columns && row[k] >= 0; ++k) {
      if (reach_.mixed_types && chunk.atype[chunk.j[row[k]]] != neighbor) continue;
      ++taken;
      if (counted) found.edge.push_back(row[k]);
    }
    found.slots.push_back(taken);
    found.start.push_back(static_cast<int64_t>(found.edge.size()));
  }
  const auto n = static_cast<int64_t>(found.edge.size());
  Kernels<T>::get().environment(&of(block.type), n, found.edge.data(), chunk.vec,
                                sized(found.r, n * DEEPMD_ROW),
                                sized(found.slopes, n * DEEPMD_ROW_SLOPES));
}

template <class T>
void EnvironmentSettings::add_gradient(const Block& block, const Neighbors<T>& neighbors,
                                       double* gradient, int64_t stride) const {
  Kernels<T>::get().environment_backward(
      &of(block.type), static_cast<int64_t>(neighbors.edge.size()), neighbors.edge.data(),
      block.chunk.vec, neighbors.slopes.data(), neighbors.r_bar.data(), gradient, stride);
}

template <class T>
TwoBody<T>::TwoBody(const Node& node, Packings& packings, int64_t width)
    : environment_(node, packings, false, width) {
  const int64_t nt = environment_.ntypes();
  const Node nets = node["embeddings"], networks = nets["networks"];
  const auto ndim = nets.get<int64_t>("ndim");
  one_side_ = ndim == 1;
  const int64_t count = one_side_ ? nt : nt * nt;
  if (ndim < 1 || ndim > 2 || static_cast<int64_t>(networks.size()) < count) {
    node.fail("has another number of embedding networks");
  }
  tables_ = node.has("compress");
  for (int64_t k = 0; k < count; ++k) {
    const auto at = static_cast<size_t>(k);
    if (tables_) {
      const Node all = node["compress"]["@variables"];
      const Node data = all["compress_data"][at];
      if (data.array().size() > 0) {
        embeddings_.emplace_back(data, all["compress_info"][at], false);
        continue;
      }
    }
    embeddings_.emplace_back(Network<T>(networks[at]));
  }
  ng_ = embeddings_.front().width();
  for (const Embedding<T>& one : embeddings_) {
    if (one.width() != ng_) node.fail("has embedding networks of several widths");
  }
  ld_ = row_length<T>(ng_);
}

template <class T>
void TwoBody<T>::prepare(const Block& block, TwoBodyState<T>& state) const {
  const int64_t nt = environment_.ntypes();
  state.neighbors.resize(static_cast<size_t>(nt));
  for (int64_t b = 0; b < nt; ++b) {
    Neighbors<T>& found = state.neighbors[b];
    environment_.find(block, b, found);
    embedding(block.type, b)
        .prepare(static_cast<int64_t>(found.edge.size()), found.r.data(), DEEPMD_ROW,
                 found.embedding);
  }
}

template <class T>
SeA<T>::SeA(const Node& node, Packings& packings)
    : TwoBody<T>(node, packings, DEEPMD_ROW), axis_(node.get<int64_t>("axis_neuron")) {
  if (axis_ < 1 || axis_ > this->ng_) node.fail("has an axis_neuron beyond its width");
  const EnvironmentSettings& environment = this->environment_;
  const int64_t nt = environment.ntypes(), ld = this->ld_;
  empty_.assign(static_cast<size_t>(nt * nt * DEEPMD_ROW * ld), T(0));
  T* to = empty_.data();
  for (int64_t a = 0; a < nt; ++a) {
    for (int64_t b = 0; b < nt; ++b, to += DEEPMD_ROW * ld) {
      if (!environment.has_mean(a)) continue;
      const double* row = environment.empty(a);
      const std::vector<double> g = this->embedding(a, b).at(row[0]);
      for (int64_t c = 0; c < DEEPMD_ROW; ++c) {
        for (int64_t m = 0; m < this->ng_; ++m) to[c * ld + m] = static_cast<T>(g[m] * row[c]);
      }
    }
  }
}

template <class T>
void SeA<T>::forward(const Block& block, T* d, int64_t ldd, T* rotation,
                     DescriptorState& state) const {
  auto& s = static_cast<TwoBodyState<T>&>(state);
  this->prepare(block, s);
  const EnvironmentSettings& environment = this->environment_;
  const int64_t nt = environment.ntypes(), ld = this->ld_, size = DEEPMD_ROW * ld;
  const bool mean = environment.has_mean(block.type);
  const T scale = static_cast<T>(1.0 / static_cast<double>(environment.nnei()));
  s.sums.assign(static_cast<size_t>(block.n * size), T(0));
  for (int64_t c = 0; c < block.n; ++c) {
    T* sums = s.sums.data() + c * size;
    for (int64_t b = 0; b < nt; ++b) {
      const Neighbors<T>& found = s.neighbors[b];
      this->embedding(block.type, b)
          .contract(found.start[c], found.start[c + 1], found.r.data(), sums, ld, found.embedding);
      if (!mean) continue;
      const T missing = static_cast<T>(environment.sel(b) - static_cast<double>(found.slots[c]));
      const T* empty = empty_.data() + (block.type * nt + b) * size;
      for (int64_t k = 0; k < size; ++k) sums[k] += missing * empty[k];
    }
    for (int64_t k = 0; k < size; ++k) sums[k] *= scale;
    Kernels<T>::get().symmetrize(this->ng_, axis_, sums, ld, d + c * ldd);
    if (!rotation) continue;
    for (int64_t m = 0; m < this->ng_; ++m) {
      for (int64_t a = 0; a < 3; ++a) *rotation++ = sums[(a + 1) * ld + m];
    }
  }
}

template <class T>
void SeA<T>::backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                      double* gradient, int64_t stride, DescriptorState& state) const {
  auto& s = static_cast<TwoBodyState<T>&>(state);
  const EnvironmentSettings& environment = this->environment_;
  const int64_t nt = environment.ntypes(), ld = this->ld_, size = DEEPMD_ROW * ld;
  const T scale = static_cast<T>(1.0 / static_cast<double>(environment.nnei()));
  s.bar.assign(static_cast<size_t>(size), T(0));
  for (Neighbors<T>& found : s.neighbors) {
    sized(found.r_bar, static_cast<int64_t>(found.edge.size()) * DEEPMD_ROW);
  }
  for (int64_t c = 0; c < block.n; ++c) {
    T* bar = s.bar.data();
    Kernels<T>::get().symmetrize_backward(this->ng_, axis_, s.sums.data() + c * size, ld,
                                          d_bar + c * ldd, bar);
    if (rotation_bar) {
      for (int64_t m = 0; m < this->ng_; ++m) {
        for (int64_t a = 0; a < 3; ++a) bar[(a + 1) * ld + m] += *rotation_bar++;
      }
    }
    for (int64_t k = 0; k < size; ++k) bar[k] *= scale;
    for (int64_t b = 0; b < nt; ++b) {
      Neighbors<T>& found = s.neighbors[b];
      this->embedding(block.type, b)
          .contract_backward(found.start[c], found.start[c + 1], found.r.data(), bar, ld,
                             found.r_bar.data(), found.embedding);
    }
  }
  for (const Neighbors<T>& found : s.neighbors) {
    environment.add_gradient(block, found, gradient, stride);
  }
}

template <class T>
SeR<T>::SeR(const Node& node, Packings& packings) : TwoBody<T>(node, packings, 1) {
  const int64_t nt = this->environment_.ntypes();
  for (int64_t a = 0; a < nt; ++a) {
    for (int64_t b = 0; b < nt; ++b) {
      const auto append = [&](double place, std::vector<T>& to) {
        const std::vector<double> g = this->embedding(a, b).at(place);
        to.insert(to.end(), g.begin(), g.end());
        to.resize(to.size() + static_cast<size_t>(this->ld_ - this->ng_), T(0));
      };
      append(this->environment_.empty(a)[0], empty_);
      append(0.0, zero_);
    }
  }
}

template <class T>
void SeR<T>::forward(const Block& block, T* d, int64_t ldd, T* /*rotation*/,
                     DescriptorState& state) const {
  auto& s = static_cast<TwoBodyState<T>&>(state);
  this->prepare(block, s);
  const EnvironmentSettings& environment = this->environment_;
  const int64_t nt = environment.ntypes(), ld = this->ld_;
  const T scale = static_cast<T>(kRadialScale / static_cast<double>(environment.nnei()));
  T* sums = sized(s.sums, ld);
  for (int64_t c = 0; c < block.n; ++c) {
    std::fill(sums, sums + ld, T(0));
    for (int64_t b = 0; b < nt; ++b) {
      const Neighbors<T>& found = s.neighbors[b];
      this->embedding(block.type, b)
          .add_up(found.start[c], found.start[c + 1], sums, found.embedding);
      const auto taken = static_cast<double>(found.slots[c]);
      const T missing = static_cast<T>(environment.sel(b) - taken);
      const T hidden = static_cast<T>(environment.excluded(block.type, b) ? taken : 0.0);
      const int64_t at = (block.type * nt + b) * ld;
      for (int64_t m = 0; m < this->ng_; ++m) {
        sums[m] += missing * empty_[at + m] + hidden * zero_[at + m];
      }
    }
    for (int64_t m = 0; m < this->ng_; ++m) d[c * ldd + m] = scale * sums[m];
  }
}

template <class T>
void SeR<T>::backward(const Block& block, const T* d_bar, int64_t ldd, const T* /*rotation_bar*/,
                      double* gradient, int64_t stride, DescriptorState& state) const {
  auto& s = static_cast<TwoBodyState<T>&>(state);
  const T scale = static_cast<T>(kRadialScale / static_cast<double>(this->environment_.nnei()));
  s.bar.assign(static_cast<size_t>(this->ld_), T(0));
  for (int64_t b = 0; b < this->environment_.ntypes(); ++b) {
    Neighbors<T>& found = s.neighbors[b];
    found.r_bar.assign(found.edge.size() * DEEPMD_ROW, T(0));
    for (int64_t c = 0; c < block.n; ++c) {
      for (int64_t m = 0; m < this->ng_; ++m) s.bar[m] = scale * d_bar[c * ldd + m];
      this->embedding(block.type, b)
          .add_up_backward(found.start[c], found.start[c + 1], s.bar.data(), found.r_bar.data(),
                           DEEPMD_ROW, found.embedding);
    }
    this->environment_.add_gradient(block, found, gradient, stride);
  }
}

template <class T>
std::unique_ptr<Descriptor<T>> read_descriptor(const Node& node, Packings& packings) {
  const auto type = node.get<std::string>("type");
  if (type == "se_e2_a" || type == "se_a") return std::make_unique<SeA<T>>(node, packings);
  if (type == "se_r" || type == "se_e2_r") return std::make_unique<SeR<T>>(node, packings);
  node.unknown("the descriptor \"" + type + "\"");
}

template std::unique_ptr<Descriptor<double>> read_descriptor(const Node&, Packings&);
template std::unique_ptr<Descriptor<float>> read_descriptor(const Node&, Packings&);

}  // namespace deepmd::native
