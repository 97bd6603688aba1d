// SPDX-License-Identifier: LGPL-3.0-or-later
#include "network.h"

#include <algorithm>
#include <cstdlib>

namespace deepmd::native {

namespace {

/** Rows of jets that go through all layers together: their arrays stay in the second cache. */
constexpr int64_t kJets = 96;

int32_t activation_of(const Node& node, double* threshold) {
  auto name = node.text("activation_function", "none");
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  const size_t colon = name.find(':');
  const std::string kind = name.substr(0, colon);
  if (kind == "silut" || kind == "custom_silu") {
    *threshold = colon == std::string::npos ? 3.0 : std::strtod(name.c_str() + colon + 1, nullptr);
    return DEEPMD_SILUT;
  }
  static const std::pair<const char*, int32_t> known[] = {
      {"none", DEEPMD_LINEAR}, {"linear", DEEPMD_LINEAR},     {"tanh", DEEPMD_TANH},
      {"gelu", DEEPMD_GELU},   {"gelu_tf", DEEPMD_GELU},      {"relu", DEEPMD_RELU},
      {"relu6", DEEPMD_RELU6}, {"softplus", DEEPMD_SOFTPLUS}, {"sigmoid", DEEPMD_SIGMOID},
      {"silu", DEEPMD_SILU}};
  for (const auto& [text, number] : known) {
    if (name == text) return number;
  }
  node.unknown("the activation function \"" + name + "\"");
}

/** Numbers in the precision, with room for whole vectors. */
template <class T>
std::vector<T> row_of(const std::vector<double>& from, int64_t length) {
  if (from.empty()) return {};
  std::vector<T> to(static_cast<size_t>(length), T(0));
  std::transform(from.begin(), from.end(), to.begin(), [](double x) { return static_cast<T>(x); });
  return to;
}

}  // namespace

bool is_single(const Node& node) {
  const auto precision = node.text("precision", "default");
  if (precision == "float32" || precision == "single") return true;
  if (precision == "float64" || precision == "double" || precision == "default") return false;
  node.unknown("the precision \"" + precision + "\"");
}

template <class T>
Dense<T>::Dense(const Node& node, const Folded& folded) {
  const Node variables = node["@variables"];
  const Array& w = variables["w"].array();
  if (w.shape.size() != 2 || w.shape[0] < 1 || w.shape[1] < 1) node.fail("has no matrix w");
  n_in_ = w.shape[0];
  layer_.width = w.shape[1];
  layer_.activation = activation_of(node, &layer_.threshold);
  ld_ = row_length<T>(layer_.width);
  resnet_ = node.flag("resnet", false);
  layer_.copies = !resnet_ ? 0 : n_out() == n_in_ ? 1 : n_out() == 2 * n_in_ ? 2 : 0;
  const auto vector = [&](const char* name) {
    const std::vector<double> found = node.variable(name);
    if (!found.empty() && static_cast<int64_t>(found.size()) != n_out()) {
      node.fail(std::string("has another number of entries in ") + name);
    }
    return row_of<T>(found, ld_);
  };
  bias_ = vector("b");
  step_ = vector("idt");
  const std::vector<double> all = variables["w"].values();
  if (folded.empty()) {
    set_weights(all, n_in_);
    return;
  }
  int64_t taken = 0;
  for (const auto& pair : folded) taken += pair.second < 0 ? 1 : 2;
  if (layer_.copies != 0 || taken > n_in_) node.fail("does not fit the descriptor");
  std::vector<double> fewer;
  for (const auto& [one, other] : folded) {
    for (int64_t q = 0; q < n_out(); ++q) {
      fewer.push_back(all[one * n_out() + q] + (other < 0 ? 0.0 : all[other * n_out() + q]));
    }
  }
  fewer.insert(fewer.end(), all.begin() + taken * n_out(), all.end());
  set_weights(fewer, static_cast<int64_t>(fewer.size()) / n_out());
}

template <class T>
void Dense<T>::set_weights(const std::vector<double>& w, int64_t n_in) {
  const auto& k = Kernels<T>::get();
  n_in_ = n_in;
  const std::vector<T> plain = row_of<T>(w, static_cast<int64_t>(w.size()));
  packed_.resize(static_cast<size_t>(k.packed_size(n_in_, n_out())));
  k.pack(n_in_, n_out(), plain.data(), n_out(), 0, packed_.data());
  transposed_.resize(static_cast<size_t>(k.packed_size(n_out(), n_in_)));
  k.pack(n_out(), n_in_, plain.data(), n_out(), 1, transposed_.data());
}

template <class T>
typename Kernels<T>::Layer Dense<T>::layer() const {
  typename Kernels<T>::Layer layer = layer_;
  layer.bias = bias_.empty() ? nullptr : bias_.data();
  layer.step = step_.empty() ? nullptr : step_.data();
  return layer;
}

template <class T>
void Dense<T>::fix_inputs(const Node& node, int64_t first, const std::vector<double>& inputs) {
  std::vector<double> w = node["@variables"]["w"].values(), bias = node.variable("b");
  if (layer_.copies != 0) node.unknown("a first layer that adds its input, which holds types,");
  if (first + static_cast<int64_t>(inputs.size()) != n_in_) node.fail("has another input width");
  bias.resize(static_cast<size_t>(n_out()), 0.0);
  for (size_t k = 0; k < inputs.size(); ++k) {
    for (int64_t q = 0; q < n_out(); ++q) {
      bias[q] += inputs[k] * w[(first + static_cast<int64_t>(k)) * n_out() + q];
    }
  }
  bias_ = row_of<T>(bias, ld_);
  w.resize(static_cast<size_t>(first * n_out()));
  set_weights(w, first);
}

template <class T>
Network<T>::Network(const Node& node, const Folded& folded) {
  const Node layers = node["layers"];
  for (size_t k = 0; k < layers.size(); ++k) {
    layers_.emplace_back(layers[k], k == 0 ? folded : Folded{});
  }
  if (layers_.empty()) node.fail("has no layers");
  for (size_t k = 1; k < layers_.size(); ++k) {
    if (layers_[k].n_in() != layers_[k - 1].n_out()) node.fail("has layers that do not fit");
  }
}

template <class T>
bool Network<T>::adds_input(const Node& node) {
  const Node first = node["layers"][0];
  const std::vector<int64_t>& shape = first["@variables"]["w"].array().shape;
  return first.flag("resnet", false) &&
         (shape.size() != 2 || shape[1] == shape[0] || shape[1] == 2 * shape[0]);
}

template <class T>
void Network<T>::fix_inputs(const Node& node, const std::vector<double>& inputs) {
  layers_.front().fix_inputs(node["layers"][0], 1, inputs);
}

template <class T>
const T* Network<T>::forward(int64_t m, const T* x, int64_t ldx, Tape<T>& tape, bool slopes) const {
  const auto& k = Kernels<T>::get();
  tape.y.resize(layers_.size());
  tape.slope.resize(layers_.size());
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Dense<T>& dense = layers_[l];
    const auto layer = dense.layer();
    T* y = sized(tape.y[l], m * dense.ld());
    T* slope = slopes ? sized(tape.slope[l], m * dense.ld()) : nullptr;
    k.multiply(m, dense.ld(), dense.n_in(), x, ldx, dense.weights(), y, dense.ld(), 0);
    k.activate(&layer, m, y, x, ldx, y, slope, dense.ld());
    x = y;
    ldx = dense.ld();
  }
  return x;
}

