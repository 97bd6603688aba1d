// SPDX-License-Identifier: LGPL-3.0-or-later
/** Pair tables, weighted sums of models, and their interpolation at short range. */
#include "sums.h"

#include <algorithm>
#include <cmath>

namespace deepmd::native {

namespace {

/** Bias of the first output per type. */
std::vector<double> out_bias(const Node& node, int64_t ntypes) {
  const Array& array = node["@variables"]["out_bias"].array();
  if (array.shape.size() != 3 || array.shape[1] != ntypes || array.shape[2] != 1) {
    node.fail("has another shape of out_bias");
  }
  std::vector<double> all = node["@variables"]["out_bias"].values();
  all.resize(static_cast<size_t>(ntypes));
  return all;
}

OutputFacts energy() { return {"energy", 1, true, false}; }

double length_of(const double* d) { return std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]); }

/** e_i = 1/2 sum_j u(r_ij), u cubic splines; see deepmd/dpmodel/nn/pair_table.py. */
class PairTable : public AtomicModel {
 public:
  PairTable(const Node& node, Packings& packings) : AtomicModel(node, packings) {
    const Node tab = node["tab"];
    reach_.rcut = node.number("rcut");
    reach_.mixed_types = true;
    reach_.sel = {0};
    for (const int64_t n : node.integers("sel")) reach_.sel[0] += n;
    rmin_ = tab.number("rmin");
    step_ = tab.number("hh");
    table_rcut_ = tab.number("rcut");
    intervals_ = tab.integer("nspline");
    if (intervals_ < 1 || !(step_ > 0.0) || intervals_ > (1 << 28)) tab.fail("is no table");
    splines_ = tab.variable("tab_data", static_cast<size_t>(ntypes() * ntypes() * intervals_ * 4));
    bias_ = out_bias(node, ntypes());
    slot_ = packings.add({"flat", reach_.rcut, reach_.sel, {}, 0});
  }

  Reach reach() const override { return reach_; }
  OutputFacts output() const override { return energy(); }
  std::vector<InputFacts> inputs() const override { return {}; }
  bool single_precision() const override { return false; }
  std::unique_ptr<Work> work() const override { return std::make_unique<Work>(); }

  size_t slot() const { return slot_; }
  double rcut() const { return reach_.rcut; }

  void evaluate(const Chunk& chunk, double* values, double* gradient,
                Work& /*work*/) const override {
    for (int64_t a = 0; a < chunk.n_atoms; ++a) {
      values[a] = hidden(chunk.atype[a]) ? 0.0 : bias_[chunk.atype[a]];
    }
    const Slots& edges = chunk.slots[slot_];
    for (int64_t k = 0; k < edges.rows; ++k) {
      const int64_t e = edges.data[k], i = chunk.i[e], ti = chunk.atype[i];
      if (hidden(ti)) continue;
      const double* d = chunk.vec + 3 * e;
      const double r = length_of(d);
      double slope = 0.0;
      values[i] += 0.5 * potential(r, ti, chunk.atype[chunk.j[e]], &slope);
      if (!gradient) continue;
      for (int a = 0; a < 3; ++a) gradient[3 * e + a] += 0.5 * slope * d[a] / r;
    }
  }

 private:
  double potential(double r, int64_t ti, int64_t tj, double* slope) const {
    double t = (r - rmin_) / step_;
    const double place = std::floor(t);
    if (!(place < static_cast<double>(intervals_)) || !(r < table_rcut_)) return 0.0;
    const auto interval = static_cast<int64_t>(std::max(place, 0.0));
    t -= static_cast<double>(interval);
    const double* c = splines_.data() + 4 * ((ti * ntypes() + tj) * intervals_ + interval);
    *slope = ((3.0 * c[0] * t + 2.0 * c[1]) * t + c[2]) / step_;
    return ((c[0] * t + c[1]) * t + c[2]) * t + c[3];
  }

  Reach reach_;
  double rmin_ = 0.0, step_ = 1.0, table_rcut_ = 0.0;
  int64_t intervals_ = 0;
  size_t slot_ = 0;
  std::vector<double> splines_, bias_;
};

/** e_i = sum_m c_m e_i^m + bias; types are matched by name. */
class Linear : public AtomicModel {
 protected:
  struct Member {
    std::unique_ptr<AtomicModel> model;
    std::vector<int64_t> types;  ///< its number of every type of the whole
    size_t slot = 0, slots = 0;
  };
  struct State : Work {
    std::vector<std::unique_ptr<Work>> members;
    std::vector<int64_t> atype;
    std::vector<double> values, gradient, weight, weight_slope;
    std::vector<std::vector<double>> energies, gradients;
  };

