// SPDX-License-Identifier: LGPL-3.0-or-later
#include "two_body.h"

#include <algorithm>
#include <numeric>

namespace deepmd::native {

namespace {

/** The fixed factor of se_e2_r. */
constexpr double kRadialScale = 0.2;
/** Distance [Angstrom] below which embedding networks are evaluated as they are. */
constexpr double kNearest = 0.5;

/** Whether neighbors beyond the cutoff matter, of members of hybrids. */
bool reads_beyond_cutoff(const Node& node) {
  if (node.integer("attn_layer", 0) > 0 && node.text("type") != "se_atten_v2" &&
      !node.flag("smooth_type_embedding", false)) {
    return true;
  }
  const bool mean = has_mean(node);
  const bool excludes = node.has("exclude_types") && node["exclude_types"].size() > 0;
  if (mean && excludes) return true;
  const std::string type = node.text("type");
  if (type == "se_atten_v2" || !node.has("smooth_type_embedding")) return false;
  const bool embeds_empty = node.text("tebd_input_mode", "concat") == "concat" ||
                            !node.flag("smooth_type_embedding", false);
  return mean && embeds_empty;
}

}  // namespace

bool has_mean(const Node& node) {
  if (!node.flag("set_davg_zero", false)) return true;
  const std::vector<double> mean = node.variable("davg");
  return std::any_of(mean.begin(), mean.end(), [](double x) { return x != 0.0; });
}

EnvironmentSettings::EnvironmentSettings(const Node& node, Packings& packings, const View& view,
                                         bool mixed, int64_t width) {
  reach_.rcut = node.number("rcut");
  reach_.mixed_types = mixed;
  reach_.sel = node.integers("sel");
  ntypes_ = mixed ? node.integer("ntypes") : static_cast<int64_t>(reach_.sel.size());
  nnei_ = std::accumulate(reach_.sel.begin(), reach_.sel.end(), int64_t{0});
  if (ntypes_ < 1 || ntypes_ != packings.ntypes() || nnei_ < 1 || !(reach_.rcut > 0.0)) {
    node.fail("has another number of types, no neighbors or no cutoff");
  }
  const double seen = view.rcut > 0.0 && reads_beyond_cutoff(node) ? view.rcut : reach_.rcut;
  slot_ = packings.add({mixed ? "mixed" : "typed", seen, reach_.sel, {}, mixed ? 0 : view.nearest});
  const auto count = static_cast<size_t>(ntypes_ * nnei_ * width);
  const std::vector<double> mean = node.variable("davg", count),
                            deviation = node.variable("dstd", count);
  for (int64_t t = 0; t < ntypes_; ++t) {
    deepmd_environment one{};
    one.rcut = reach_.rcut;
    one.rcut_smth = node.number("rcut_smth");
    one.protection = node.number("env_protection", 0.0);
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
  for (const auto& [a, b] : node.pairs("exclude_types")) {
    if (std::min(a, b) < 0 || std::max(a, b) >= ntypes_) {
      node.fail("excludes a pair of types that are not there");
    }
    excluded_[a * ntypes_ + b] = excluded_[b * ntypes_ + a] = 1;
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
void EnvironmentSettings::weigh(const Block& block, Neighbors<T>& found) const {
  const deepmd_environment& settings = of(block.type);
  const auto n = static_cast<int64_t>(found.edge.size());
  T* weight = sized(found.weight, n);
  T* slope = sized(found.weight_slope, n);
  const double width = settings.rcut - settings.rcut_smth;
  for (int64_t k = 0; k < n; ++k) {
    const double r = 1.0 / found.slopes[DEEPMD_ROW_SLOPES * k];
    const double u = std::clamp((r - settings.rcut_smth) / width, 0.0, 1.0);
    weight[k] = static_cast<T>(u * u * u * (u * (-6.0 * u + 15.0) - 10.0) + 1.0);
    slope[k] = static_cast<T>(u * u * (u * (-30.0 * u + 60.0) - 30.0) / width);
  }
}

template <class T>
void EnvironmentSettings::add_weights(const Block& block, const Neighbors<T>& found,
                                      double* gradient, int64_t stride) const {
  for (size_t k = 0; k < found.edge.size(); ++k) {
    const double scale =
        double{found.weight_bar[k]} * found.weight_slope[k] * found.slopes[DEEPMD_ROW_SLOPES * k];
    const double* d = block.chunk.vec + 3 * found.edge[k];
    for (int a = 0; a < 3; ++a) gradient[stride * found.edge[k] + a] += scale * d[a];
  }
}

template <class T>
void TwoBody<T>::read_typed(const Node& node) {
  const int64_t nt = environment_.ntypes();
  const Node nets = node["embeddings"], networks = nets["networks"];
  const auto ndim = nets.integer("ndim");
  const int64_t count = ndim == 1 ? nt : nt * nt;
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
  for (int64_t a = 0; a < nt; ++a) {
    for (int64_t b = 0; b < nt; ++b) {
      index_.push_back(static_cast<size_t>(ndim == 1 ? b : a + b * nt));
    }
  }
  ng_ = embeddings_.front().width();
  for (const Embedding<T>& one : embeddings_) {
    if (one.width() != ng_) node.fail("has embedding networks of several widths");
  }
  ld_ = row_length<T>(ng_);
}

template <class T>
void TwoBody<T>::use_pieces() {
  double lower = 0.0, upper = 0.0;
  for (int64_t a = 0; a < environment_.ntypes(); ++a) {
    const deepmd_environment& settings = environment_.of(a);
    const double at_cutoff = -settings.mean[0] * settings.inverse_deviation[0];
    const double nearest = (1.0 / kNearest - settings.mean[0]) * settings.inverse_deviation[0];
    lower = a == 0 ? at_cutoff : std::min(lower, at_cutoff);
    upper = a == 0 ? nearest : std::max(upper, nearest);
  }
  for (Embedding<T>& one : embeddings_) one.use_pieces(lower, upper);
  pieces_ = true;
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
std::vector<T> Symmetrized<T>::empty_term(int64_t center, const std::vector<double>& g) const {
  const double* row = this->environment_.empty(center);
  std::vector<T> term(static_cast<size_t>(DEEPMD_ROW * this->ld_), T(0));
  for (int64_t c = 0; c < DEEPMD_ROW; ++c) {
    for (int64_t m = 0; m < this->ng_; ++m) {
      term[c * this->ld_ + m] = static_cast<T>(g[m] * row[c]);
    }
  }
  return term;
}

template <class T>
void Symmetrized<T>::check_axis(const Node& node) const {
  if (axis_ < 1 || axis_ > this->ng_) node.fail("has an axis_neuron beyond its width");
}

/** Switch of the edges, and the rows times it. */
template <class T>
void Symmetrized<T>::weigh(const Block& block, Neighbors<T>& found) const {
  this->environment_.weigh(block, found);
  const auto n = static_cast<int64_t>(found.edge.size());
  T* weighted = sized(found.weighted, n * DEEPMD_ROW);
  for (int64_t k = 0; k < n * DEEPMD_ROW; ++k) {
    weighted[k] = found.weight[k / DEEPMD_ROW] * found.r[k];
  }
}

template <class T>
void Symmetrized<T>::contract(const Block& block, int64_t center, int64_t neighbor,
                              TwoBodyState<T>& state, T* sums) const {
  Neighbors<T>& found = state.neighbors[neighbor];
  const Embedding<T>& embedding = this->embedding(block.type, neighbor);
  const int64_t first = found.start[center], last = found.start[center + 1], ld = this->ld_;
  const T* gate = this->gate(block.type, neighbor);
  if (!gate) return embedding.contract(first, last, found.r.data(), sums, ld, found.embedding);
  const int64_t size = DEEPMD_ROW * ld;
  state.part.assign(static_cast<size_t>(size), T(0));
  embedding.contract(first, last, found.r.data(), state.part.data(), ld, found.embedding);
  const T* gated = state.part.data();
  if (smooth_) {
    state.weighted_part.assign(static_cast<size_t>(size), T(0));
    embedding.contract(first, last, found.weighted.data(), state.weighted_part.data(), ld,
                       found.embedding);
    gated = state.weighted_part.data();
  }
  for (int64_t k = 0; k < size; ++k) sums[k] += state.part[k] + gate[k % ld] * gated[k];
}

template <class T>
void Symmetrized<T>::contract_backward(const Block& block, int64_t center, int64_t neighbor,
                                       TwoBodyState<T>& state, const T* bar) const {
  Neighbors<T>& found = state.neighbors[neighbor];
  const Embedding<T>& embedding = this->embedding(block.type, neighbor);
  const int64_t first = found.start[center], last = found.start[center + 1], ld = this->ld_;
  const T* gate = this->gate(block.type, neighbor);
  bool smooth = false;
  if (gate) {
    const int64_t size = DEEPMD_ROW * ld;
    T* gated = sized(state.part, size);
    for (int64_t k = 0; k < size; ++k) gated[k] = gate[k % ld] * bar[k];
    if (smooth_) {
      embedding.contract_backward(first, last, found.weighted.data(), gated, ld,
                                  found.weighted_bar.data(), found.s_bar.data(), found.embedding);
      smooth = true;
    } else {
      for (int64_t k = 0; k < size; ++k) gated[k] += bar[k];
      bar = gated;
    }
  }
  embedding.contract_backward(first, last, found.r.data(), bar, ld, found.r_bar.data(), nullptr,
                              found.embedding);
  for (int64_t e = first; smooth && e < last; ++e) {
    T* row_bar = found.r_bar.data() + DEEPMD_ROW * e;
    found.weight_bar[e] = 0;
    for (int64_t c = 0; c < DEEPMD_ROW; ++c) {
      const T weighted = found.weighted_bar[DEEPMD_ROW * e + c];
      row_bar[c] += found.weight[e] * weighted;
      found.weight_bar[e] += weighted * found.r[DEEPMD_ROW * e + c];
    }
    row_bar[0] += found.s_bar[e];
  }
}

template <class T>
void Symmetrized<T>::contract_all(const Block& block, int64_t center, TwoBodyState<T>& state,
                                  T* sums) const {
  const int64_t nt = this->environment_.ntypes();
  for (int64_t b = 0; b < nt; ++b) contract(block, center, b, state, sums);
}

template <class T>
void Symmetrized<T>::contract_all_backward(const Block& block, int64_t center,
                                           TwoBodyState<T>& state, const T* bar) const {
  const int64_t nt = this->environment_.ntypes();
  for (int64_t b = 0; b < nt; ++b) contract_backward(block, center, b, state, bar);
}

template <class T>
Folded Symmetrized<T>::fold() {
  folded_ = true;
  Folded folded;
  for (int64_t m = 0; m < this->ng_; ++m) {
    for (int64_t a = m < axis_ ? m : 0; a < axis_; ++a) {
      folded.emplace_back(m * axis_ + a, m < axis_ && a > m ? a * axis_ + m : -1);
    }
  }
  return folded;
}

template <class T>
void Symmetrized<T>::forward(const Block& block, T* d, int64_t ldd, T* rotation,
                             DescriptorState& state) const {
  auto& s = static_cast<TwoBodyState<T>&>(state);
  this->prepare(block, s);
  const EnvironmentSettings& environment = this->environment_;
  const int64_t ld = this->ld_, size = DEEPMD_ROW * ld;
  const bool mean = environment.has_mean(block.type);
  const T scale = static_cast<T>(1.0 / static_cast<double>(environment.nnei()));
  s.sums.assign(static_cast<size_t>(block.n * size), T(0));
  for (Neighbors<T>& found : s.neighbors) {
    if (weighs_) weigh(block, found);
  }
  for (int64_t c = 0; c < block.n; ++c) {
    T* sums = s.sums.data() + c * size;
    contract_all(block, c, s, sums);
    if (mean) add_empty(block, c, s, sums);
    for (int64_t k = 0; k < size; ++k) sums[k] *= scale;
    Kernels<T>::get().symmetrize(this->ng_, axis_, sums, ld, folded_ ? 1 : 0, d + c * ldd);
    if (!rotation) continue;
    for (int64_t m = 0; m < this->ng_; ++m) {
      for (int64_t a = 0; a < 3; ++a) *rotation++ = sums[(a + 1) * ld + m];
    }
  }
}

template <class T>
void Symmetrized<T>::backward(const Block& block, const T* d_bar, int64_t ldd,
                              const T* rotation_bar, double* gradient, int64_t stride,
                              DescriptorState& state) const {
  auto& s = static_cast<TwoBodyState<T>&>(state);
  const EnvironmentSettings& environment = this->environment_;
  const int64_t ld = this->ld_, size = DEEPMD_ROW * ld;
  const T scale = static_cast<T>(1.0 / static_cast<double>(environment.nnei()));
  s.bar.assign(static_cast<size_t>(size), T(0));
  for (Neighbors<T>& found : s.neighbors) {
    const auto n = static_cast<int64_t>(found.edge.size());
    sized(found.r_bar, n * DEEPMD_ROW);
    if (weighs_) sized(found.weight_bar, n);
    if (!smooth_) continue;
    sized(found.weighted_bar, n * DEEPMD_ROW);
    sized(found.s_bar, n);
  }
  for (int64_t c = 0; c < block.n; ++c) {
    T* bar = s.bar.data();
    Kernels<T>::get().symmetrize_backward(this->ng_, axis_, s.sums.data() + c * size, ld,
                                          d_bar + c * ldd, folded_ ? 1 : 0, bar);
    if (rotation_bar) {
      for (int64_t m = 0; m < this->ng_; ++m) {
        for (int64_t a = 0; a < 3; ++a) bar[(a + 1) * ld + m] += *rotation_bar++;
      }
    }
    for (int64_t k = 0; k < size; ++k) bar[k] *= scale;
    contract_all_backward(block, c, s, bar);
  }
  for (Neighbors<T>& found : s.neighbors) {
    if (weighs_) this->environment_.add_weights(block, found, gradient, stride);
    environment.add_gradient(block, found, gradient, stride);
  }
}

template <class T>
SeA<T>::SeA(const Node& node, Packings& packings, const View& view)
    : Symmetrized<T>(node, EnvironmentSettings(node, packings, view, false, DEEPMD_ROW)) {
  this->read_typed(node);
  this->use_pieces();
  this->check_axis(node);
  const EnvironmentSettings& environment = this->environment_;
  for (int64_t a = 0; a < environment.ntypes(); ++a) {
    for (int64_t b = 0; b < environment.ntypes(); ++b) {
      empty_.emplace_back();
      if (!environment.has_mean(a)) continue;
      empty_.back() = this->empty_term(a, this->embedding(a, b).at(environment.empty(a)[0]));
    }
  }
}

template <class T>
void SeA<T>::add_empty(const Block& block, int64_t center, const TwoBodyState<T>& state,
                       T* sums) const {
  const int64_t nt = this->environment_.ntypes();
  for (int64_t b = 0; b < nt; ++b) {
    const auto taken = static_cast<double>(state.neighbors[b].slots[center]);
    const T missing = static_cast<T>(this->environment_.sel(b) - taken);
    const std::vector<T>& empty = empty_[block.type * nt + b];
    for (size_t k = 0; k < empty.size(); ++k) sums[k] += missing * empty[k];
  }
}

template <class T>
SeR<T>::SeR(const Node& node, Packings& packings, const View& view)
    : TwoBody<T>(EnvironmentSettings(node, packings, view, false, 1)) {
  this->read_typed(node);
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

template void EnvironmentSettings::find(const Block&, int64_t, Neighbors<double>&) const;
template void EnvironmentSettings::find(const Block&, int64_t, Neighbors<float>&) const;
template void EnvironmentSettings::add_gradient(const Block&, const Neighbors<double>&, double*,
                                                int64_t) const;
template void EnvironmentSettings::add_gradient(const Block&, const Neighbors<float>&, double*,
                                                int64_t) const;
template void EnvironmentSettings::weigh(const Block&, Neighbors<double>&) const;
template void EnvironmentSettings::add_weights(const Block&, const Neighbors<double>&, double*,
                                               int64_t) const;
template void EnvironmentSettings::weigh(const Block&, Neighbors<float>&) const;
template void EnvironmentSettings::add_weights(const Block&, const Neighbors<float>&, double*,
                                               int64_t) const;
template class TwoBody<double>;
template class TwoBody<float>;
template class Symmetrized<double>;
template class Symmetrized<float>;
template class SeA<double>;
template class SeA<float>;
template class SeR<double>;
template class SeR<float>;

}  // namespace deepmd::native
