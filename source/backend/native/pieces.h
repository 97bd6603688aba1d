// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Networks and tables of one number as polynomials on pieces of its range, equal up to rounding.
 *
 * Networks of smooth functions are analytic, so a few polynomials of high degree reproduce one to
 * the last digits. They are interpolated at Chebyshev nodes in extended precision. A piece is
 * halved if its last coefficients are not negligible, if it misses the functions between its nodes,
 * or if the first layer is so steep that features could hide there.
 */
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "network.h"

namespace deepmd::native {

/** Values (n, width) of functions at n numbers. */
using Real = long double;
using Sampler = std::function<void(int64_t n, const Real* s, Real* values)>;

/** Functions to approximate. */
struct Sampled {
  Sampler values;
  int64_t width = 0;
  double lower = 0.0, upper = 0.0;  ///< range
  double noise = 0.0;               ///< of the values, relative
  int64_t most = 0;                 ///< pieces
  double steepest = 0.0;            ///< largest weight of the first layer of a network
};

/** The largest weight of the first layer, which makes the narrowest features. */
template <class T>
double steepest_of(const Network<T>& network);

/** The network in extended precision; no values where it is not smooth. */
template <class T>
Sampler sampler_of(const Network<T>& network);

template <class T>
class Pieces {
 public:
  /** Null if more pieces than allowed were needed. */
  static std::unique_ptr<const Pieces> fit(const Sampled& functions);

  typename Kernels<T>::Pieces view() const;

 private:
  struct Basis;

  bool divide(const Sampled& functions, const Basis& basis, int64_t cell, int64_t cells);
  bool interpolate(const Sampled& functions, const Basis& basis, double middle, double half);
  static bool holds_between(const Sampled& functions, const Basis& basis, double middle,
                            double half, const std::vector<Real>& series, Real allowed);
  void number_cells();

  struct Span {
    int64_t first, cells;  ///< of the finest division
  };
  int64_t width_ = 0, cells_ = 0;
  double lower_ = 0.0, length_ = 0.0;
  std::vector<T> data_;
  std::vector<double> middle_, scale_;
  std::vector<Span> spans_;
  std::vector<int32_t> piece_;
};

extern template Sampler sampler_of(const Network<double>&);
extern template Sampler sampler_of(const Network<float>&);
extern template double steepest_of(const Network<double>&);
extern template double steepest_of(const Network<float>&);
extern template class Pieces<double>;
extern template class Pieces<float>;

}  // namespace deepmd::native
