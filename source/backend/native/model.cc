// SPDX-License-Identifier: LGPL-3.0-or-later
#include "model.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "converted.h"
#include "sums.h"

namespace deepmd::native {

namespace {

/** Atoms whose rows are multiplied together: blocks are multiples of it. */
constexpr int64_t kRows = 12;

/** Whether a descriptor, or a member of it, is in single precision. */
bool has_single(const Node& node) {
  if (!node.has("list")) return is_single(node);
  const Node members = node["list"];
  for (size_t k = 0; k < members.size(); ++k) {
    if (has_single(members[k])) return true;
  }
  return false;
}

/** Descriptor and fitting; T is the precision of the fitting. */
template <class T>
class Standard : public AtomicModel {
  struct State : Work {
    std::unique_ptr<DescriptorState> descriptor;
    FittingState<T> fitting;
    std::vector<std::vector<int64_t>> centers;
    std::vector<T> x, x_bar, rotation, rotation_bar;
    std::vector<double> values, seeds;
  };

 public:
  Standard(const Node& node, Packings& packings)
      : AtomicModel(node, packings),
        descriptor_(descriptor_as<T>(node["descriptor"], packings)),
        folded_(Fitting<T>::may_fold(node["fitting"]) ? descriptor_->fold() : Folded{}),
        fitting_(node["fitting"], node, ntypes(), descriptor_->width(),
                 descriptor_->rotation_width(), folded_),
        single_(has_single(node["descriptor"]) || is_single(node["fitting"])) {}

  Reach reach() const override { return descriptor_->reach(); }
  OutputFacts output() const override { return fitting_.output(); }
  std::vector<InputFacts> inputs() const override { return fitting_.inputs(); }
  std::vector<int64_t> selected_types() const override { return fitting_.selected_types(); }
  bool single_precision() const override { return single_; }
  bool takes_cotangents() const override { return true; }
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
        const int64_t first = k * n / parts / kRows * kRows;
        const int64_t last = k + 1 < parts ? (k + 1) * n / parts / kRows * kRows : n;
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
    const double* cotangent = block.chunk.cotangent;
    const int64_t passes = cotangent ? 1 : size;
    for (int64_t k = 0; k < passes; ++k) {
      s.seeds.assign(static_cast<size_t>(block.n * size), 0.0);
      for (int64_t c = 0; c < block.n; ++c) {
        double* seeds = s.seeds.data() + c * size;
        if (cotangent) {
          std::copy_n(cotangent + block.centers[c] * size, size, seeds);
        } else {
          seeds[k] = 1.0;
        }
      }
      fitting_.backward(block, s.seeds.data(), x_bar, rotation_bar, s.fitting);
      descriptor_->backward(block, x_bar, ld, rotation_bar, gradient + 3 * k, 3 * passes,
                            *s.descriptor);
    }
  }

  std::unique_ptr<Descriptor<T>> descriptor_;
  Folded folded_;
  Fitting<T> fitting_;
  bool single_;
};

}  // namespace

AtomicModel::AtomicModel(const Node& node, Packings& packings) : type_map_(node.texts("type_map")) {
  if (type_map_.empty() || ntypes() != packings.ntypes()) node.fail("has no types");
  hidden_.assign(type_map_.size(), 0);
  if (!node.has("atom_exclude_types")) return;
  for (const int64_t t : node.integers("atom_exclude_types")) {
    if (t >= 0 && t < ntypes()) hidden_[t] = 1;
  }
}

std::unique_ptr<AtomicModel> read_model(const Node& node, Packings& packings) {
  const auto type = node.text("type");
  if (type == "standard") {
    if (is_single(node["fitting"])) return std::make_unique<Standard<float>>(node, packings);
    return std::make_unique<Standard<double>>(node, packings);
  }
  if (auto found = read_sum(node, type, packings)) return found;
  node.unknown("the model \"" + type + "\"");
}

}  // namespace deepmd::native
