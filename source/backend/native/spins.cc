// SPDX-License-Identifier: LGPL-3.0-or-later
#include "spins.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "../arrays.h"

namespace deepmd::native {

namespace {

/** Distances below this [Å] are taken for it where neighbors are chosen. */
constexpr double kShortest = 1e-20;

core::Layout layout_of(const std::string& name) {
  static const char* const names[] = {"typed", "mixed", "flat", "angles", "centres", "first_type"};
  const auto* found = std::find(std::begin(names), std::end(names), name);
  if (found == std::end(names)) throw Failure("neighbors are wanted in an unknown form");
  return static_cast<core::Layout>(found - std::begin(names));
}

core::Packing packing_of(const nlohmann::json& from, int64_t ntypes) {
  core::Packing packing;
  packing.layout = layout_of(from.at("layout").get<std::string>());
  packing.ntypes = from.at("ntypes").get<int64_t>();
  packing.rcut = from.at("rcut").get<double>();
  packing.sel = from.at("sel").get<std::vector<int64_t>>();
  packing.by_centre = from.at("by_centre").get<bool>();
  packing.exclude = from.at("exclude").get<std::vector<std::pair<int, int>>>();
  packing.nearest = from.at("nearest").get<int64_t>();
  packing.edge_rcut = from.at("edge_rcut").get<double>();
  packing.edge_sel = from.at("edge_sel").get<int64_t>();
  const bool typed = packing.layout == core::Layout::typed;
  bool fits = packing.ntypes == ntypes && packing.nearest >= 0 && packing.edge_sel >= 0 &&
              (!typed || static_cast<int64_t>(packing.sel.size()) == ntypes);
  for (const int64_t n : packing.sel) fits = fits && n >= 0;
  for (const auto& [a, b] : packing.exclude) {
    fits = fits && a >= 0 && b >= 0 && a < ntypes && b < ntypes;
  }
  if (!fits) throw Failure("a table of neighbors does not fit the types of the model");
  return packing;
}

/** Cotangents of the atoms, or null. */
const double* cotangent_of(const deepmd_extended_request& request) {
  if (request.n_results < 1) return nullptr;
  const deepmd_result result = backend::element(request.results, 0);
  return backend::numbers<double>(result.cotangent, "a cotangent");
}

}  // namespace

/** Arrays of a request. */
struct Spins::Frame {
  explicit Frame(const deepmd_extended_request& q)
      : nloc(q.nloc),
        nall(q.nall),
        nnei(q.nnei),
        coord(backend::numbers<double>(q.coord, "coord")),
        spin(backend::numbers<double>(q.spin, "spin")),
        atype(backend::numbers<int64_t>(q.atype, "atype")),
        nlist(backend::numbers<int64_t>(q.nlist, "nlist")),
        mapping(backend::numbers<int64_t>(q.mapping, "mapping")) {
    if (!spin) throw Failure("the model needs the spins of the atoms, none are given");
  }

  /** Number of the atom that an extended one is an image of; -1: it is not here. */
  int64_t owner(int64_t atom) const {
    if (atom < nloc) return atom;
    return mapping && mapping[atom] < nloc ? mapping[atom] : -1;
  }

