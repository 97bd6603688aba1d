// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * SavedModels, .savedmodel and .savedmodeltf: evaluated through the functions that DeePMD-kit's
 * have.
 *
 * Nothing of such a file is run when it is opened. The functions that are needed, after a look at
 * their operators, are put into a graph of their own, in which a node calls each of them.
 */
#include <algorithm>
#include <map>
#include <set>

#include "../description.h"
#include "graph.h"
#include "protobuf.h"

namespace deepmd::tensorflow_backend {
namespace {

/** An argument or result of a function. */
struct Argument {
  std::string name;
  uint64_t type = 0;
};

/** A function that a SavedModel offers under a name. */
struct Function {
  std::string name;  ///< of the traced function
  std::vector<Argument> inputs, outputs;
  std::map<std::string, int64_t> components;  ///< of outputs: numbers per row, by key
  std::vector<std::string> keys;              ///< of outputs, in their order
};

std::vector<Argument> arguments(std::string_view signature, uint32_t field) {
  std::vector<Argument> found;
  for (const std::string_view one : all_of(signature, field)) {
    found.push_back({std::string(bytes_of(one, 1)), number_of(one, 3)});
  }
  return found;
}

/** Numbers per row of an output: the sizes behind the first two, which are not known. */
int64_t components_of(std::string_view spec) {
  int64_t product = 1;
  for (const std::string_view dim : all_of(bytes_of(bytes_of(spec, 33), 2), 2)) {
    const auto size = static_cast<int64_t>(number_of(dim, 1));
    if (size > 0 && size < (1 << 20)) product *= size;
  }
  return product;
}

/** The messages of a SavedModel that matter here. */
class Contents {
 public:
  explicit Contents(std::string_view content) {
    const auto graphs = all_of(content, 2);
    if (graphs.empty()) throw Failure("it is no SavedModel; copy or freeze it again");
    const std::string_view graph = bytes_of(graphs.front(), 2);
    versions_ = bytes_of(graph, 4);
    for (const std::string_view one : all_of(bytes_of(graph, 2), 1)) {
      functions_[bytes_of(bytes_of(one, 1), 1)] = one;
    }
    const std::string_view objects = bytes_of(graphs.front(), 7);
    const auto nodes = all_of(objects, 1);
    for (const std::string_view child : nodes.empty() ? nodes : all_of(nodes.front(), 1)) {
      const uint64_t node = number_of(child, 1);
      if (node >= nodes.size()) continue;
      const auto traced = all_of(bytes_of(nodes[node], 6), 1);
      if (traced.size() == 1) offered_[bytes_of(child, 2)] = traced.front();
    }
    for (const std::string_view entry : all_of(objects, 2)) {
      concrete_[bytes_of(entry, 1)] = bytes_of(entry, 2);
    }
  }

  bool has(std::string_view name) const { return offered_.count(name) > 0; }

  Function function(std::string_view name) const {
    const auto offered = offered_.find(name);
    if (offered == offered_.end() || !functions_.count(offered->second)) {
      throw Failure("this SavedModel has no function " + std::string(name) +
                    " and is no model; convert or freeze the model again");
    }
    const std::string_view traced = offered->second;
    const auto found = concrete_.find(traced);
    const std::string_view about = found == concrete_.end() ? "" : found->second;
    if (!bytes_of(about, 2).empty()) {
      throw Failure(
          "weights of this SavedModel are variables outside of its functions, which is "
          "not understood; convert the model again");
    }
    Function made;
    made.name = traced;
    const std::string_view signature = bytes_of(functions_.at(traced), 1);
    made.inputs = arguments(signature, 2);
    made.outputs = arguments(signature, 3);
    for (const std::string_view entry : all_of(bytes_of(bytes_of(about, 4), 53), 1)) {
      made.components[std::string(bytes_of(entry, 1))] = components_of(bytes_of(entry, 2));
    }
    // TensorFlow orders the values of a dictionary by their keys.
    for (const auto& [key, size] : made.components) made.keys.push_back(key);
    return made;
  }

  /** Functions that some call, themselves included, checked. */
  std::set<std::string_view> called_by(const std::vector<Function>& some) const {
    std::set<std::string_view> called;
    std::vector<std::string_view> todo;
    for (const Function& one : some) todo.push_back(functions_.find(one.name)->first);
    while (!todo.empty()) {
      const std::string_view name = todo.back();
      todo.pop_back();
      const auto found = functions_.find(name);
      if (found == functions_.end() || !called.insert(found->first).second) continue;
      check_operators(found->second, 3, /*functions=*/true);
      for (const std::string_view node : all_of(found->second, 3)) {
        for (const std::string_view attribute : all_of(node, 5)) {
          const std::string_view value = bytes_of(attribute, 2);
          for (const auto one : all_of(value, 10)) todo.push_back(bytes_of(one, 1));
          for (const auto one : all_of(bytes_of(value, 1), 9)) todo.push_back(bytes_of(one, 1));
        }
      }
    }
    return called;
  }

  /** Whether functions are compiled for the sizes of their arguments. */
  bool compiles(const std::set<std::string_view>& names) const {
    return std::any_of(names.begin(), names.end(), [&](std::string_view name) {
      const std::string_view function = functions_.at(name);
      return function.find("XlaCallModule") != std::string_view::npos ||
             function.find("_XlaMustCompile") != std::string_view::npos;
    });
  }

  /** A graph with placeholders "f/x" for arguments x and a node "f" for every function f. */
  std::string graph_of(const std::vector<std::pair<std::string, Function>>& wanted,
                       const std::set<std::string_view>& called) const {
    std::string graph, library;
    for (const std::string_view name : called) put(library, 1, functions_.at(name));
    for (const auto& [name, function] : wanted) {
      std::string call;
      put(call, 1, name);
      put(call, 2, "StatefulPartitionedCall");
      for (const Argument& input : function.inputs) {
        put(graph, 1, placeholder(name + "/" + input.name, input.type));
        put(call, 3, name + "/" + input.name);
      }
      put_attribute(call, "Tin", types_of(function.inputs));
      put_attribute(call, "Tout", types_of(function.outputs));
      std::string reference, value;
      put(reference, 1, function.name);
      put(value, 10, reference);
      put_attribute(call, "f", value);
      put(graph, 1, call);
    }
    put(graph, 2, library);
    put(graph, 4, versions_);
    return graph;
  }

 private:
  static void put_attribute(std::string& node, const std::string& key, const std::string& value) {
    std::string entry;
    put(entry, 1, key);
    put(entry, 2, value);
    put(node, 5, entry);
  }

  static std::string placeholder(const std::string& name, uint64_t type) {
    std::string node, value;
    put(node, 1, name);
    put(node, 2, "Placeholder");
    put(value, 6, type);
    put_attribute(node, "dtype", value);
    return node;
  }

  static std::string types_of(const std::vector<Argument>& arguments) {
    std::string list, value;
    for (const Argument& one : arguments) put(list, 6, one.type);
    put(value, 1, list);
    return value;
  }

  std::string_view versions_;
  std::map<std::string_view, std::string_view> functions_;  ///< by the name of the traced function
  std::map<std::string_view, std::string_view> offered_;  ///< traced functions by their names here
  std::map<std::string_view, std::string_view> concrete_;
};

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
