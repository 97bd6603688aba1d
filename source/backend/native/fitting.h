// SPDX-License-Identifier: LGPL-3.0-or-later
/** Fittings: from the descriptor of an atom to its share of a quantity (deepmd/dpmodel/fitting). */
#pragma once

#include <string>
#include <vector>

#include "chunk.h"

namespace deepmd::native {

/** One quantity that a model predicts for every atom. */
struct OutputFacts {
  std::string name;
  int64_t size = 1;
  bool differentiable = false, intensive = false;
};

/** One input beside positions and types. */
struct InputFacts {
  std::string name;
  bool per_atom = false;
  int64_t size = 0;
  std::vector<double> default_value;  ///< empty: required
};

template <class T>
struct FittingState {
  Tape<T> tape, vacuum;
  std::vector<T> y, y_bar, empty;
  std::vector<T> rotation;
};

template <class T>
class Fitting {
 public:
  /**
   * `model` has the statistics that are applied; `width` numbers of the
   * descriptor are left after those that are `folded`.
   */
  Fitting(const Node& node, const Node& model, int64_t ntypes, int64_t width,
          int64_t rotation_width, const Folded& folded);
  /** Whether the networks of a fitting take inputs that are folded. */
  static bool may_fold(const Node& node);

  const OutputFacts& output() const { return output_; }
  std::vector<InputFacts> inputs() const;
  std::vector<int64_t> selected_types() const;
  bool needs_rotation() const { return kind_ == Kind::dipole || kind_ == Kind::polar; }
  bool predicts(int64_t type) const { return !excluded_[type]; }

  /** Length of a row of the network's input, of which the descriptor is the first part. */
  int64_t row() const { return row_length<T>(n_in_); }

  /** Width of the last hidden layer of networks of energies; 0: there is none. */
  int64_t last_layer() const;
  /** Copy the last hidden layer to the centers' rows of all (n_atoms, width), after forward. */
  void copy_last_layer(const Block& block, const FittingState<T>& state, double* all) const;

  /** Values (n, size) of rows x (n, row()), which get the parameters here. */
  void forward(const Block& block, T* x, const T* rotation, double* values, bool slopes,
               FittingState<T>& state) const;
  /** x_bar (n, row()) and rotation_bar for cotangents (n, size) of the output. */
  void backward(const Block& block, const double* cotangents, T* x_bar, T* rotation_bar,
                FittingState<T>& state) const;

 private:
  enum class Kind { invariant, property, dipole, polar };

  void read_statistics(const Node& node, const Node& model);
  void read_tensor(const Node& node);
  void fill_inputs(const Block& block, T* x) const;
  void subtract_vacuum(const Block& block, const T* x, FittingState<T>& state) const;
  void finish(const Block& block, const T* y, const T* rotation, double* values) const;
  void polar(int64_t type, const T* y, const T* rotation, double* value) const;
  const Network<T>& network(int64_t type) const { return networks_[mixed_ ? 0 : type]; }

  Kind kind_ = Kind::invariant;
  OutputFacts output_;
  int64_t ntypes_, width_, ng_, n_in_ = 0, net_out_ = 0, case_width_ = 0;
  int64_t numb_fparam_ = 0, numb_aparam_ = 0;
  bool mixed_ = false, aparam_is_mask_ = false, fit_diag_ = true, shift_diag_ = true;
  std::vector<char> excluded_, vacuum_;
  std::vector<Network<T>> networks_;
  std::vector<double> default_fparam_;
  std::vector<double> bias_;                ///< (ntypes, net_out)
  std::vector<double> out_bias_, out_std_;  ///< (ntypes, size)
  std::vector<double> fparam_avg_, fparam_inv_std_, aparam_avg_, aparam_inv_std_, case_;
  std::vector<double> scale_, shift_;  ///< (ntypes), of polar
};

extern template class Fitting<double>;
extern template class Fitting<float>;

}  // namespace deepmd::native
