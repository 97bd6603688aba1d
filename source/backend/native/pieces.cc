// SPDX-License-Identifier: LGPL-3.0-or-later
#include "pieces.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace deepmd::native {

namespace {

/** Finest division of a range. */
constexpr int64_t kCells = 256;
/** Weight times half of the length of a piece, at most: a step of a tanh then meets a node. */
constexpr double kSteepest = 8.0;
/** Numbers between two nodes at which a piece is compared, and their rounding in multiples of it.
 */
constexpr int64_t kBetween = 3, kMultiple = 64;

/** A dense layer with plain weights, (n_out, n_in). */
struct Layer {
  int64_t n_in = 0, n_out = 0;
  int32_t activation = DEEPMD_LINEAR, copies = 0;
  std::vector<double> w, bias, step;
};

Real tanh_of(Real x) { return 1 - 2 / (std::exp(2 * x) + 1); }

/** Smooth functions; what others return is never used. */
Real activated(int32_t activation, Real x) {
  switch (activation) {
    case DEEPMD_TANH:
      return tanh_of(x);
    case DEEPMD_SIGMOID:
      return 1 / (1 + std::exp(-x));
    case DEEPMD_SILU:
      return x / (1 + std::exp(-x));
    case DEEPMD_SOFTPLUS:
      return std::max(x, Real(0)) + std::log1p(std::exp(-std::abs(x)));
    case DEEPMD_GELU: {
      const Real c = std::sqrt(2 / std::acos(Real(-1)));
      return x / 2 * (1 + tanh_of(c * (x + Real(0.044715) * x * x * x)));
    }
    default:
      return x;
  }
}

bool is_smooth(int32_t activation) {
  return activation == DEEPMD_LINEAR || activation == DEEPMD_TANH || activation == DEEPMD_SIGMOID ||
         activation == DEEPMD_SILU || activation == DEEPMD_SOFTPLUS || activation == DEEPMD_GELU;
}

/** The weights as a product with the unit matrix, whatever their layout is. */
template <class T>
Layer plain(const Dense<T>& dense) {
  const auto from = dense.layer();
  Layer layer;
  layer.n_in = dense.n_in();
  layer.n_out = dense.n_out();
  layer.activation = from.activation;
  layer.copies = from.copies;
  std::vector<T> unit(static_cast<size_t>(layer.n_in * layer.n_in), T(0));
  for (int64_t p = 0; p < layer.n_in; ++p) unit[p * layer.n_in + p] = T(1);
  std::vector<T> w(static_cast<size_t>(layer.n_in * dense.ld()));
  Kernels<T>::get().multiply(layer.n_in, dense.ld(), layer.n_in, unit.data(), layer.n_in,
                             dense.weights(), w.data(), dense.ld(), 0);
  for (int64_t q = 0; q < layer.n_out; ++q) {
    for (int64_t p = 0; p < layer.n_in; ++p) layer.w.push_back(w[p * dense.ld() + q]);
    layer.bias.push_back(from.bias ? from.bias[q] : T(0));
    layer.step.push_back(from.step ? from.step[q] : T(1));
  }
  return layer;
}

std::vector<Real> forward(const Layer& layer, const std::vector<Real>& x) {
  std::vector<Real> y;
  for (int64_t q = 0; q < layer.n_out; ++q) {
    // Two sums, or each addition would wait for the one before.
    const double* w = layer.w.data() + q * layer.n_in;
    Real even = layer.bias[q], odd = 0;
    int64_t p = 0;
    for (; p + 1 < layer.n_in; p += 2) {
      even += w[p] * x[p];
      odd += w[p + 1] * x[p + 1];
    }
    if (p < layer.n_in) even += w[p] * x[p];
    y.push_back(activated(layer.activation, even + odd) * layer.step[q]);
    if (layer.copies > 0) y.back() += x[q % layer.n_in];
  }
  return y;
}

}  // namespace

