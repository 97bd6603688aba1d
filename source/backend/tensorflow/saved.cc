// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * SavedModels of DeePMD-kit, .savedmodel and .savedmodeltf: evaluated through their functions for
 * coordinates with ghosts.
 */
#include <algorithm>
#include <map>
#include <set>

#include "../description.h"
#include "contents.h"
#include "graph.h"

namespace deepmd::tensorflow_backend {
namespace {

constexpr const char* kLower = "call_lower";
constexpr const char* kLowerAtomic = "call_lower_atomic_virial";

/** Round a size up: programs that are compiled for each size are compiled a few times only. */
int64_t rounded(int64_t n) {
  int64_t step = 16;
  while (n > 4 * step) step *= 2;
  return (n + step - 1) / step * step;
}

/** A request as such functions want it: locals, then ghosts, each with virtual atoms behind. */
struct Table {
  int64_t nloc, nghost, width;  ///< as they are passed
  std::vector<double> coord;
  std::vector<int32_t> atype;
  std::vector<int64_t> nlist, mapping;

  /** Place of an atom of the request. */
  int64_t place(int64_t atom, int64_t n) const { return atom < n ? atom : atom - n + nloc; }

  Table(const deepmd_extended_request& q, bool pad, const std::set<std::pair<int, int>>& excluded)
      : nloc(pad ? rounded(q.nloc) : q.nloc),
        // The programs take another way where there are no ghosts: always pass some, or never.
        nghost(pad ? rounded(q.nall - q.nloc + 1) : q.nall - q.nloc),
        width(q.nnei) {
    const auto n = static_cast<size_t>(nloc + nghost);
    const auto* x = backend::numbers<double>(q.coord, "coord");
    const auto* types = backend::numbers<int64_t>(q.atype, "atype");
    const auto* owners = backend::numbers<int64_t>(q.mapping, "mapping");
    const auto* list = backend::numbers<int64_t>(q.nlist, "nlist");
    coord.assign(3 * n, 0.0);
    atype.assign(n, -1);
    mapping.assign(n, 0);
    for (int64_t a = 0; a < q.nall; ++a) {
      const int64_t to = place(a, q.nloc);
      std::copy_n(x + 3 * a, 3, coord.begin() + 3 * to);
      atype[to] = static_cast<int32_t>(types[a]);
      mapping[to] = owners ? std::max<int64_t>(owners[a], 0) : a < q.nloc ? a : 0;
    }
    nlist.assign(static_cast<size_t>(nloc * width), -1);
    for (int64_t k = 0; k < q.nloc * width; ++k) {
      if (list[k] < 0) continue;
      const auto a = static_cast<int>(types[k / width]), b = static_cast<int>(types[list[k]]);
      if (!excluded.count({std::min(a, b), std::max(a, b)})) nlist[k] = place(list[k], q.nloc);
    }
  }
};

class Saved : public Program {
 public:
  explicit Saved(const std::string& content) {
    const Contents contents(content);
    std::vector<std::pair<std::string, Function>> wanted = {
        {kLower, contents.function(kLower)}, {kLowerAtomic, contents.function(kLowerAtomic)}};
    lower_ = wanted[0].second;
    lower_atomic_ = wanted[1].second;
    for (const char* name :
         {"get_type_map", "get_rcut", "get_sel", "get_sel_type", "get_dim_fparam", "get_dim_aparam",
          "get_dim_chg_spin", "get_default_fparam", "get_default_chg_spin", "has_default_fparam",
          "has_default_chg_spin", "has_message_passing", "mixed_types", "model_output_type",
          "get_pair_exclude_types"}) {
      if (contents.has(name)) wanted.emplace_back(name, contents.function(name));
    }
    std::vector<Function> functions;
    for (const auto& [name, function] : wanted) functions.push_back(function);
    const auto called = contents.called_by(functions);
    padded_ = contents.compiles(called);
    graph_ = std::make_unique<Graph>(contents.graph_of(wanted, called));
    describe();
    set_info(DEEPMD_EXTENDED);
  }

  void evaluate(const deepmd_extended_request& q) const override {
    std::vector<deepmd_result> wanted;
    bool atom_virial = false;
    for (int32_t k = 0; k < q.n_results; ++k) {
      wanted.push_back(backend::element(q.results, k));
      atom_virial = atom_virial || wanted.back().atom_virial.data != nullptr;
    }
    const Table table(q, padded_, excluded_);
    const Function& function = atom_virial ? lower_atomic_ : lower_;
    const auto results = call(function, atom_virial ? kLowerAtomic : kLower, q, table);
    const auto array = [&](const std::string& key) {
      const auto found = std::find(function.keys.begin(), function.keys.end(), key);
      if (found == function.keys.end()) throw Failure("the program gives no " + key);
      return results[static_cast<size_t>(found - function.keys.begin())].numbers<double>();
    };
    for (const deepmd_result& result : wanted) {
      const std::string name = result.name;
      write_rows(array(name), result.value, q.nloc);
      if (result.force.data) write(array(name + "_derv_r"), result.force, q, table);
      if (result.atom_virial.data) write(array(name + "_derv_c"), result.atom_virial, q, table);
      if (result.virial.data) {
        write_rows(array(name + "_derv_c_redu"), result.virial, result.virial.shape[0]);
      }
    }
  }

