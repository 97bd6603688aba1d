// SPDX-License-Identifier: LGPL-3.0-or-later
#include "traced_model.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "interpreter.h"

namespace deepmd::native {

namespace {

using traced::Given;
using traced::Interpreter;
using traced::Operations;

constexpr const char* kGradient = "gradient";

class TracedModel : public AtomicModel {
  struct State : Work {
    traced::Memory memory;
    std::vector<double> weight;
  };

 public:
  TracedModel(const Node& stored, const Node& whole, const Node& atomic, Packings& packings)
      : AtomicModel(atomic, packings) {
    read_facts(stored["metadata"]);
    auto operations = std::make_shared<const Operations>(stored, whole);
    check(stored, *operations);
    std::vector<std::string> wanted = {output_.name};
    values_ = std::make_unique<Interpreter>(operations, wanted);
    if (output_.differentiable) wanted.emplace_back(kGradient);
    all_ = std::make_unique<Interpreter>(operations, wanted);
  }

  Reach reach() const override { return reach_; }
  OutputFacts output() const override { return output_; }
  std::vector<InputFacts> inputs() const override { return inputs_; }
  std::vector<int64_t> selected_types() const override { return selected_; }
  bool single_precision() const override { return single_; }
  bool takes_cotangents() const override { return true; }
  bool exchanges() const override {
    return values_->exchange_plan().obstacle().empty() && all_->exchange_plan().obstacle().empty();
  }
  std::unique_ptr<Work> work() const override { return std::make_unique<State>(); }

  void evaluate(const Chunk& chunk, double* values, double* gradient, Work& work) const override {
    auto& state = static_cast<State&>(work);
    const int64_t size = output_.size, n = chunk.n_atoms;
    const int64_t passes = gradient && !chunk.cotangent ? size : 1;
    for (int64_t k = 0; k < passes; ++k) {
      const double* weight = chunk.cotangent;
      if (!weight) {
        state.weight.assign(static_cast<size_t>(n * size), 0.0);
        for (int64_t a = 0; a < n; ++a) state.weight[a * size + k] = 1.0;
        weight = state.weight.data();
      }
      const Interpreter& interpreter = gradient ? *all_ : *values_;
      const auto found = interpreter.run(given(chunk, weight), chunk.threads, state.memory,
                                         {chunk.exchange, chunk.n_owned});
      if (k == 0) copy(found[0], n * size, values);
      if (!gradient) continue;
      const auto* rows = found[1].as<double>();
      const int64_t width = chunk.cotangent ? 1 : size;
      for (int64_t e = 0; e < chunk.n_edges; ++e) {
        std::copy_n(rows + 3 * e, 3, gradient + (e * width + k) * 3);
      }
    }
  }

 private:
  void read_facts(const Node& metadata) {
    reach_.rcut = metadata.number("rcut");
    reach_.sel = metadata.integers("sel");
    reach_.mixed_types = metadata.flag("mixed_types", true);
    single_ = metadata.text("precision", "float64") != "float64";
    selected_ = metadata.integers("selected_types");
    const Node outputs = metadata["outputs"], inputs = metadata["inputs"];
    if (outputs.size() != 1) outputs.unknown("a program with several outputs");
    output_ = {outputs[0].text("name"), outputs[0].integer("size"),
               outputs[0].flag("differentiable", false), outputs[0].flag("intensive", false)};
    for (size_t k = 0; k < inputs.size(); ++k) {
      const Node one = inputs[k];
      std::vector<double> usual;
      if (one.has("default")) usual = one.numbers("default");
      inputs_.push_back(
          {one.text("name"), one.text("level") == "atom", one.integer("size"), usual});
    }
  }

  /** Compare the results of a program with those of the model. */
  void check(const Node& stored, const Operations& operations) const {
    const auto fits = [&](const std::string& name, const char* rows, int64_t columns) {
      const traced::ValueId id = operations.output(name);
      if (id < 0) return false;
      const traced::ArrayFacts facts = operations.facts(id);
      traced::SizeNames names = operations.names();
      const traced::Shape wanted = {traced::Size::read(rows, names), traced::Size(columns)};
      return facts.type == traced::Type::f64 && facts.shape == wanted;
    };
    const bool right = fits(output_.name, "atoms", output_.size) && output_.size < 4096 &&
                       (!output_.differentiable || fits(kGradient, "edges", 3));
    if (!right) stored.fail("is a program with other results than those of the model");
  }

  /** Copy the rows that there are; those of ghosts are zero. */
  static void copy(const traced::View& from, int64_t count, double* to) {
    const int64_t there = std::min(from.size(), count);
    std::copy_n(from.as<double>(), there, to);
    std::fill_n(to + there, count - there, 0.0);
  }

  /** The inputs in the order of the program. */
  std::vector<Given> given(const Chunk& chunk, const double* weight) const {
    std::vector<Given> all;
    for (const traced::ProgramInput& input : values_->operations().inputs()) {
      all.push_back(given(chunk, weight, input));
    }
    return all;
  }

  Given given(const Chunk& chunk, const double* weight, const traced::ProgramInput& input) const {
    const std::string& name = input.name;
    if (name == "vec") return {chunk.vec, {chunk.n_edges, 3}};
    if (name == "i") return {chunk.i, {chunk.n_edges}};
    if (name == "j") return {chunk.j, {chunk.n_edges}};
    if (name == "atype") return {chunk.atype, {chunk.n_atoms}};
    if (name == "frame") return {chunk.frame, {chunk.n_atoms}};
    if (name == "weight") return {weight, {chunk.n_atoms, output_.size}};
    const std::string slot = "slot_";
    if (name.rfind(slot, 0) == 0) {
      size_t number = chunk.slots.size();
      if (name.size() < 12) number = static_cast<size_t>(std::atol(name.c_str() + slot.size()));
      if (number < chunk.slots.size()) {
        const Slots& one = chunk.slots[number];
        if (input.facts.shape.size() == 1) return {one.data, {one.rows * one.columns}};
        return {one.data, {one.rows, one.columns}};
      }
    }
    const auto found = chunk.inputs.find(name);
    const auto known = std::find_if(inputs_.begin(), inputs_.end(),
                                    [&](const InputFacts& one) { return one.name == name; });
    if (found == chunk.inputs.end() || (known == inputs_.end() && name != "displacement")) {
      throw Failure("the program takes \"" + name + "\", which the model does not have");
    }
    if (known == inputs_.end()) return {found->second, {chunk.n_atoms, 3}};
    return {found->second, {known->per_atom ? chunk.n_atoms : chunk.n_frames, known->size}};
  }

  Reach reach_;
  OutputFacts output_;
  std::vector<InputFacts> inputs_;
  std::vector<int64_t> selected_;
  bool single_ = false;
  std::unique_ptr<Interpreter> values_, all_;
};

}  // namespace

std::unique_ptr<AtomicModel> read_traced(const Node& stored, const Node& whole, const Node& atomic,
                                         Packings& packings) {
  return std::make_unique<TracedModel>(stored, whole, atomic, packings);
}

}  // namespace deepmd::native