template <class T>
Sampler sampler_of(const Network<T>& network) {
  std::vector<Layer> layers;
  for (const Dense<T>& dense : network.layers()) {
    layers.push_back(plain(dense));
    if (!is_smooth(layers.back().activation)) return {};
  }
  if (layers.front().n_in != 1) return {};
  return [layers](int64_t n, const Real* s, Real* values) {
    for (int64_t k = 0; k < n; ++k) {
      std::vector<Real> x = {s[k]};
      for (const Layer& layer : layers) x = forward(layer, x);
      values = std::copy(x.begin(), x.end(), values);
    }
  };
}

template <class T>
double steepest_of(const Network<T>& network) {
  double largest = 0.0;
  for (const double w : plain(network.layers().front()).w) {
    // Not a number is no bound.
    largest = std::abs(w) <= largest ? largest : std::abs(w);
  }
  return largest;
}

/** Nodes of an interpolation, and what leads from values there to coefficients. */
template <class T>
struct Pieces<T>::Basis {
  static constexpr int64_t terms = sizeof(T) == sizeof(double) ? DEEPMD_PIECE_TERMS : 8;
  Real node[terms], chebyshev[terms][terms];
  Real power[terms][terms] = {};  ///< coefficients of the Chebyshev polynomials
  std::vector<Real> between;      ///< numbers between the nodes, and the ends

  Basis() {
    const Real pi = std::acos(Real(-1));
    for (int64_t k = 0; k < terms; ++k) {
      node[k] = std::cos(pi * (static_cast<Real>(k) + Real(0.5)) / terms);
      for (int64_t j = 0; j < terms; ++j) {
        const Real angle = pi * static_cast<Real>(j) * (static_cast<Real>(k) + Real(0.5)) / terms;
        chebyshev[j][k] = (j == 0 ? 1 : 2) * std::cos(angle) / terms;
      }
    }
    power[0][0] = power[1][1] = 1;
    for (int64_t j = 2; j < terms; ++j) {
      for (int64_t k = 0; k < terms; ++k) {
        power[j][k] = (k > 0 ? 2 * power[j - 1][k - 1] : 0) - power[j - 2][k];
      }
    }
    constexpr int64_t parts = (kBetween + 1) * terms;  // the nodes are in the middle of these
    for (int64_t k = 0; k <= parts; ++k) {
      if (k % (kBetween + 1) == (kBetween + 1) / 2) continue;
      between.push_back(std::cos(pi * static_cast<Real>(k) / parts));
    }
  }
};

/** Whether a series reproduces the functions between its nodes. */
template <class T>
bool Pieces<T>::holds_between(const Sampled& functions, const Basis& basis, double middle,
                              double half, const std::vector<Real>& series, Real allowed) {
  const auto n = static_cast<int64_t>(basis.between.size());
  const int64_t width = functions.width;
  std::vector<Real> s, values(static_cast<size_t>(n * width));
  for (const Real t : basis.between) s.push_back(middle + half * t);
  functions.values(n, s.data(), values.data());
  for (int64_t k = 0; k < n; ++k) {
    const Real t = basis.between[k];
    for (int64_t m = 0; m < width; ++m) {
      Real last = 0, before = 0;  // Clenshaw's recurrence
      for (int64_t j = Basis::terms - 1; j > 0; --j) {
        const Real next = series[j * width + m] + 2 * t * last - before;
        before = last;
        last = next;
      }
      const Real found = series[m] + t * last - before;
      if (!(std::abs(found - values[k * width + m]) <= allowed)) return false;
    }
  }
  return true;
}

