// SPDX-License-Identifier: LGPL-3.0-or-later
// A backend without a framework, so that neighbors, chunks and forces can be tested alone.
//
// A model file is text, "name number ..." line by line, see Model. With c = 1 + 0.3 (t_i + t_j),
// phi(r) = c (1 - r²/rcut²)³ and q_i = sum_j phi(r_ij), outputs are
//   energy  e_i = q_i / 2 + fparam + field + aparam_i
//           (q_i² + q_i sum_j q_j phi(r_ij) for q_i / 2 with message_passing)
//   dipole  sum_j phi(r_ij) d_ij
//   count   number of neighbors; a mean over atoms
// With "cotangents 1" it takes a cotangent of the energy.
// With "spin s" (s: Angstrom per unit, of type 0; type 1 has none) the energy also has, per atom i,
// |S_i|² and S_i·S_j of all neighbors j with |r_ij + s (S_j - S_i)| <= rcut.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend/arrays.h"

#ifndef FAKE_VERSION
#define FAKE_VERSION DEEPMD_BACKEND_VERSION
#endif

namespace {

using deepmd::backend::array_of;
using deepmd::backend::element;
using deepmd::backend::numbers;
using deepmd::backend::read;

struct Model {
  std::map<std::string, std::vector<double>> settings;
  double cutoff = 0.0, spin_scale = 0.0;
  int ntypes = 0;
  std::string description, probes;
  deepmd_info info{};

  double get(const std::string& name, double otherwise) const {
    const auto found = settings.find(name);
    return found == settings.end() ? otherwise : found->second.at(0);
  }
  bool is(const std::string& name) const { return get(name, 0) != 0; }
  double rcut() const { return cutoff; }

  explicit Model(const std::string& text);
  void describe();
  std::string input(const char* name, const char* level) const;
};

Model::Model(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    for (double x; words >> x;) settings[name].push_back(x);
  }
  if (settings.empty()) throw std::runtime_error("it is no fake model; make another");
  cutoff = get("rcut", 4.0);
  ntypes = static_cast<int>(get("ntypes", 2));
  spin_scale = get("spin", 0.0);
  describe();
  info.struct_size = sizeof(info);
  info.description = description.c_str();
  info.entries = static_cast<uint32_t>(is("spin") ? DEEPMD_EXTENDED : get("entries", 1));
  if (is("edges_only")) info.entries = DEEPMD_EDGES;
  if (is("cotangents")) info.entries |= DEEPMD_COTANGENTS;
  info.framework = "fake 1.0";
  info.chunk_edges = static_cast<int64_t>(get("chunk_edges", 0));
  if (is("probe")) {
    std::ostringstream json;
    json.precision(17);
    json << R"([{"coord": [[0, 0, 0], [1.5, 0, 0]], "atype": [0, 0], "value": [)" << get("probe", 0)
         << "]}]";
    probes = json.str();
    info.probes = probes.c_str();
  }
  if (is("first_release")) info.struct_size = offsetof(deepmd_info, chunk_edges);
  if (is("short_info")) info.struct_size = 8;
}

/** Write the description, as the files of this project hold it. */
void Model::describe() {
  const auto list = [&](const auto& entry) {
    std::string text;
    for (int t = 0; t < ntypes; ++t) text += (t ? ", " : "") + std::string(entry(t));
    return "[" + text + "]";
  };
  const auto all = [&](const std::string& value) { return list([&](int) { return value; }); };
  const std::string sel = all(std::to_string(static_cast<int64_t>(get("sel", 200))));
  std::string inputs = input("fparam", "frame") + input("aparam", "atom") + input("field", "frame");
  if (!inputs.empty()) inputs.pop_back();
  std::ostringstream json;
  json.precision(17);
  json << R"({"schema": )" << get("schema", 1) << R"(, "type_map": )"
       << list([](int t) { return "\"T" + std::to_string(t) + "\""; }) << R"(, "rcut": )" << cutoff
       << R"(, "interaction_range": )" << (is("endless") ? "null" : "4") << R"(, "message_range": )"
       << (is("message_passing") ? cutoff : 0.0) << R"(, "sel": )" << sel << R"(, "inputs": [)"
       << inputs << R"(], "outputs": [
    {"name": "energy", "level": "atom", "size": 1, "differentiable": true, "intensive": false},
    {"name": "dipole", "level": "atom", "size": 3, "differentiable": true, "intensive": false},
    {"name": "count", "level": "atom", "size": 1, "differentiable": false, "intensive": true}],
    "packings": [{"layout": )"
       << (is("typed")        ? R"("typed")"
           : is("odd_layout") ? R"("odd")"
                              : R"("flat")")
       << R"(, "ntypes": )" << ntypes << R"(, "rcut": )" << cutoff << R"(, "sel": )" << sel
       << R"(, "by_centre": )" << (is("typed") ? "true" : "false")
       << R"(, "exclude": [], "nearest": 0, "edge_rcut": 0.0, "edge_sel": 0}], "core_types": )"
       << ntypes << R"(, "contributing_types": )" << all("true")
       << R"(, "selected_types": [], "use_spin": )"
       << (is("spin") ? list([](int t) { return t ? "false" : "true"; }) : "[]")
       << R"(, "spin_scale": )" << list([&](int t) { return t ? "0" : std::to_string(spin_scale); })
       << R"(, "precision": "float64", "message_passing": )"
       // both want all atoms at once
       << (is("message_passing") || is("whole") ? "true" : "false") << R"(, "mixed_types": false})";
  description = json.str();
  if (is("cut_off")) description.resize(description.size() / 2);
}

