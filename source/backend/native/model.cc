// SPDX-License-Identifier: LGPL-3.0-or-later
#include "model.h"

#include <algorithm>

namespace deepmd::native {

namespace {

/** A descriptor of another precision than the fitting. */
template <class T, class U>
class Converted : public Descriptor<T> {
  struct State : DescriptorState {
    std::unique_ptr<DescriptorState> inner;
    std::vector<U> d, rotation;
  };

 public:
  explicit Converted(std::unique_ptr<Descriptor<U>> inner) : inner_(std::move(inner)) {}

  Reach reach() const override { return inner_->reach(); }
  int64_t width() const override { return inner_->width(); }
  int64_t rotation_width() const override { return inner_->rotation_width(); }
  int64_t block() const override { return inner_->block(); }
  std::unique_ptr<DescriptorState> state() const override {
    auto state = std::make_unique<State>();
    state->inner = inner_->state();
    return state;
  }

  void forward(const Block& block, T* d, int64_t ldd, T* rotation,
               DescriptorState& state) const override {
    auto& s = static_cast<State&>(state);
    const int64_t w = width(), turned = block.n * rotation_width() * 3;
    U* from = sized(s.d, block.n * w);
    U* turned_from = rotation ? sized(s.rotation, turned) : nullptr;
    inner_->forward(block, from, w, turned_from, *s.inner);
    for (int64_t c = 0; c < block.n; ++c) {
      for (int64_t k = 0; k < w; ++k) d[c * ldd + k] = static_cast<T>(from[c * w + k]);
    }
    if (rotation) std::copy(turned_from, turned_from + turned, rotation);
  }

  void backward(const Block& block, const T* d_bar, int64_t ldd, const T* rotation_bar,
                double* gradient, int64_t stride, DescriptorState& state) const override {
    auto& s = static_cast<State&>(state);
    const int64_t w = width(), turned = block.n * rotation_width() * 3;
    U* to = sized(s.d, block.n * w);
    for (int64_t c = 0; c < block.n; ++c) {
      for (int64_t k = 0; k < w; ++k) to[c * w + k] = static_cast<U>(d_bar[c * ldd + k]);
    }
    U* turned_to = rotation_bar ? sized(s.rotation, turned) : nullptr;
    for (int64_t k = 0; rotation_bar && k < turned; ++k) {
      turned_to[k] = static_cast<U>(rotation_bar[k]);
    }
    inner_->backward(block, to, w, turned_to, gradient, stride, *s.inner);
  }

 private:
  std::unique_ptr<Descriptor<U>> inner_;
};

template <class T>
std::unique_ptr<Descriptor<T>> descriptor_as(const Node& node, Packings& packings) {
  using Other = std::conditional_t<std::is_same_v<T, double>, float, double>;
  if (is_single(node) == std::is_same_v<T, float>) return read_descriptor<T>(node, packings);
  return std::make_unique<Converted<T, Other>>(read_descriptor<Other>(node, packings));
}

/** Descriptor and fitting; T is the precision of the fitting. */
template <class T>
class Standard : public AtomicModel {
  struct State : Work {
    std::unique_ptr<DescriptorState> descriptor;
    FittingState<T> fitting;
    std::vector<std::vector<int64_t>> centers;
    std::vector<T> x, x_bar, rotation, rotation_bar;
    std::vector<double> values;
  };

 public:
  Standard(const Node& node, Packings& packings)
      : AtomicModel(node, packings),
        descriptor_(descriptor_as<T>(node["descriptor"], packings)),
        fitting_(node["fitting"], node, ntypes(), descriptor_->width(),
                 descriptor_->rotation_width()),
        single_(is_single(node["descriptor"]) || is_single(node["fitting"])) {}

  Reach reach() const override { return descriptor_->reach(); }
  OutputFacts output() const override { return fitting_.output(); }
  nlohmann::json inputs() const override { return fitting_.inputs(); }
  std::vector<int64_t> selected_types() const override { return fitting_.selected_types(); }
  bool single_precision() const override { return single_; }
  std::unique_ptr<Work> work() const override {
    auto work = std::make_unique<State>();
    work->descriptor = descriptor_->state();
    return work;
  }

