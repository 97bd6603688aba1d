// SPDX-License-Identifier: LGPL-3.0-or-later
#include "embedding.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace deepmd::native {

namespace {

/** Pieces at most: those of a table must be so few that they are faster than the table. */
constexpr int64_t kMostOfNetwork = 160, kMostOfTable = 32;
/** Rounding of the values of a table, and how well polynomials must agree, relatively. */
template <class T>
constexpr double kNoise = sizeof(T) == sizeof(double) ? 2e-15 : 3e-7;
template <class T>
constexpr double kAgreement = sizeof(T) == sizeof(double) ? 2e-14 : 1e-6;
/** Numbers at which a table is compared. */
constexpr int64_t kCompared = 1000;

/** Whether polynomials reproduce a table between their nodes, too. */
template <class T>
bool agree(const Embedding<T>& table, const Pieces<T>& pieces, const Sampled& functions) {
  const auto& k = Kernels<T>::get();
  const auto view = pieces.view();
  const int64_t ld = row_length<T>(functions.width);
  const T row[DEEPMD_ROW] = {T(1), T(0), T(0), T(0)};

  std::vector<T> sums(static_cast<size_t>(DEEPMD_ROW * ld));
  double largest = 0.0, difference = 0.0;
  for (int64_t q = 0; q < kCompared; ++q) {
    const double part = (static_cast<double>(q) + 0.5) / static_cast<double>(kCompared);
    const T s = static_cast<T>(functions.lower + part * (functions.upper - functions.lower));
    int32_t piece = 0;
    T place = 0;
    if (k.pieces_places(&view, 1, &s, 1, &piece, &place) == 0) return false;
    std::fill(sums.begin(), sums.end(), T(0));
    k.pieces_contract(&view, 1, &piece, &place, row, sums.data(), ld);
    const std::vector<double> exact = table.at(s);
    for (size_t m = 0; m < exact.size(); ++m) {
      const double error = std::abs(exact[m] - double{sums[m]});
      if (!std::isfinite(error)) return false;
      largest = std::max(largest, std::abs(exact[m]));
      difference = std::max(difference, error);
    }
  }
  return difference <= kAgreement<T> * largest;
}

}  // namespace

template <class T>
Embedding<T>::Embedding(Network<T> network) : width_(network.n_out()), ld_(network.ld()) {
  network_ = std::make_shared<const Network<T>>(std::move(network));
}

template <class T>
Embedding<T>::Embedding(const Node& data, const Node& info, bool symmetric) {
  const Array& array = data.array();
  const std::vector<double> facts = info.array().values();
  const bool fits = array.shape.size() == 2 && array.shape[0] > 0 && array.shape[1] % 6 == 0 &&
                    array.shape[1] > 0 && facts.size() == 6 && facts[0] < facts[1] &&
                    facts[1] <= facts[2] && facts[3] > 0.0 && facts[4] > 0.0 &&
                    std::isfinite(facts[2] - facts[0]) && array.shape[0] < (1 << 30);
  if (!fits) data.fail("does not fit its description");
  width_ = array.shape[1] / 6;
  ld_ = row_length<T>(width_);
  const std::vector<double> values = data.values();
  const std::vector<T> plain(values.begin(), values.end());
  const auto& k = Kernels<T>::get();
  auto packed =
      std::make_shared<std::vector<T>>(static_cast<size_t>(k.table_size(array.shape[0], width_)));
  k.table_pack(array.shape[0], width_, plain.data(), packed->data());
  data_ = packed;
  table_.data = packed->data();
  table_.rows = array.shape[0];
  table_.width = width_;
  table_.lower = facts[0];
  table_.upper = facts[1];
  table_.end = facts[2];
  table_.fine = facts[3];
  table_.coarse = facts[4];
  table_.symmetric = symmetric ? 1 : 0;
}

template <class T>
void Embedding<T>::use_pieces(double lower, double upper) {
  lazy_ = std::make_shared<Lazy>();
  lazy_->lower = lower;
  lazy_->upper = upper;
}

/** The functions in extended precision, and how well polynomials must agree. */
template <class T>
Sampled Embedding<T>::sampled(double lower, double upper) const {
  if (network_) {
    return {sampler_of(*network_), width_, lower, upper, 0.0, kMostOfNetwork,
            steepest_of(*network_)};
  }
  const Embedding table = *this;
  const auto values = [table](int64_t n, const Real* s, Real* to) {
    for (int64_t k = 0; k < n; ++k) {
      const std::vector<double> found = table.at(static_cast<double>(s[k]));
      to = std::copy(found.begin(), found.end(), to);
    }
  };
  return {values,    width_,      std::max(lower, table_.lower), std::min(upper, table_.upper),
          kNoise<T>, kMostOfTable};
}