 public:
  Linear(const Node& node, Packings& packings)
      : AtomicModel(node, packings), bias_(out_bias(node, ntypes())) {
    const Node models = node["models"];
    for (size_t k = 0; k < models.size(); ++k) add(models[k], packings);
    if (members_.empty()) node.fail("has no components");
    const auto n = static_cast<double>(members_.size());
    if (node.has("weights") && node["weights"].is_list()) {
      coefficients_ = node.numbers("weights");
    } else {
      coefficients_.assign(members_.size(), node.text("weights", "mean") == "mean" ? 1.0 / n : 1.0);
    }
    if (coefficients_.size() != members_.size()) node.fail("has another number of weights");
  }

  Reach reach() const override {
    Reach all;
    all.mixed_types = true;
    all.sel = {0};
    for (const Member& m : members_) {
      const Reach one = m.model->reach();
      int64_t total = 0;
      for (const int64_t n : one.sel) total += n;
      all.rcut = std::max(all.rcut, one.rcut);
      all.sel[0] = std::max(all.sel[0], total);
    }
    return all;
  }
  OutputFacts output() const override { return energy(); }
  std::vector<InputFacts> inputs() const override {
    std::vector<InputFacts> all;
    for (const Member& m : members_) {
      for (const InputFacts& one : m.model->inputs()) {
        const bool there = std::any_of(all.begin(), all.end(),
                                       [&](const InputFacts& o) { return o.name == one.name; });
        if (!there) all.push_back(one);
      }
    }
    return all;
  }
  bool single_precision() const override {
    return std::any_of(members_.begin(), members_.end(),
                       [](const Member& m) { return m.model->single_precision(); });
  }
  std::unique_ptr<Work> work() const override {
    auto work = std::make_unique<State>();
    for (const Member& m : members_) work->members.push_back(m.model->work());
    return work;
  }

  void evaluate(const Chunk& chunk, double* values, double* gradient, Work& work) const override {
    auto& s = static_cast<State&>(work);
    s.energies.resize(members_.size());
    s.gradients.resize(members_.size());
    for (size_t k = 0; k < members_.size(); ++k) {
      s.energies[k].assign(static_cast<size_t>(chunk.n_atoms), 0.0);
      s.gradients[k].assign(static_cast<size_t>(gradient ? 3 * chunk.n_edges : 0), 0.0);
      run(members_[k], chunk, s.energies[k].data(), gradient ? s.gradients[k].data() : nullptr,
          *s.members[k], s.atype);
    }
    mix(chunk, values, gradient, s);
    for (int64_t a = 0; a < chunk.n_atoms; ++a) {
      const int64_t t = chunk.atype[a];
      values[a] = hidden(t) ? 0.0 : values[a] + bias_[t];
    }
    for (int64_t e = 0; gradient && e < chunk.n_edges; ++e) {
      if (hidden(chunk.atype[chunk.i[e]])) std::fill_n(gradient + 3 * e, 3, 0.0);
    }
  }

 protected:
  /** Weigh the energies of the members, and their gradients. */
  virtual void mix(const Chunk& chunk, double* values, double* gradient, State& s) const {
    std::fill_n(values, chunk.n_atoms, 0.0);
    for (size_t k = 0; k < members_.size(); ++k) {
      const double c = coefficients_[k];
      for (int64_t a = 0; a < chunk.n_atoms; ++a) values[a] += c * s.energies[k][a];
      for (int64_t q = 0; gradient && q < 3 * chunk.n_edges; ++q) {
        gradient[q] += c * s.gradients[k][q];
      }
    }
  }

  std::vector<Member> members_;