  int64_t nloc, nall, nnei;
  const double *coord, *spin;
  const int64_t *atype, *nlist, *mapping;
  std::vector<double> shift;  ///< (nall, 3) from atoms to their partners [Å]
};

Spins::Spins(const Node& node, const AtomicModel& model)
    : model_(model), ntypes_(model.ntypes() / 2) {
  const Node spin = node["spin"];
  scale_ = spin.numbers("virtual_scale");
  const nlohmann::json& used = spin["use_spin"].json();
  for (const auto& one : used) use_spin_.push_back(one.get<bool>());
  const auto n = static_cast<size_t>(ntypes_);
  if (model.ntypes() % 2 != 0 || scale_.size() != n || use_spin_.size() != n) {
    spin.fail("does not fit the types of the model");
  }
}

void Spins::describe(nlohmann::json& description) const {
  auto& types = description["type_map"];
  types.erase(types.begin() + ntypes_, types.end());
  description["use_spin"] = use_spin_;
  description["spin_scale"] = scale_;
  for (auto& output : description["outputs"]) output["magnetic"] = output["differentiable"];
  auto& selected = description["selected_types"];
  nlohmann::json real = nlohmann::json::array();
  for (const auto& t : selected) {
    if (t.get<int64_t>() < ntypes_) real.push_back(t);
  }
  selected = real;
}

void Spins::read_packings(const nlohmann::json& description) {
  rcut_ = description.at("rcut").get<double>();
  message_passing_ = description.at("message_passing").get<bool>();
  for (const auto& one : description.at("packings")) {
    packings_.push_back(packing_of(one, 2 * ntypes_));
  }
}

void Spins::add_edge(const Frame& frame, int64_t from, int64_t to, const double* between,
                     Sites& sites) const {
  double d[3], r2 = 0.0;
  const int64_t a = from / 2, b = to / 2;
  for (int64_t k = 0; k < 3; ++k) {
    d[k] = between[k];
    if (to % 2 != 0) d[k] += frame.shift[3 * b + k];
    if (from % 2 != 0) d[k] -= frame.shift[3 * a + k];
    r2 += d[k] * d[k];
  }
  if (!(r2 <= rcut_ * rcut_) || (r2 == 0.0 && a != b)) return;
  const int64_t owner = frame.owner(b), type = frame.atype[b] + (to % 2) * ntypes_;
  // Of other atoms only the type is known; those of all types stand behind the sites.
  if (owner < 0 && message_passing_) {
    throw Failure("the model exchanges messages, and an atom without a known owner is near");
  }
  sites.i.push_back(from);
  sites.j.push_back(owner >= 0 ? 2 * owner + to % 2 : 2 * frame.nloc + type);
  sites.from.push_back(from);
  sites.to.push_back(to);
  sites.vec.insert(sites.vec.end(), d, d + 3);
  sites.between.insert(sites.between.end(), between, between + 3);
  sites.r2.push_back(std::max(r2, kShortest * kShortest));
}

void Spins::add_pairs(const Frame& frame, int64_t center, Sites& sites) const {
  const double none[3] = {0.0, 0.0, 0.0};
  for (int64_t a = 0; a < (message_passing_ ? 2 : 1); ++a) {
    for (const int64_t b : {1, 0}) {
      for (int64_t k = 0; k < frame.nnei; ++k) {
        const int64_t j = frame.nlist[center * frame.nnei + k];
        if (j < 0 || frame.atype[j] < 0) continue;
        double d[3], r2 = 0.0;
        for (int64_t c = 0; c < 3; ++c) {
          d[c] = frame.coord[3 * j + c] - frame.coord[3 * center + c];
          r2 += d[c] * d[c];
        }
        if (r2 > 0.0) add_edge(frame, 2 * center + a, 2 * j + b, d, sites);
      }
      if (a != b) add_edge(frame, 2 * center + a, 2 * center + b, none, sites);
    }
  }
}

void Spins::add_atoms(const Frame& frame, const deepmd_extended_request& request,
                      Sites& sites) const {
  const int64_t n = 2 * (frame.nloc + ntypes_);
  sites.atype.resize(static_cast<size_t>(n));
  sites.frame.assign(static_cast<size_t>(n), 0);
  sites.displacement.assign(static_cast<size_t>(3 * n), 0.0);
  for (int64_t a = 0; a < frame.nloc; ++a) {
    sites.atype[2 * a] = frame.atype[a];
    sites.atype[2 * a + 1] = frame.atype[a] + ntypes_;
    std::copy_n(frame.shift.data() + 3 * a, 3, sites.displacement.data() + 6 * a + 3);
  }
  for (int64_t t = 0; t < 2 * ntypes_; ++t) sites.atype[2 * frame.nloc + t] = t;
  if (const double* given = cotangent_of(request)) {
    const int64_t size = model_.output().size;
    sites.cotangent.assign(static_cast<size_t>(n * size), 0.0);
    for (int64_t a = 0; a < 2 * frame.nloc; ++a) {
      std::copy_n(given + a / 2 * size, size, sites.cotangent.data() + a * size);
    }
  }
  sites.chunk.inputs.clear();
  sites.chunk.inputs["displacement"] = sites.displacement.data();
  for (int32_t k = 0; k < request.n_inputs; ++k) {
    const deepmd_input input = backend::element(request.inputs, k);
    const auto* rows = backend::numbers<double>(input.data, input.name);
    if (input.level == DEEPMD_ATOM) {
      const int64_t width = input.data.shape[1];
      sites.aparam.assign(static_cast<size_t>(n * width), 0.0);
      for (int64_t a = 0; a < 2 * frame.nloc; ++a) {
        std::copy_n(rows + a / 2 * width, width, sites.aparam.data() + a * width);
      }
      rows = sites.aparam.data();
    }
    sites.chunk.inputs[input.name] = rows;
  }
}

void Spins::expand(const deepmd_extended_request& request, Sites& sites) const {
  Frame frame(request);
  frame.shift.assign(static_cast<size_t>(3 * frame.nall), 0.0);
  for (int64_t a = 0; a < frame.nall; ++a) {
    const int64_t t = frame.atype[a];
    if (t >= ntypes_ || (t < 0 && a < frame.nloc)) throw Failure("an atom has an unknown type");
    for (int64_t k = 0; t >= 0 && k < 3; ++k) {
      frame.shift[3 * a + k] = frame.spin[3 * a + k] * scale_[t];
    }
  }
  for (auto* list : {&sites.i, &sites.j, &sites.from, &sites.to}) list->clear();
  for (auto* list : {&sites.vec, &sites.r2, &sites.between}) list->clear();
  for (int64_t a = 0; a < frame.nloc; ++a) add_pairs(frame, a, sites);
  add_atoms(frame, request, sites);

  Chunk& chunk = sites.chunk;
  const auto n = static_cast<int64_t>(sites.atype.size());
  const std::vector<int64_t> first(static_cast<size_t>(n), sites.atype[0]);
  chunk.n_edges = static_cast<int64_t>(sites.i.size());
  chunk.n_atoms = n;
  chunk.threads = request.threads;
  chunk.vec = sites.vec.data();
  chunk.i = sites.i.data();
  chunk.j = sites.j.data();
  chunk.atype = sites.atype.data();
  chunk.frame = sites.frame.data();
  const core::Edges edges{chunk.n_edges, chunk.i, chunk.j,     chunk.vec,
                          sites.r2.data(), n,     chunk.atype, first.data()};
  chunk.slots.clear();
  for (const core::Slot& slot : sites.packer.pack(packings_, edges, nullptr)) {
    chunk.slots.push_back({slot.data.data(), slot.rows, std::max<int64_t>(slot.columns, 1)});
  }
}

void Spins::fold(const deepmd_extended_request& request, const Sites& sites, const double* values,
                 const double* gradient) const {
  if (request.n_results < 1) return;
  const deepmd_result result = backend::element(request.results, 0);
  const int64_t nall = request.nall;
  const auto array = [](const deepmd_array& a) { return backend::numbers<double>(a, "a result"); };
  double *value = array(result.value), *force = array(result.force), *virial = array(result.virial),
         *atom_virial = array(result.atom_virial), *magnetic = array(result.force_mag);
  const auto* types = backend::numbers<int64_t>(request.atype, "atype");
  int64_t size = model_.output().size;
  for (int64_t a = 0; value && a < request.nloc; ++a) {
    std::copy_n(values + 2 * a * size, size, value + a * size);
  }
  if (!gradient) return;
  if (!sites.cotangent.empty()) size = 1;
  for (int64_t e = 0; e < sites.chunk.n_edges; ++e) {
    const int64_t i = sites.from[e], j = sites.to[e];
    const double* d = sites.between.data() + 3 * e;
    for (int64_t c = 0; c < size; ++c) {
      const double* g = gradient + (e * size + c) * 3;
      for (int64_t a = 0; a < 3; ++a) {
        if (force) {
          force[(c * nall + i / 2) * 3 + a] += g[a];
          force[(c * nall + j / 2) * 3 + a] -= g[a];
        }
        if (magnetic && i % 2 != 0) {
          magnetic[(c * nall + i / 2) * 3 + a] += g[a] * scale_[types[i / 2]];
        }
        if (magnetic && j % 2 != 0) {
          magnetic[(c * nall + j / 2) * 3 + a] -= g[a] * scale_[types[j / 2]];
        }
        for (int64_t b = 0; b < 3; ++b) {
          if (virial) virial[c * 9 + 3 * a + b] -= g[a] * d[b];
          if (atom_virial) atom_virial[(c * nall + j / 2) * 9 + 3 * a + b] -= g[a] * d[b];
        }
      }
    }
  }
}

}  // namespace deepmd::native