  void evaluate(const Chunk& chunk, double* values, double* gradient, Work& work) const override {
    auto& s = static_cast<State&>(work);
    s.centers.assign(static_cast<size_t>(ntypes()), {});
    for (int64_t a = 0; a < chunk.n_atoms; ++a) s.centers[chunk.atype[a]].push_back(a);
    const int64_t size = fitting_.output().size, most = descriptor_->block();
    for (int64_t t = 0; t < ntypes(); ++t) {
      const std::vector<int64_t>& all = s.centers[t];
      const auto n = static_cast<int64_t>(all.size());
      if (hidden(t)) {
        for (const int64_t a : all) std::fill_n(values + a * size, size, 0.0);
        continue;
      }
      const int64_t parts = (n + most - 1) / most;
      for (int64_t k = 0; k < parts; ++k) {
        const int64_t first = k * n / parts, last = (k + 1) * n / parts;
        run({chunk, t, all.data() + first, last - first}, values, gradient, s);
      }
    }
  }

 private:
  void run(const Block& block, double* values, double* gradient, State& s) const {
    const int64_t ld = fitting_.row(), size = fitting_.output().size;
    const bool turned = fitting_.needs_rotation();
    const int64_t rotation_size = block.n * descriptor_->rotation_width() * 3;
    T* x = sized(s.x, block.n * ld);
    T* rotation = turned ? sized(s.rotation, rotation_size) : nullptr;
    descriptor_->forward(block, x, ld, rotation, *s.descriptor);
    double* found = sized(s.values, block.n * size);
    fitting_.forward(block, x, rotation, found, gradient != nullptr, s.fitting);
    for (int64_t c = 0; c < block.n; ++c) {
      std::copy_n(found + c * size, size, values + block.centers[c] * size);
    }
    if (!gradient || !fitting_.predicts(block.type)) return;
    T* x_bar = sized(s.x_bar, block.n * ld);
    T* rotation_bar = turned ? sized(s.rotation_bar, rotation_size) : nullptr;
    for (int64_t k = 0; k < size; ++k) {
      fitting_.backward(block, k, x_bar, rotation_bar, s.fitting);
      descriptor_->backward(block, x_bar, ld, rotation_bar, gradient + 3 * k, 3 * size,
                            *s.descriptor);
    }
  }

  std::unique_ptr<Descriptor<T>> descriptor_;
  Fitting<T> fitting_;
  bool single_;
};

}  // namespace

AtomicModel::AtomicModel(const Node& node, Packings& packings)
    : type_map_(node.get<std::vector<std::string>>("type_map")) {
  if (type_map_.empty() || ntypes() != packings.ntypes()) node.fail("has no types");
  hidden_.assign(type_map_.size(), 0);
  for (const int64_t t : node.get<std::vector<int64_t>>("atom_exclude_types", {})) {
    if (t >= 0 && t < ntypes()) hidden_[t] = 1;
  }
}

std::vector<std::vector<int64_t>> excluded_pairs(const Node& model) {
  return model.get<std::vector<std::vector<int64_t>>>("pair_exclude_types", {});
}

size_t Packings::add(const char* layout, double rcut, const std::vector<int64_t>& sel,
                     const std::vector<std::vector<int64_t>>& exclude) {
  std::vector<std::vector<int64_t>> pairs = exclude;
  pairs.insert(pairs.end(), exclude_.begin(), exclude_.end());
  const nlohmann::json wish = {{"layout", layout}, {"ntypes", ntypes_},  {"rcut", rcut},
                               {"sel", sel},       {"by_centre", false}, {"exclude", pairs},
                               {"nearest", 0},     {"edge_rcut", 0.0},   {"edge_sel", 0}};
  for (size_t k = 0; k < json_.size(); ++k) {
    if (json_[k] == wish) return first_[k];
  }
  json_.push_back(wish);
  first_.push_back(slots_);
  slots_ += std::string(layout) == "typed" ? static_cast<size_t>(ntypes_) : 1;
  return first_.back();
}

std::unique_ptr<AtomicModel> read_model(const Node& node, Packings& packings) {
  const auto type = node.get<std::string>("type");
  if (type == "standard") {
    if (is_single(node["fitting"])) return std::make_unique<Standard<float>>(node, packings);
    return std::make_unique<Standard<double>>(node, packings);
  }
  node.unknown("the model \"" + type + "\"");
}

}  // namespace deepmd::native