 private:
  Tensor ask(const std::string& name) const { return graph_->run({}, {name}, 1).front(); }
  bool is(const std::string& name) const {
    return graph_->has(name) && ask(name).whole_numbers().at(0) != 0;
  }
  int64_t size(const std::string& name) const {
    return graph_->has(name) ? ask(name).whole_numbers().at(0) : 0;
  }
  std::vector<double> default_of(const std::string& name) const {
    if (!is("has_default_" + name)) return {};
    return ask("get_default_" + name).numbers<double>();
  }

  void describe() {
    backend::Description answers;
    answers.type_map = ask("get_type_map").texts();
    answers.rcut = ask("get_rcut").numbers<double>().at(0);
    answers.sel = ask("get_sel").whole_numbers();
    answers.sel_type = ask("get_sel_type").whole_numbers();
    answers.message_passing = is("has_message_passing");
    answers.mixed_types = is("mixed_types");
    answers.add_input("fparam", false, size("get_dim_fparam"), default_of("fparam"));
    answers.add_input("charge_spin", false, size("get_dim_chg_spin"), default_of("chg_spin"));
    answers.add_input("aparam", true, size("get_dim_aparam"));
    if (graph_->has("get_pair_exclude_types")) {
      const auto pairs = ask("get_pair_exclude_types").whole_numbers();
      for (size_t k = 0; k + 1 < pairs.size(); k += 2) {
        const auto [a, b] = std::minmax(pairs[k], pairs[k + 1]);
        excluded_.insert({static_cast<int>(a), static_cast<int>(b)});
      }
    }
    for (std::string name : ask("model_output_type").texts()) {
      if (name == "polarizability") name = "polar";
      const auto found = lower_atomic_.components.find(name);
      if (name == "mask" || found == lower_atomic_.components.end()) continue;
      const bool forces = lower_atomic_.components.count(name + "_derv_r") > 0;
      answers.outputs.push_back({name, found->second, forces, false});
    }
    if (answers.outputs.empty()) throw Failure("the model predicts nothing that is known here");
    description_ = answers.to_json();
  }

  std::vector<Tensor> call(const Function& function, const std::string& node,
                           const deepmd_extended_request& q, const Table& table) const {
    const int64_t nall = table.nloc + table.nghost;
    std::map<std::string, Tensor> known = {
        {"coord", Tensor::view(table.coord.data(), {1, nall, 3})},
        {"atype", Tensor::view(table.atype.data(), {1, nall})},
        {"nlist", Tensor::view(table.nlist.data(), {1, table.nloc, table.width})},
        {"mapping", Tensor::view(table.mapping.data(), {1, nall})},
        {"fparam", Tensor::view<double>(nullptr, {1, 0})},
        {"aparam", Tensor::view<double>(nullptr, {1, table.nloc, 0})},
        {"charge_spin", Tensor::view<double>(nullptr, {1, 0})},
    };
    std::vector<double> rows;
    for (int32_t k = 0; k < q.n_inputs; ++k) {
      const deepmd_input input = backend::element(q.inputs, k);
      const auto* data = backend::numbers<double>(input.data, input.name);
      const int64_t width = input.data.shape[1];
      if (input.level == DEEPMD_FRAME) {
        known[input.name] = Tensor::view(data, {1, width});
        continue;
      }
      rows.assign(data, data + q.nloc * width);
      rows.resize(static_cast<size_t>(table.nloc * width), 0.0);
      known[input.name] = Tensor::view(rows.data(), {1, table.nloc, width});
    }
    Named inputs;
    for (const Argument& input : function.inputs) {
      const auto found = known.find(input.name);
      if (found == known.end()) {
        throw Failure("the program wants " + input.name + ", which is not known here");
      }
      inputs.emplace_back(node + "/" + input.name, found->second);
    }
    std::vector<std::string> outputs;
    for (size_t k = 0; k < function.keys.size(); ++k) {
      outputs.push_back(node + ":" + std::to_string(k));
    }
    return graph_->run(inputs, outputs, q.threads);
  }

  static void check_size(const std::vector<double>& from, int64_t n) {
    if (static_cast<int64_t>(from.size()) >= n) return;
    throw Failure("the program gives fewer numbers than its description says; convert it again");
  }

  /** The first rows. */
  static void write_rows(const std::vector<double>& from, const deepmd_array& to, int64_t rows) {
    auto* data = backend::numbers<double>(to, "a result");
    if (data == nullptr) return;
    check_size(from, rows * to.shape[1]);
    std::copy_n(from.begin(), rows * to.shape[1], data);
  }

  /** (padded atoms, components, width) to (components, nall, width). */
  static void write(const std::vector<double>& from, const deepmd_array& to,
                    const deepmd_extended_request& q, const Table& table) {
    auto* data = backend::numbers<double>(to, "a result");
    const int64_t components = to.shape[0], width = to.shape[2];
    check_size(from, (table.nloc + table.nghost) * components * width);
    for (int64_t a = 0; a < q.nall; ++a) {
      const double* row = from.data() + table.place(a, q.nloc) * components * width;
      for (int64_t c = 0; c < components; ++c) {
        std::copy_n(row + c * width, width, data + (c * q.nall + a) * width);
      }
    }
  }

  std::unique_ptr<Graph> graph_;
  Function lower_, lower_atomic_;
  std::set<std::pair<int, int>> excluded_;
  bool padded_ = false;
};

}  // namespace

std::shared_ptr<Program> open_saved(const std::string& content) {
  return std::make_shared<Saved>(content);
}

}  // namespace deepmd::tensorflow_backend