 private:
  void add(const Node& node, Packings& packings) {
    Packings own(static_cast<int64_t>(node["type_map"].size()), node.pairs("pair_exclude_types"));
    Member member;
    member.model = read_model(node, own);
    if (member.model->output().name != "energy") node.unknown("a component without an energy");
    const std::vector<std::string>& names = member.model->type_map();
    for (const std::string& name : type_map()) {
      const auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) node.fail("does not know the type " + name);
      member.types.push_back(found - names.begin());
    }
    member.slot = packings.merge(own, member.types);
    member.slots = own.slots();
    members_.push_back(std::move(member));
  }

  static void run(const Member& member, const Chunk& chunk, double* values, double* gradient,
                  Work& work, std::vector<int64_t>& atype) {
    Chunk mine = chunk;
    atype.resize(static_cast<size_t>(chunk.n_atoms));
    for (int64_t a = 0; a < chunk.n_atoms; ++a) atype[a] = member.types[chunk.atype[a]];
    mine.atype = atype.data();
    const auto first = chunk.slots.begin() + static_cast<std::ptrdiff_t>(member.slot);
    mine.slots.assign(first, first + static_cast<std::ptrdiff_t>(member.slots));
    member.model->evaluate(mine, values, gradient, work);
  }

  std::vector<double> coefficients_, bias_;
};

/** A network switched to a pair table at short range; see deepmd/dpmodel/atomic_model/linear.py. */
class Zbl : public Linear {
 public:
  Zbl(const Node& node, Packings& packings)
      : Linear(node, packings),
        near_(node.number("sw_rmin")),
        far_(node.number("sw_rmax")),
        decay_(node.number("smin_alpha")),
        rcut_(reach().rcut) {
    table_ =
        members_.size() == 2 ? dynamic_cast<const PairTable*>(members_[1].model.get()) : nullptr;
    if (!table_) node.fail("is made of other models than a network and a pair table");
  }

 protected:
  void mix(const Chunk& chunk, double* values, double* gradient, State& s) const override {
    const Slots& edges = chunk.slots[members_[1].slot + table_->slot()];
    const auto n = static_cast<size_t>(chunk.n_atoms);
    // Sums of the weights of the soft minimum, and of the distances times these.
    std::vector<double>&total = s.values, &sum = s.gradient;
    total.assign(n, 0.0);
    sum.assign(n, 0.0);
    for (int64_t k = 0; k < edges.rows; ++k) {
      const int64_t e = edges.data[k];
      const double r = length_of(chunk.vec + 3 * e);
      const double weight = r < rcut_ ? std::exp(-r / decay_) : 0.0;
      total[chunk.i[e]] += weight;
      sum[chunk.i[e]] += r * weight;
    }
    s.weight.assign(n, 0.0);
    s.weight_slope.assign(n, 0.0);
    for (size_t a = 0; a < n; ++a) {
      if (total[a] == 0.0) continue;
      const double x = (sum[a] / total[a] - near_) / (far_ - near_);
      const double u = std::clamp(x, 0.0, 1.0);
      s.weight[a] = u * u * u * (u * (-6.0 * u + 15.0) - 10.0) + 1.0;
      s.weight_slope[a] = u * u * (u * (-30.0 * u + 60.0) - 30.0) / (far_ - near_);
    }
    for (size_t a = 0; a < n; ++a) {
      values[a] = (1.0 - s.weight[a]) * s.energies[0][a] + s.weight[a] * s.energies[1][a];
    }
    if (!gradient) return;
    for (int64_t e = 0; e < chunk.n_edges; ++e) {
      const double w = s.weight[chunk.i[e]];
      for (int64_t q = 3 * e; q < 3 * e + 3; ++q) {
        gradient[q] += (1.0 - w) * s.gradients[0][q] + w * s.gradients[1][q];
      }
    }
    for (int64_t k = 0; k < edges.rows; ++k) {
      const int64_t e = edges.data[k], i = chunk.i[e];
      const double* d = chunk.vec + 3 * e;
      const double r = length_of(d);
      if (total[i] == 0.0 || !(r < rcut_)) continue;
      const double weight = std::exp(-r / decay_), least = sum[i] / total[i];
      const double slope = weight / total[i] * (1.0 - (r - least) / decay_);
      const double factor = (s.energies[1][i] - s.energies[0][i]) * s.weight_slope[i] * slope / r;
      for (int a = 0; a < 3; ++a) gradient[3 * e + a] += factor * d[a];
    }
  }

 private:
  double near_, far_, decay_, rcut_;
  const PairTable* table_;
};

}  // namespace

std::unique_ptr<AtomicModel> read_sum(const Node& node, const std::string& type,
                                      Packings& packings) {
  if (type == "pairtab") return std::make_unique<PairTable>(node, packings);
  if (type == "linear" || type == "linear_ener") return std::make_unique<Linear>(node, packings);
  if (type == "zbl") return std::make_unique<Zbl>(node, packings);
  return nullptr;
}

}  // namespace deepmd::native
