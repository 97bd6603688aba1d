// SPDX-License-Identifier: LGPL-3.0-or-later
#include "fitting.h"

#include <algorithm>

namespace deepmd::native {

namespace {

/** (ntypes, size) of the first output in statistics (outputs, ntypes, largest size). */
std::vector<double> per_type(const Node& model, const char* name, int64_t ntypes, int64_t size) {
  const Array& array = model["@variables"][name].array();
  if (array.shape.size() != 3 || array.shape[0] < 1 || array.shape[1] != ntypes ||
      array.shape[2] < size) {
    model.fail(std::string("has another shape of ") + name);
  }
  const std::vector<double> all = model["@variables"][name].values();
  std::vector<double> found;
  for (int64_t t = 0; t < ntypes; ++t) {
    const auto first = all.begin() + t * array.shape[2];
    found.insert(found.end(), first, first + size);
  }
  return found;
}

}  // namespace

template <class T>
Fitting<T>::Fitting(const Node& node, const Node& model, int64_t ntypes, int64_t width,
                    int64_t rotation_width, const Folded& folded)
    : ntypes_(ntypes), width_(width), ng_(rotation_width) {
  const auto type = node.text("type");
  output_.name = node.text("var_name", type == "ener" ? "energy" : type);
  mixed_ = node.flag("mixed_types", false);
  numb_fparam_ = node.integer("numb_fparam", 0);
  numb_aparam_ = node.integer("numb_aparam", 0);
  aparam_is_mask_ = node.flag("use_aparam_as_mask", false);
  case_width_ = node.integer("dim_case_embd", 0);
  if (node.has("default_fparam")) default_fparam_ = node.numbers("default_fparam");
  n_in_ = width + numb_fparam_ + (aparam_is_mask_ ? 0 : numb_aparam_) + case_width_;

  const Node networks = node["nets"]["networks"];
  const int64_t count = mixed_ ? 1 : ntypes;
  if (static_cast<int64_t>(networks.size()) < count) node.fail("has too few networks");
  excluded_.assign(static_cast<size_t>(ntypes), 0);
  if (node.has("exclude_types")) {
    for (const int64_t t : node.integers("exclude_types")) {
      if (t >= 0 && t < ntypes) excluded_[t] = 1;
    }
  }
  const Node* first = nullptr;
  std::vector<Node> present;
  for (int64_t t = 0; t < count; ++t) present.push_back(networks[static_cast<size_t>(t)]);
  for (const Node& one : present) {
    if (!one.is_null() && !first) first = &one;
  }
  if (!first) node.fail("has no networks");
  for (int64_t t = 0; t < count; ++t) {
    // TensorFlow has no networks for types that are not predicted.
    if (present[t].is_null()) excluded_[t] = 1;
    networks_.emplace_back(present[t].is_null() ? *first : present[t], folded);
    if (networks_.back().n_in() != n_in_) node.fail("has networks of another input width");
    if (networks_.back().n_out() != networks_.front().n_out()) node.fail("has several widths");
  }
  net_out_ = networks_.front().n_out();
  output_.size = net_out_;
  if (type == "ener" || type == "invar" || type == "dos") {
    output_.differentiable = type != "dos";
  } else if (type == "property") {
    kind_ = Kind::property;
    output_.intensive = node.flag("intensive", false);
  } else if (type == "dipole" || type == "polar") {
    kind_ = type == "dipole" ? Kind::dipole : Kind::polar;
    read_tensor(node);
  } else {
    node.unknown("the fitting \"" + type + "\"");
  }
  vacuum_.assign(static_cast<size_t>(ntypes), 0);
  if (!needs_rotation()) {
    const std::vector<char> given = node.given("atom_ener");
    const bool any = std::count(given.begin(), given.end(), 1) > 0;
    for (size_t t = 0; any && t < vacuum_.size(); ++t) {
      vacuum_[t] = mixed_ || (t < given.size() && given[t] != 0) ? 1 : 0;
    }
  }
  read_statistics(node, model);
}

template <class T>
bool Fitting<T>::may_fold(const Node& node) {
  const Node networks = node["nets"]["networks"];
  for (size_t k = 0; k < networks.size(); ++k) {
    if (!networks[k].is_null() && Network<T>::adds_input(networks[k])) return false;
  }
  return true;
}

template <class T>
void Fitting<T>::read_tensor(const Node& node) {
  if (ng_ == 0) node.fail("needs a descriptor with an equivariant part");
  const bool dipole = kind_ == Kind::dipole;
  output_.size = dipole ? 3 : 9;
  output_.differentiable = dipole && node.flag("r_differentiable", true);
  fit_diag_ = dipole || node.flag("fit_diag", true);
  shift_diag_ = node.flag("shift_diag", true);
  if (net_out_ != (fit_diag_ ? ng_ : ng_ * ng_)) node.fail("has another width than the descriptor");
}

template <class T>
void Fitting<T>::read_statistics(const Node& node, const Node& model) {
  bias_ = node.variable("bias_atom_e");
  if (bias_.empty()) bias_.assign(static_cast<size_t>(ntypes_ * net_out_), 0.0);
  if (static_cast<int64_t>(bias_.size()) != ntypes_ * net_out_) {
    node.fail("has a bias_atom_e of another size");
  }
  const auto parameters = [&](const char* name, int64_t count) {
    return count > 0 ? node.variable(name, static_cast<size_t>(count)) : std::vector<double>{};
  };
  fparam_avg_ = parameters("fparam_avg", numb_fparam_);
  fparam_inv_std_ = parameters("fparam_inv_std", numb_fparam_);
  aparam_avg_ = parameters("aparam_avg", numb_aparam_);
  aparam_inv_std_ = parameters("aparam_inv_std", numb_aparam_);
  case_ = parameters("case_embd", case_width_);
  if (kind_ == Kind::dipole) return;
  out_bias_ = per_type(model, "out_bias", ntypes_, output_.size);
  out_std_.assign(out_bias_.size(), 1.0);
  if (kind_ == Kind::property) {
    out_std_ = per_type(model, "out_std", ntypes_, output_.size);
    if (!node.flag("distinguish_types", true)) {
      for (int64_t k = output_.size; k < ntypes_ * output_.size; ++k) {
        out_std_[k] = out_std_[k - output_.size];
        out_bias_[k] = out_bias_[k - output_.size];
      }
    }
  }
  if (kind_ != Kind::polar) return;
  scale_ = node.variable("scale", static_cast<size_t>(ntypes_));
  const std::vector<double> constant =
      node.variable("constant_matrix", static_cast<size_t>(ntypes_));
  for (int64_t t = 0; t < ntypes_; ++t) {
    const double* b = out_bias_.data() + 9 * t;
    const double mean = (b[0] + b[4] + b[8]) / 3.0;
    shift_.push_back(shift_diag_ ? scale_[t] * (constant[t] + mean) : 0.0);
  }
  out_bias_.assign(out_bias_.size(), 0.0);
}

template <class T>
std::vector<InputFacts> Fitting<T>::inputs() const {
  std::vector<InputFacts> found;
  if (numb_fparam_ > 0) found.push_back({"fparam", false, numb_fparam_, default_fparam_});
  if (numb_aparam_ > 0) found.push_back({"aparam", true, numb_aparam_, {}});
  return found;
}

template <class T>
std::vector<int64_t> Fitting<T>::selected_types() const {
  std::vector<int64_t> found;
  for (int64_t t = 0; needs_rotation() && t < ntypes_; ++t) {
    if (!excluded_[t]) found.push_back(t);
  }
  return found;
}

template <class T>
void Fitting<T>::fill_inputs(const Block& block, T* x) const {
  const Chunk& chunk = block.chunk;
  for (int64_t c = 0; c < block.n && n_in_ > width_; ++c) {
    T* to = x + c * row() + width_;
    const int64_t atom = block.centers[c];
    if (numb_fparam_ > 0) {
      const double* given = chunk.inputs.at("fparam") + chunk.frame[atom] * numb_fparam_;
      for (int64_t k = 0; k < numb_fparam_; ++k) {
        *to++ = static_cast<T>((given[k] - fparam_avg_[k]) * fparam_inv_std_[k]);
      }
    }
    if (numb_aparam_ > 0 && !aparam_is_mask_) {
      const double* given = chunk.inputs.at("aparam") + atom * numb_aparam_;
      for (int64_t k = 0; k < numb_aparam_; ++k) {
        *to++ = static_cast<T>((given[k] - aparam_avg_[k]) * aparam_inv_std_[k]);
      }
    }
    for (const double one : case_) *to++ = static_cast<T>(one);
  }
}

template <class T>
void Fitting<T>::subtract_vacuum(const Block& block, const T* x, FittingState<T>& state) const {
  state.empty.assign(x, x + block.n * row());
  for (int64_t c = 0; c < block.n; ++c) {
    std::fill_n(state.empty.begin() + c * row(), width_, T(0));
  }
  const Network<T>& net = network(block.type);
  const T* lonely = net.forward(block.n, state.empty.data(), row(), state.vacuum, false);
  for (int64_t k = 0; k < block.n * net.ld(); ++k) state.y[k] -= lonely[k];
}

template <class T>
void Fitting<T>::forward(const Block& block, T* x, const T* rotation, double* values, bool slopes,
                         FittingState<T>& state) const {
  const Network<T>& net = network(block.type);
  fill_inputs(block, x);
  const T* y = net.forward(block.n, x, row(), state.tape, slopes);
  state.y.assign(y, y + block.n * net.ld());
  if (vacuum_[block.type]) subtract_vacuum(block, x, state);
  if (needs_rotation()) {
    for (int64_t c = 0; c < block.n; ++c) {
      for (int64_t m = 0; m < net_out_; ++m) {
        state.y[c * net.ld() + m] += static_cast<T>(bias_[block.type * net_out_ + m]);
      }
    }
    state.rotation.assign(rotation, rotation + block.n * ng_ * 3);
  }
  for (int64_t c = 0; c < block.n; ++c) {
    finish(block, state.y.data() + c * net.ld(),
           needs_rotation() ? rotation + c * ng_ * 3 : nullptr, values + c * output_.size);
  }
}

template <class T>
int64_t Fitting<T>::last_layer() const {
  const auto& layers = networks_.front().layers();
  return layers.size() < 2 || output_.name != "energy" || output_.size != 1 ? 0
                                                                            : layers.back().n_in();
}

template <class T>
void Fitting<T>::copy_last_layer(const Block& block, const FittingState<T>& state,
                                 double* all) const {
  const auto& layers = network(block.type).layers();
  const std::vector<T>& rows = state.tape.y[layers.size() - 2];
  const int64_t width = layers.back().n_in(), ld = layers[layers.size() - 2].ld();
  for (int64_t c = 0; c < block.n; ++c) {
    std::copy_n(rows.begin() + c * ld, width, all + block.centers[c] * width);
  }
}

template <class T>
void Fitting<T>::finish(const Block& block, const T* y, const T* rotation, double* values) const {
  const int64_t t = block.type, size = output_.size;
  if (excluded_[t]) {
    std::fill_n(values, size, 0.0);
  } else if (kind_ == Kind::polar) {
    polar(t, y, rotation, values);
  } else if (kind_ == Kind::dipole) {
    for (int64_t a = 0; a < 3; ++a) {
      values[a] = 0.0;
      for (int64_t m = 0; m < ng_; ++m) values[a] += double{y[m]} * rotation[3 * m + a];
    }
  } else {
    for (int64_t k = 0; k < size; ++k) values[k] = y[k] + bias_[t * size + k];
  }
  if (kind_ == Kind::dipole) return;
  for (int64_t k = 0; k < size; ++k) {
    values[k] = values[k] * out_std_[t * size + k] + out_bias_[t * size + k];
  }
}

template <class T>
void Fitting<T>::polar(int64_t type, const T* y, const T* rotation, double* value) const {
  for (int64_t a = 0; a < 3; ++a) {
    for (int64_t b = 0; b < 3; ++b) {
      double total = 0.0;
      for (int64_t m = 0; m < ng_; ++m) {
        if (fit_diag_) {
          total += double{y[m]} * rotation[3 * m + a] * rotation[3 * m + b];
          continue;
        }
        for (int64_t n = 0; n < ng_; ++n) {
          const double both = 0.5 * (double{y[m * ng_ + n]} + double{y[n * ng_ + m]});
          total += both * rotation[3 * m + a] * rotation[3 * n + b];
        }
      }
      value[3 * a + b] = scale_[type] * total + (a == b ? shift_[type] : 0.0);
    }
  }
}

template <class T>
void Fitting<T>::backward(const Block& block, const double* cotangents, T* x_bar, T* rotation_bar,
                          FittingState<T>& state) const {
  const Network<T>& net = network(block.type);
  const int64_t ld = net.ld();
  state.y_bar.assign(static_cast<size_t>(block.n * ld), T(0));
  for (int64_t c = 0; c < block.n; ++c) {
    T* y_bar = state.y_bar.data() + c * ld;
    const double* seed = cotangents + c * output_.size;
    if (kind_ != Kind::dipole) {
      for (int64_t k = 0; k < output_.size; ++k) {
        y_bar[k] = static_cast<T>(seed[k] * out_std_[block.type * output_.size + k]);
      }
      continue;
    }
    for (int64_t m = 0; m < ng_; ++m) {
      const T* row = state.rotation.data() + (c * ng_ + m) * 3;
      for (int64_t a = 0; a < 3; ++a) {
        y_bar[m] += static_cast<T>(seed[a]) * row[a];
        rotation_bar[(c * ng_ + m) * 3 + a] = static_cast<T>(seed[a]) * state.y[c * ld + m];
      }
    }
  }
  net.backward(block.n, state.y_bar.data(), state.tape, x_bar, row());
}

template class Fitting<double>;
template class Fitting<float>;

}  // namespace deepmd::native