/** An input of one number if the text says so: "name 1", and "default_name x". */
std::string Model::input(const char* name, const char* level) const {
  if (!is(name)) return "";
  std::ostringstream json;
  json << R"({"name": ")" << name << R"(", "level": ")" << level << R"(", "size": 1, "default": )";
  const auto given = settings.find(std::string("default_") + name);
  if (given == settings.end()) {
    json << "null},";
  } else {
    json << "[" << given->second.at(0) << "]},";
  }
  return json.str();
}

double strength(int64_t a, int64_t b) { return 1.0 + 0.3 * static_cast<double>(a + b); }

/** Arrays of a request for edges, checked. */
struct Edges {
  int64_t n_edges, n_atoms;
  const double* vec;
  const int64_t *i, *j, *atype;
  std::vector<deepmd_array> slots;
  std::map<std::string, const double*> inputs;
  std::vector<double*> values, gradients;
  const double* cotangent = nullptr;  ///< of the energy

  explicit Edges(const deepmd_edges_request& r)
      : n_edges(r.n_edges),
        n_atoms(r.n_atoms),
        vec(numbers<double>(r.vec, "vec")),
        i(numbers<int64_t>(r.i, "i")),
        j(numbers<int64_t>(r.j, "j")),
        atype(numbers<int64_t>(r.atype, "atype")),
        slots(r.slots, r.slots + r.n_slots) {
    for (int32_t k = 0; k < r.n_inputs; ++k) {
      const deepmd_input input = element(r.inputs, k);
      inputs[input.name] = numbers<double>(input.data, input.name);
    }
    for (int32_t k = 0; k < r.n_results; ++k) {
      const deepmd_result result = element(r.results, k);
      values.push_back(numbers<double>(result.value, "value"));
      gradients.push_back(numbers<double>(result.gradient, "gradient"));
      if (k == 0) cotangent = numbers<double>(result.cotangent, "cotangent");
    }
  }

  double weight(int64_t atom) const { return cotangent ? cotangent[atom] : 1.0; }
};

/** Visit edges with phi and its derivative by r², as (edge, phi, dphi). */
using Visitor = std::function<void(int64_t, double, double)>;