/** Add the piece; false if its last coefficients matter. */
template <class T>
bool Pieces<T>::interpolate(const Sampled& functions, const Basis& basis, double middle,
                            double half) {
  constexpr int64_t n = Basis::terms;
  const int64_t width = functions.width;
  if (!(functions.steepest * half <= kSteepest)) return false;
  Real s[n];
  for (int64_t k = 0; k < n; ++k) s[k] = middle + half * basis.node[k];
  std::vector<Real> values(static_cast<size_t>(n * width));
  functions.values(n, s, values.data());
  std::vector<Real> series(values.size(), 0), powers(values.size(), 0);
  Real largest = 0, last = 0;
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t k = 0; k < n; ++k) {
      for (int64_t m = 0; m < width; ++m) {
        series[j * width + m] += basis.chebyshev[j][k] * values[k * width + m];
      }
    }
    for (int64_t m = 0; m < width; ++m) {
      largest = std::max(largest, std::abs(values[j * width + m]));
      if (j >= n - 2) last = std::max(last, std::abs(series[j * width + m]));
      // Not a number: no polynomial.
      if (!std::isfinite(series[j * width + m])) return false;
    }
  }
  const Real rounding = 4 * std::numeric_limits<Real>::epsilon();
  const Real negligible = sizeof(T) == sizeof(double) ? Real(1e-16) : Real(1e-8);
  const Real allowed = largest * std::max(std::max(negligible, rounding), Real(functions.noise));
  if (last > allowed || !holds_between(functions, basis, middle, half, series, kMultiple * allowed))
    return false;
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t k = j % 2; k <= j; k += 2) {
      for (int64_t m = 0; m < width; ++m) {
        powers[k * width + m] += basis.power[j][k] * series[j * width + m];
      }
    }
  }
  const auto& kernels = Kernels<T>::get();
  const std::vector<T> plain(powers.begin(), powers.end());
  const auto at = static_cast<int64_t>(data_.size());
  data_.resize(static_cast<size_t>(at + kernels.packed_size(n, width)));
  kernels.pack(n, width, plain.data(), width, 0, data_.data() + at);
  middle_.push_back(middle);
  scale_.push_back(1.0 / half);
  return true;
}

template <class T>
bool Pieces<T>::divide(const Sampled& functions, const Basis& basis, int64_t cell, int64_t cells) {
  if (static_cast<int64_t>(spans_.size()) >= functions.most) return false;
  const double one = (functions.upper - functions.lower) / static_cast<double>(kCells);
  const double half = 0.5 * one * static_cast<double>(cells);
  const double middle = functions.lower + one * static_cast<double>(cell) + half;
  if (interpolate(functions, basis, middle, half)) {
    spans_.push_back({cell, cells});
    return true;
  }
  return cells > 1 && divide(functions, basis, cell, cells / 2) &&
         divide(functions, basis, cell + cells / 2, cells / 2);
}

/** Cells as long as the shortest piece. */
template <class T>
void Pieces<T>::number_cells() {
  int64_t shortest = kCells;
  for (const Span& span : spans_) shortest = std::min(shortest, span.cells);
  cells_ = kCells / shortest;
  piece_.resize(static_cast<size_t>(cells_));
  for (size_t k = 0; k < spans_.size(); ++k) {
    std::fill_n(piece_.begin() + spans_[k].first / shortest, spans_[k].cells / shortest,
                static_cast<int32_t>(k));
  }
}

template <class T>
std::unique_ptr<const Pieces<T>> Pieces<T>::fit(const Sampled& functions) {
  static const Basis basis;
  const double length = functions.upper - functions.lower;
  if (!functions.values || !std::isfinite(length) || !(length > 0.0)) return nullptr;
  auto pieces = std::make_unique<Pieces<T>>();
  pieces->width_ = functions.width;
  pieces->lower_ = functions.lower;
  pieces->length_ = length;
  if (!pieces->divide(functions, basis, 0, kCells)) return nullptr;
  pieces->number_cells();
  return pieces;
}

template <class T>
typename Kernels<T>::Pieces Pieces<T>::view() const {
  return {data_.data(),  Basis::terms,   width_,
          cells_,        lower_,         static_cast<double>(cells_) / length_,
          piece_.data(), middle_.data(), scale_.data()};
}

template Sampler sampler_of(const Network<double>&);
template Sampler sampler_of(const Network<float>&);
template double steepest_of(const Network<double>&);
template double steepest_of(const Network<float>&);
template class Pieces<double>;
template class Pieces<float>;

}  // namespace deepmd::native