template <class T>
const Pieces<T>* Embedding<T>::pieces() const {
  if (!lazy_) return nullptr;
  std::call_once(lazy_->once, [&] {
    const Sampled functions = sampled(lazy_->lower, lazy_->upper);
    auto pieces = Pieces<T>::fit(functions);
    if (pieces && (network_ || agree(*this, *pieces, functions))) lazy_->pieces = std::move(pieces);
  });
  return lazy_->pieces.get();
}

template <class T>
void Embedding<T>::prepare(int64_t n, const T* s, int64_t stride, EmbeddingState<T>& state) const {
  const Pieces<T>* found = pieces();
  state.has_pieces = found != nullptr;
  if (found) {
    const auto view = found->view();
    state.all_inside = Kernels<T>::get().pieces_places(&view, n, s, stride, sized(state.piece, n),
                                                       sized(state.piece_place, n)) != 0;
    if (state.all_inside) return;
  }
  prepare_exactly(n, s, stride, state);
}

template <class T>
void Embedding<T>::prepare_exactly(int64_t n, const T* s, int64_t stride,
                                   EmbeddingState<T>& state) const {
  if (!network_) {
    Kernels<T>::get().table_places(&table_, n, s, stride, sized(state.row, n),
                                   sized(state.place, n), sized(state.beyond, n));
    return;
  }
  T* input = sized(state.s, n);
  for (int64_t k = 0; k < n; ++k) input[k] = s[k * stride];
  network_->jets(n, input, state.tape, sized(state.g, n * ld_), sized(state.dg, n * ld_));
}

template <class T>
void Embedding<T>::contract(int64_t first, int64_t last, const T* r, T* sums, int64_t lds,
                            const EmbeddingState<T>& state) const {
  const auto& k = Kernels<T>::get();
  const int64_t n = last - first;
  r += DEEPMD_ROW * first;
  if (state.in_pieces(first, last)) {
    const auto view = lazy_->pieces->view();
    k.pieces_contract(&view, n, state.piece.data() + first, state.piece_place.data() + first, r,
                      sums, lds);
  } else if (network_) {
    k.jet_contract(n, width_, state.g.data() + first * ld_, ld_, r, sums, lds);
  } else {
    k.table_contract(&table_, n, state.row.data() + first, state.place.data() + first,
                     state.beyond.data() + first, r, sums, lds);
  }
}

template <class T>
void Embedding<T>::contract_backward(int64_t first, int64_t last, const T* r, const T* sums_bar,
                                     int64_t lds, T* r_bar, T* s_bar,
                                     const EmbeddingState<T>& state) const {
  const auto& k = Kernels<T>::get();
  const int64_t n = last - first;
  r += DEEPMD_ROW * first;
  r_bar += DEEPMD_ROW * first;
  s_bar = s_bar ? s_bar + first : nullptr;
  if (state.in_pieces(first, last)) {
    const auto view = lazy_->pieces->view();
    k.pieces_contract_backward(&view, n, state.piece.data() + first,
                               state.piece_place.data() + first, r, sums_bar, lds, r_bar, s_bar);
  } else if (network_) {
    k.jet_contract_backward(n, width_, state.g.data() + first * ld_, state.dg.data() + first * ld_,
                            ld_, r, sums_bar, lds, r_bar, s_bar);
  } else {
    k.table_contract_backward(&table_, n, state.row.data() + first, state.place.data() + first,
                              state.beyond.data() + first, r, sums_bar, lds, r_bar, s_bar);
  }
}

template <class T>
void Embedding<T>::add_up(int64_t first, int64_t last, T* sums,
                          const EmbeddingState<T>& state) const {
  const auto& k = Kernels<T>::get();
  if (network_) {
    k.jet_sum(last - first, width_, state.g.data() + first * ld_, ld_, sums);
  } else {
    k.table_sum(&table_, last - first, state.row.data() + first, state.place.data() + first,
                state.beyond.data() + first, sums);
  }
}

template <class T>
void Embedding<T>::add_up_backward(int64_t first, int64_t last, const T* sums_bar, T* s_bar,
                                   int64_t stride, const EmbeddingState<T>& state) const {
  const auto& k = Kernels<T>::get();
  s_bar += stride * first;
  if (network_) {
    k.jet_sum_backward(last - first, width_, state.dg.data() + first * ld_, ld_, sums_bar, s_bar,
                       stride);
  } else {
    k.table_sum_backward(&table_, last - first, state.row.data() + first,
                         state.place.data() + first, state.beyond.data() + first, sums_bar, s_bar,
                         stride);
  }
}

template <class T>
std::vector<double> Embedding<T>::at(double s) const {
  const T x = static_cast<T>(s);
  EmbeddingState<T> state;
  prepare_exactly(1, &x, 1, state);
  std::vector<T> sums(static_cast<size_t>(ld_), T(0));
  add_up(0, 1, sums.data(), state);
  return {sums.begin(), sums.begin() + width_};
}

template class Embedding<double>;
template class Embedding<float>;

}  // namespace deepmd::native