void visit_edges(const Model& model, const Edges& r, const Visitor& visitor) {
  const double rc2 = model.rcut() * model.rcut();
  const auto visit = [&](int64_t e) {
    const double* d = r.vec + 3 * e;
    const double x = 1.0 - (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / rc2;
    const double c = strength(r.atype[r.i[e]], r.atype[r.j[e]]);
    visitor(e, c * x * x * x, -3.0 * c * x * x / rc2);
  };
  const size_t nt = static_cast<size_t>(model.ntypes);
  for (size_t s = 0; s < r.slots.size(); ++s) {
    if (model.is("typed") && s % (nt + 1) == 0) continue;  // atoms of a type
    const deepmd_array& slot = r.slots[s];
    const int64_t* edges = numbers<int64_t>(slot, "slot");
    const int64_t size = slot.shape[0] * (slot.n_dims == 2 ? slot.shape[1] : 1);
    for (int64_t k = 0; k < size; ++k) {
      if (edges[k] >= 0) visit(edges[k]);
    }
  }
}

/** Add the inputs to energies, and let other ranks know them. */
void add_inputs(const Model& model, const Edges& r, const deepmd_exchange* exchange) {
  double* energy = r.values[0];
  for (const auto& [name, value] : r.inputs) {
    for (int64_t a = 0; a < r.n_atoms; ++a) energy[a] += value[name == "aparam" ? a : 0];
  }
  if (!model.is("exchange")) return;
  if (!exchange) throw std::runtime_error("there is no exchange of ghosts");
  const deepmd_exchange other = read(exchange);
  const deepmd_array values = array_of(energy, {r.n_atoms, 1});
  char message[64];
  if (other.to_ghosts(other.context, &values, message, sizeof(message)) != 0) {
    throw std::runtime_error(message);
  }
}

void evaluate_edges(const Model& model, const deepmd_edges_request& request) {
  if (model.is("fail")) throw std::runtime_error("the fake backend was told to fail");
  const Edges r(request);
  const auto n = static_cast<size_t>(r.n_atoms);
  // The sums of q_j phi, and of the same with the weights of the atoms j.
  std::vector<double> q(n, 0.0), s(n, 0.0), t(n, 0.0);
  double *energy = r.values[0], *dipole = r.values[1], *count = r.values[2];
  double *g0 = r.gradients[0], *g1 = r.gradients[1];
  std::fill(energy, energy + n, 0.0);
  std::fill(dipole, dipole + 3 * n, 0.0);
  std::fill(count, count + n, 0.0);
  if (g0) std::fill(g0, g0 + 3 * r.n_edges, 0.0);
  if (g1) std::fill(g1, g1 + 9 * r.n_edges, 0.0);
  const bool messages = model.is("message_passing");
  visit_edges(model, r, [&](int64_t e, double phi, double) { q[r.i[e]] += phi; });
  if (messages) {
    visit_edges(model, r, [&](int64_t e, double phi, double) {
      s[r.i[e]] += q[r.j[e]] * phi;
      t[r.i[e]] += r.weight(r.j[e]) * q[r.j[e]] * phi;
    });
  }
  for (size_t a = 0; a < n; ++a) energy[a] = messages ? q[a] * q[a] + q[a] * s[a] : 0.5 * q[a];
  add_inputs(model, r, request.exchange);
  visit_edges(model, r, [&](int64_t e, double phi, double dphi) {
    const int64_t i = r.i[e], j = r.j[e];
    const double own = messages ? 2.0 * q[i] + s[i] + q[i] * q[j] : 0.5;
    const double by_phi = r.weight(i) * own + t[i];
    const double* d = r.vec + 3 * e;
    count[i] += 1.0;
    for (int a = 0; a < 3; ++a) {
      if (g0) g0[3 * e + a] = by_phi * dphi * 2.0 * d[a];
      dipole[3 * i + a] += phi * d[a];
      for (int b = 0; g1 && b < 3; ++b) {
        g1[9 * e + 3 * a + b] = 2.0 * dphi * d[b] * d[a] + (a == b ? phi : 0.0);
      }
    }
  });
}

double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

/** Arrays of a request with ghosts, checked. */
struct Table {
  int64_t nloc, nall, nnei;
  const double *coord, *spin;
  const int64_t *atype, *nlist, *mapping;
  std::vector<double*> value, force, virial, atom_virial, force_mag;

  explicit Table(const deepmd_extended_request& r)
      : nloc(r.nloc),
        nall(r.nall),
        nnei(r.nnei),
        coord(numbers<double>(r.coord, "coord")),
        spin(numbers<double>(r.spin, "spin")),
        atype(numbers<int64_t>(r.atype, "atype")),
        nlist(numbers<int64_t>(r.nlist, "nlist")),
        mapping(numbers<int64_t>(r.mapping, "mapping")) {
    for (int32_t k = 0; k < r.n_results; ++k) {
      const deepmd_result result = element(r.results, k);
      value.push_back(numbers<double>(result.value, "value"));
      force.push_back(numbers<double>(result.force, "force"));
      virial.push_back(numbers<double>(result.virial, "virial"));
      atom_virial.push_back(numbers<double>(result.atom_virial, "atom_virial"));
      force_mag.push_back(numbers<double>(result.force_mag, "force_mag"));
    }
  }
};

/** Add the energies of spins and the forces on them. */
void add_spins(const Model& model, const Table& r) {
  const auto spin = [&](int64_t a) { return r.spin + 3 * a; };
  const auto add = [&](int64_t a, double factor, const double* s) {
    if (!r.force_mag[0]) return;
    for (int c = 0; c < 3; ++c) r.force_mag[0][3 * a + c] -= factor * s[c];
  };
  for (int64_t i = 0; i < r.nloc; ++i) {
    if (r.atype[i] != 0) continue;
    r.value[0][i] += dot(spin(i), spin(i));
    add(i, 2.0, spin(i));
    for (int64_t k = 0; k < r.nnei; ++k) {
      const int64_t j = r.nlist[i * r.nnei + k];
      if (j < 0 || r.atype[j] != 0) continue;
      double d[3];
      for (int a = 0; a < 3; ++a) {
        d[a] =
            r.coord[3 * j + a] - r.coord[3 * i + a] + model.spin_scale * (spin(j)[a] - spin(i)[a]);
      }
      if (dot(d, d) > model.rcut() * model.rcut()) continue;
      r.value[0][i] += dot(spin(i), spin(j));
      add(i, 1.0, spin(j));
      add(j, 1.0, spin(i));
    }
  }
}

/** Edges of the table, then forces of all atoms. */
void evaluate_table(const Model& model, const Table& r, const deepmd_extended_request& request) {
  std::vector<int64_t> i, j, all;
  std::vector<double> vec;
  for (int64_t c = 0; c < r.nloc; ++c) {
    double before = 0.0;
    for (int64_t k = 0; k < r.nnei; ++k) {
      const int64_t neighbor = r.nlist[c * r.nnei + k];
      if (neighbor < 0) continue;
      double r2 = 0.0;
      for (int a = 0; a < 3; ++a) {
        vec.push_back(r.coord[3 * neighbor + a] - r.coord[3 * c + a]);
        r2 += vec.back() * vec.back();
      }
      // Positions of images are rounded: distances that are equal may come in either order.
      if (r2 < before - 1e-9) throw std::runtime_error("neighbors are not sorted by distance");
      before = r2;
      all.push_back(static_cast<int64_t>(i.size()));
      i.push_back(c);
      j.push_back(model.is("message_passing") ? r.mapping[neighbor] : neighbor);
    }
  }
  const auto n_edges = static_cast<int64_t>(i.size());
  std::vector<double> v0(r.nall), v1(3 * r.nall), v2(r.nall), g0(3 * n_edges), g1(9 * n_edges);
  // Ghosts have no values of their own; energies of ghosts are not used.
  std::vector<std::vector<double>> rows;
  std::vector<deepmd_input> inputs;
  for (int32_t k = 0; k < request.n_inputs; ++k) {
    inputs.push_back(element(request.inputs, k));
    deepmd_input& input = inputs.back();
    if (input.level != DEEPMD_ATOM) continue;
    const double* given = numbers<double>(input.data, input.name);
    rows.emplace_back(given, given + r.nloc);
    rows.back().resize(static_cast<size_t>(r.nall), 0.0);
    input.data = array_of(rows.back().data(), {r.nall, 1});
  }
  std::vector<deepmd_result> results(3);
  for (deepmd_result& result : results) result.struct_size = sizeof(result);
  results[0].value = array_of(v0.data(), {r.nall, 1});
  results[1].value = array_of(v1.data(), {r.nall, 3});
  results[2].value = array_of(v2.data(), {r.nall, 1});
  results[0].gradient = array_of(g0.data(), {n_edges, 1, 3});
  results[1].gradient = array_of(g1.data(), {n_edges, 3, 3});
  const deepmd_array slot = array_of(all.data(), {n_edges});
  deepmd_edges_request edges{};
  edges.struct_size = sizeof(edges);
  edges.n_edges = n_edges;
  edges.n_atoms = r.nall;
  edges.vec = array_of(vec.data(), {n_edges, 3});
  edges.i = array_of(i.data(), {n_edges});
  edges.j = array_of(j.data(), {n_edges});
  edges.atype = request.atype;
  edges.inputs = inputs.data();
  edges.n_inputs = static_cast<int32_t>(inputs.size());
  edges.slots = &slot;
  edges.n_slots = 1;
  edges.results = results.data();
  edges.n_results = 3;
  edges.exchange = request.exchange;
  Model flat = model;
  flat.settings["typed"] = {0.0};
  evaluate_edges(flat, edges);
  std::copy_n(v0.begin(), r.nloc, r.value[0]);
  std::copy_n(v1.begin(), 3 * r.nloc, r.value[1]);
  std::copy_n(v2.begin(), r.nloc, r.value[2]);
  const std::vector<double>* gradients[2] = {&g0, &g1};
  for (int o = 0; o < 2; ++o) {
    const int64_t size = o == 0 ? 1 : 3;
    if (!r.force[o]) continue;
    int64_t e = 0;
    for (int64_t c = 0; c < r.nloc; ++c) {
      for (int64_t k = 0; k < r.nnei; ++k) {
        const int64_t at = r.nlist[c * r.nnei + k];
        if (at < 0) continue;
        for (int64_t s = 0; s < size; ++s) {
          for (int a = 0; a < 3; ++a) {
            const double g = (*gradients[o])[3 * (e * size + s) + a];
            r.force[o][3 * (s * r.nall + c) + a] += g;
            r.force[o][3 * (s * r.nall + at) + a] -= g;
            for (int b = 0; b < 3; ++b) {
              const double w = -g * vec[3 * e + b];
              r.virial[o][9 * s + 3 * a + b] += w;
              if (r.atom_virial[o]) r.atom_virial[o][9 * (s * r.nall + at) + 3 * a + b] += w;
            }
          }
        }
        ++e;
      }
    }
  }
}

/** The same through coordinates. */
void evaluate_extended(const Model& model, const deepmd_extended_request& request) {
  const Table r(request);
  if (!model.is("spin")) return evaluate_table(model, r, request);
  std::vector<int64_t> near(r.nlist, r.nlist + r.nloc * r.nnei);
  for (size_t k = 0; k < near.size(); ++k) {
    const double* here = r.coord + 3 * (static_cast<int64_t>(k) / r.nnei);
    double d[3];
    for (int a = 0; a < 3 && near[k] >= 0; ++a) d[a] = r.coord[3 * near[k] + a] - here[a];
    if (near[k] >= 0 && dot(d, d) > model.rcut() * model.rcut()) near[k] = -1;
  }
  Table within = r;
  within.nlist = near.data();
  evaluate_table(model, within, request);
  add_spins(model, r);
}

template <class F>
int guarded(char* error, size_t error_size, const F& function) {
  try {
    function();
    return 0;
  } catch (const std::exception& problem) {
    std::snprintf(error, error_size, "%s", problem.what());
    return 1;
  }
}

Model* of(deepmd_backend_model* model) { return reinterpret_cast<Model*>(model); }

int open_model(const deepmd_source* source, deepmd_backend_model** model, char* error,
               size_t error_size) {
  return guarded(error, error_size, [&] {
    std::string text;
    if (source->content) {
      text.assign(static_cast<const char*>(source->content), source->content_size);
    } else {
      std::ifstream file(source->path);
      text.assign(std::istreambuf_iterator<char>(file), {});
    }
    *model = reinterpret_cast<deepmd_backend_model*>(std::make_unique<Model>(text).release());
  });
}

int query(deepmd_backend_model* model, const deepmd_info** info, char*, size_t) {
  *info = &of(model)->info;
  return 0;
}

int evaluate(deepmd_backend_model* model, const deepmd_edges_request* request, char* error,
             size_t error_size) {
  return guarded(error, error_size, [&] { evaluate_edges(*of(model), read(request)); });
}

int evaluate_lower(deepmd_backend_model* model, const deepmd_extended_request* request, char* error,
                   size_t error_size) {
  return guarded(error, error_size, [&] { evaluate_extended(*of(model), read(request)); });
}

void close_model(deepmd_backend_model* model) { std::unique_ptr<Model>{of(model)}; }

const char* framework() { return "fake 1.0 (no framework)"; }

const deepmd_backend_functions functions = {sizeof(deepmd_backend_functions),
                                            FAKE_VERSION,
                                            "Fake",
                                            ".savedmodel .pb",
                                            open_model,
                                            query,
                                            evaluate,
                                            close_model,
                                            evaluate_lower,
                                            framework};

}  // namespace

extern "C" __attribute__((visibility("default"))) const deepmd_backend_functions* deepmd_backend() {
  return &functions;
}
