// SPDX-License-Identifier: LGPL-3.0-or-later
#include "attention.h"

#include <algorithm>
#include <cmath>

namespace deepmd::native {

template <class T>
Dpa1<T>::Dpa1(const Node& node, Packings& packings, const View& view)
    : Symmetrized<T>(node, EnvironmentSettings(node, packings, view, true, DEEPMD_ROW)) {
  const bool second = node.text("type") == "se_atten_v2";
  const bool strip = second || node.text("tebd_input_mode", "concat") == "strip";
  const bool smooth = second || node.flag("smooth_type_embedding", false);
  one_side_ = node.flag("type_one_side", false);
  this->smooth_ = strip && smooth;
  const Node layers = node["attention_layers"]["attention_layers"];
  for (int64_t k = 0; k < node.integer("attn_layer", 0); ++k) {
    layers_.emplace_back(layers[static_cast<size_t>(k)], smooth);
  }
  this->weighs_ = this->smooth_ || !layers_.empty();
  first_type_ = (!strip || !smooth) && has_mean(node);
  if (first_type_) {
    first_type_slot_ = packings.add({"first_type", this->environment_.reach().rcut, {}, {}, 0});
  }
  const int64_t nt = this->environment_.ntypes();
  const Rows types = embedded_types<T>(node["type_embedding"], nt);
  if (node.flag("concat_output_tebd", true)) tails_.assign(types.begin(), types.begin() + nt);
  if (strip) {
    read_strip(node, types, node.has("compress") && node["compress"].flag("geo_compress", false));
  } else {
    read_concat(node, types);
  }
  if (layers_.empty()) this->use_pieces();
  this->check_axis(node);
  for (const AttentionLayer<T>& layer : layers_) {
    if (layer.width() != this->ng_) node.fail("has attention layers of another width");
  }
}

template <class T>
std::vector<double> Dpa1<T>::both(const Rows& types, int64_t center, int64_t neighbor) const {
  std::vector<double> row = types[neighbor];
  if (!one_side_) row.insert(row.end(), types[center].begin(), types[center].end());
  return row;
}

template <class T>
void Dpa1<T>::read_concat(const Node& node, const Rows& types) {
  const int64_t nt = this->environment_.ntypes();
  const Node network = node["embeddings"]["networks"][0];
  Rows values;
  for (int64_t a = 0; a < nt; ++a) {
    for (int64_t b = 0; b <= nt; ++b) {
      Network<T> one(network);
      one.fix_inputs(network, both(types, a, b));
      Embedding<T> embedding(std::move(one));
      this->ng_ = embedding.width();
      this->ld_ = row_length<T>(this->ng_);
      values.push_back(embedding.at(this->environment_.empty(a)[0]));
      if (b == nt) continue;
      this->index_.push_back(this->embeddings_.size());
      this->embeddings_.push_back(std::move(embedding));
    }
  }
  make_empty(values);
}

template <class T>
void Dpa1<T>::read_strip(const Node& node, const Rows& types, bool tabulated) {
  const int64_t nt = this->environment_.ntypes();
  if (tabulated && layers_.empty()) {
    const Node all = node["compress"]["@variables"];
    this->embeddings_.emplace_back(all["compress_data"][0], all["compress_info"][0], false);
  } else {
    this->embeddings_.emplace_back(Network<T>(node["embeddings"]["networks"][0]));
  }
  this->tables_ = tabulated && layers_.empty();
  this->ng_ = this->embeddings_[0].width();
  this->ld_ = row_length<T>(this->ng_);
  this->index_.assign(static_cast<size_t>(nt * nt), 0);
  const Rows gates = read_gates(node, types);
  Rows values;
  for (int64_t a = 0; a < nt; ++a) {
    for (int64_t b = 0; b <= nt; ++b) {
      const std::vector<double>& gate = gates[a * (nt + 1) + b];
      if (static_cast<int64_t>(gate.size()) != this->ng_) node.fail("has gates of another width");
      std::vector<double> g = this->embeddings_[0].at(this->environment_.empty(a)[0]);
      // The switch of an empty slot is 0.
      for (int64_t m = 0; m < this->ng_; ++m) g[m] *= this->smooth_ ? 1.0 : 1.0 + gate[m];
      values.push_back(g);
      if (b == nt) continue;
      this->gates_.emplace_back(gate.begin(), gate.end());
      this->gates_.back().resize(static_cast<size_t>(this->ld_), T(0));
    }
  }
  make_empty(values);
}

template <class T>
Rows Dpa1<T>::read_gates(const Node& node, const Rows& types) const {
  const int64_t nt = this->environment_.ntypes(), kinds = nt + 1;
  const Network<T> network(node["embeddings_strip"]["networks"][0]);
  std::vector<double> stored;
  if (node.has("compress")) stored = node["compress"].variable("type_embd_data");
  const int64_t width = network.n_out();
  if (!stored.empty() &&
      static_cast<int64_t>(stored.size()) != width * kinds * (one_side_ ? 1 : kinds)) {
    node.fail("has gates of another size");
  }
  Rows gates;
  Tape<T> tape;
  for (int64_t a = 0; a < nt; ++a) {
    for (int64_t b = 0; b <= nt; ++b) {
      if (!stored.empty()) {
        const double* row = stored.data() + (one_side_ ? b : a * kinds + b) * width;
        gates.emplace_back(row, row + width);
        continue;
      }
      const std::vector<double> input = both(types, a, b);
      const std::vector<T> x(input.begin(), input.end());
      if (static_cast<int64_t>(x.size()) != network.n_in()) node.fail("has another tebd_dim");
      const T* y = network.forward(1, x.data(), network.n_in(), tape, false);
      gates.emplace_back(y, y + width);
    }
  }
  return gates;
}

template <class T>
void Dpa1<T>::make_empty(const Rows& values) {
  const int64_t kinds = this->environment_.ntypes() + 1;
  for (size_t k = 0; k < values.size(); ++k) {
    std::vector<double> g = values[k];
    for (const AttentionLayer<T>& layer : layers_) layer.empty(g);
    empty_.push_back(this->empty_term(static_cast<int64_t>(k) / kinds, g));
  }
}

template <class T>
void Dpa1<T>::add_empty(const Block& block, int64_t center, const TwoBodyState<T>& state,
                        T* sums) const {
  const int64_t nt = this->environment_.ntypes();
  int64_t missing = this->environment_.nnei(), kind = nt;
  for (const Neighbors<T>& found : state.neighbors) missing -= found.slots[center];
  if (first_type_) {
    // The definition's own oddity: empty slots take the type of the first atom.
    kind = block.chunk.slots[first_type_slot_].data[block.centers[center]];
  }
  const std::vector<T>& empty = empty_[block.type * (nt + 1) + kind];
  for (size_t k = 0; k < empty.size(); ++k) sums[k] += static_cast<T>(missing) * empty[k];
}

template <class T>
void Dpa1<T>::forward(const Block& block, T* d, int64_t ldd, T* rotation,
                      DescriptorState& state) const {
  Symmetrized<T>::forward(block, d, ldd, rotation, state);
  if (tails_.empty()) return;
  const std::vector<double>& tail = tails_[block.type];
  for (int64_t c = 0; c < block.n; ++c) {
    T* to = d + c * ldd + Symmetrized<T>::width();
    for (const double x : tail) *to++ = static_cast<T>(x);
  }
}

template <class T>
void Dpa1<T>::collect(const Block& block, int64_t center, Dpa1State<T>& s) const {
  const int64_t ld = this->ld_, nt = this->environment_.ntypes();
  s.g.clear();
  s.r.clear();
  s.weight.clear();
  s.direction.clear();
  s.length.clear();
  for (int64_t b = 0; b < nt; ++b) {
    const Neighbors<T>& found = s.neighbors[b];
    const T* gate = this->gate(block.type, b);
    for (int64_t e = found.start[center]; e < found.start[center + 1]; ++e) {
      const T* g = found.embedding.g.data() + e * ld;
      const T* r = found.r.data() + DEEPMD_ROW * e;
      const T weight = this->smooth_ ? found.weight[e] : T(1);
      s.g.insert(s.g.end(), g, g + ld);
      T* row = s.g.data() + s.g.size() - ld;
      for (int64_t m = 0; gate && m < this->ng_; ++m) row[m] += row[m] * gate[m] * weight;
      s.r.insert(s.r.end(), r, r + DEEPMD_ROW);
      s.weight.push_back(found.weight[e]);
      const T squared = r[1] * r[1] + r[2] * r[2] + r[3] * r[3];
      s.length.push_back(squared <= T(1e-24) ? T(1e-12) : std::sqrt(squared));
      for (int a = 1; a < DEEPMD_ROW; ++a) s.direction.push_back(r[a] / s.length.back());
    }
  }
}

template <class T>
AttentionSlots<T> Dpa1<T>::attend(const Block& block, int64_t center, Dpa1State<T>& s) const {
  collect(block, center, s);
  AttentionSlots<T> slots;
  slots.n = static_cast<int64_t>(s.weight.size());
  slots.others = this->environment_.nnei() - slots.n;
  s.weight_bar.assign(s.weight.size(), T(0));
  s.direction_bar.assign(s.direction.size(), T(0));
  slots.weight = s.weight.data();
  slots.direction = s.direction.data();
  slots.weight_bar = s.weight_bar.data();
  slots.direction_bar = s.direction_bar.data();
  s.traces.resize(layers_.size());
  for (size_t l = 0; l < layers_.size(); ++l) {
    layers_[l].forward(slots, s.g.data(), this->ld_, s.traces[l], s.work);
  }
  return slots;
}

template <class T>
void Dpa1<T>::contract_all(const Block& block, int64_t center, TwoBodyState<T>& state,
                           T* sums) const {
  if (layers_.empty()) return Symmetrized<T>::contract_all(block, center, state, sums);
  auto& s = static_cast<Dpa1State<T>&>(state);
  const AttentionSlots<T> slots = attend(block, center, s);
  Kernels<T>::get().jet_contract(slots.n, this->ng_, s.g.data(), this->ld_, s.r.data(), sums,
                                 this->ld_);
}

template <class T>
void Dpa1<T>::contract_all_backward(const Block& block, int64_t center, TwoBodyState<T>& state,
                                    const T* bar) const {
  if (layers_.empty()) return Symmetrized<T>::contract_all_backward(block, center, state, bar);
  auto& s = static_cast<Dpa1State<T>&>(state);
  const int64_t ld = this->ld_;
  const AttentionSlots<T> slots = attend(block, center, s);
  s.none.assign(s.g.size(), T(0));
  Kernels<T>::get().jet_contract_backward(slots.n, this->ng_, s.g.data(), s.none.data(), ld,
                                          s.r.data(), bar, ld, sized(s.r_bar, slots.n * DEEPMD_ROW),
                                          nullptr);
  s.g_bar.assign(s.g.size(), T(0));
  for (int64_t k = 0; k < slots.n; ++k) {
    for (int64_t c = 0; c < DEEPMD_ROW; ++c) {
      const T r = s.r[DEEPMD_ROW * k + c];
      for (int64_t m = 0; m < this->ng_; ++m) s.g_bar[k * ld + m] += r * bar[c * ld + m];
    }
  }
  for (size_t l = layers_.size(); l-- > 0;) {
    layers_[l].backward(slots, s.g_bar.data(), ld, s.traces[l], s.work);
  }
  scatter(block, center, s);
}

/** Derivatives by rows and switches of the neighbors, from those by features and geometry. */
template <class T>
void Dpa1<T>::scatter(const Block& block, int64_t center, Dpa1State<T>& s) const {
  const int64_t ld = this->ld_, nt = this->environment_.ntypes();
  int64_t k = 0;
  for (int64_t b = 0; b < nt; ++b) {
    Neighbors<T>& found = s.neighbors[b];
    const T* gate = this->gate(block.type, b);
    for (int64_t e = found.start[center]; e < found.start[center + 1]; ++e, ++k) {
      const T *g = found.embedding.g.data() + e * ld, *dg = found.embedding.dg.data() + e * ld;
      const T* g_bar = s.g_bar.data() + k * ld;
      const T weight = this->smooth_ ? found.weight[e] : T(1);
      T along = 0, gated = 0;
      for (int64_t m = 0; m < this->ng_; ++m) {
        along += g_bar[m] * dg[m] * (gate ? T(1) + gate[m] * weight : T(1));
        gated += gate ? g_bar[m] * g[m] * gate[m] : T(0);
      }
      const T *direction = s.direction.data() + 3 * k, *bar = s.direction_bar.data() + 3 * k;
      const T turned = bar[0] * direction[0] + bar[1] * direction[1] + bar[2] * direction[2];
      T* r_bar = found.r_bar.data() + DEEPMD_ROW * e;
      r_bar[0] = s.r_bar[DEEPMD_ROW * k] + along;
      for (int a = 0; a < 3; ++a) {
        const T radial = s.length[k] > T(1e-12) ? turned * direction[a] : T(0);
        r_bar[a + 1] = s.r_bar[DEEPMD_ROW * k + a + 1] + (bar[a] - radial) / s.length[k];
      }
      found.weight_bar[e] = s.weight_bar[k] + (this->smooth_ ? gated : T(0));
    }
  }
}

template class Dpa1<double>;
template class Dpa1<float>;

}  // namespace deepmd::native