template <class T>
void Network<T>::backward(int64_t m, T* y_bar, Tape<T>& tape, T* x_bar, int64_t ldx) const {
  const auto& k = Kernels<T>::get();
  for (size_t l = layers_.size(); l-- > 0;) {
    const Dense<T>& dense = layers_[l];
    const auto layer = dense.layer();
    const int64_t to_ld = l == 0 ? ldx : layers_[l - 1].ld();
    T* to = l == 0 ? x_bar : sized(tape.bar[l % 2], m * to_ld);
    T* z_bar = sized(tape.tangent[0], m * dense.ld());
    k.activate_backward(m * dense.ld(), y_bar, tape.slope[l].data(), z_bar);
    k.multiply(m, l == 0 ? dense.n_in() : to_ld, dense.n_out(), z_bar, dense.ld(),
               dense.transposed(), to, to_ld, 0);
    k.add_copies(&layer, m, y_bar, dense.ld(), to, to_ld);
    y_bar = to;
  }
}

template <class T>
void Network<T>::jets(int64_t m, const T* s, Tape<T>& tape, T* g, T* dg) const {
  const auto& k = Kernels<T>::get();
  int64_t widest = 1;
  for (const Dense<T>& dense : layers_) widest = std::max(widest, dense.ld());
  tape.y.resize(2);
  tape.slope.resize(1);
  T* slope = sized(tape.slope[0], kJets * widest);
  for (int which = 0; which < 2; ++which) {
    sized(tape.y[which], kJets * widest);
    sized(tape.tangent[which], kJets * widest);
  }
  tape.ones.assign(kJets, T(1));
  for (int64_t first = 0; first < m; first += kJets) {
    const int64_t n = std::min(kJets, m - first);
    const T *x = s + first, *dx = tape.ones.data();
    int64_t ldx = 1;
    for (size_t l = 0; l < layers_.size(); ++l) {
      const Dense<T>& dense = layers_[l];
      const auto layer = dense.layer();
      const int64_t ld = dense.ld();
      const bool last = l + 1 == layers_.size();
      T* y = last ? g + first * ld : tape.y[l % 2].data();
      T* dy = last ? dg + first * ld : tape.tangent[l % 2].data();
      k.multiply(n, ld, dense.n_in(), x, ldx, dense.weights(), y, ld, 0);
      k.activate(&layer, n, y, x, ldx, y, slope, ld);
      k.multiply(n, ld, dense.n_in(), dx, ldx, dense.weights(), dy, ld, 0);
      k.activate_tangent(&layer, n, slope, dy, dx, ldx, dy, ld);
      x = y;
      dx = dy;
      ldx = ld;
    }
  }
}

template class Dense<double>;
template class Dense<float>;
template class Network<double>;
template class Network<float>;

}  // namespace deepmd::native
