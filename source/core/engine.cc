// SPDX-License-Identifier: LGPL-3.0-or-later
#include "engine.h"

#include <algorithm>
#include <numeric>

#include "assembly.h"
#include "backend/arrays.h"
#include "error.h"
#include "fragments.h"
#include "probes.h"
#include "threads.h"

namespace deepmd::core {

using backend::array_of;

namespace {

/** Centers whose neighbors are counted to estimate how many all have. */
constexpr int64_t kSamples = 32;

/** Into how many parts a small system is divided at most, whatever the number of threads. */
constexpr int64_t kPartsOfSmall = 8;

/** Predictions of the right sizes, all zero. */
std::vector<Prediction> empty_predictions(const Info& info, int64_t nall, const Wanted& wanted) {
  std::vector<Prediction> predictions(info.outputs.size());
  for (size_t k = 0; k < predictions.size(); ++k) {
    const Output& output = info.outputs[k];
    const auto size = static_cast<size_t>(output.size), n = static_cast<size_t>(nall);
    predictions[k].value.assign(size, 0.0);
    predictions[k].atom_value.assign(size * n, 0.0);
    const auto count = static_cast<size_t>(info.derivatives_of(k, wanted.cotangent != nullptr));
    if (count == 0) continue;
    if (wanted.derivatives || wanted.atom_virial) {
      predictions[k].force.assign(count * n * 3, 0.0);
      predictions[k].virial.assign(count * 9, 0.0);
      if (info.has_spin) predictions[k].force_mag.assign(count * n * 3, 0.0);
    }
    if (wanted.atom_virial) predictions[k].atom_virial.assign(count * n * 9, 0.0);
  }
  return predictions;
}

/** Sums over atoms, or means, in the order of the atoms. */
void add_totals(const Info& info, const System& system, std::vector<Prediction>& predictions) {
  for (size_t k = 0; k < predictions.size(); ++k) {
    const int64_t size = info.outputs[k].size;
    Prediction& p = predictions[k];
    int64_t contributing = 0;
    for (int64_t center = 0; center < system.n_local; ++center) {
      const int64_t a = system.centers[center];
      for (int64_t c = 0; c < size; ++c) p.value[c] += p.atom_value[a * size + c];
      contributing += info.contributing[system.frame->atype[a]];
    }
    if (info.outputs[k].intensive && contributing > 0) {
      for (double& x : p.value) x /= static_cast<double>(contributing);
    }
  }
}

/** The sum over fragments of a file with the models of a QM region and of its pairs. */
std::shared_ptr<Model> open_fragments(const BackendModel& whole, const OpenOptions& options) {
  const Info& info = whole.info();
  if (info.region_bias.empty()) {
    fail(info.path, "sums over fragments are evaluated by the native engine only",
         "leave the choice of the engine to this library: \"auto\"");
  }
  OpenOptions part = options;
  part.engine = "native";
  part.check_probes = false;
  part.scope = "qm_model";
  const std::shared_ptr<Model> qm = Model::open(info.path, part);
  part.scope = "qmmm_model";
  const std::shared_ptr<Model> qmmm = Model::open(info.path, part);
  auto sum = std::make_shared<Fragments>(info, qm, qmmm);
  if (options.check_probes) check_probes(*sum, whole.probes());
  return sum;
}

}  // namespace

std::shared_ptr<Model> Model::open(const std::string& path, const OpenOptions& options) {
  auto backend = std::make_unique<BackendModel>(path, options);
  if (backend->info().regions) return open_fragments(*backend, options);
  const std::vector<Probe> probes = backend->probes();
  auto engine = std::make_shared<Engine>(std::move(backend));
  if (options.check_probes) check_probes(*engine, probes);
  engine->forget_overflow();
  return engine;
}

std::vector<Prediction> Engine::evaluate(const Frame& frame, const Wanted& wanted) {
  const bool gradients = wanted.derivatives || wanted.atom_virial;
  if (gradients && wanted.cotangent) check_cotangent();
  const bool of_ranks = uses_halo(frame, info()) || uses_exchange(frame, info());
  if (gradients && !wanted.cotangent && of_ranks) {
    return evaluate_components(frame, wanted);
  }
  std::vector<Prediction> predictions = empty_predictions(info(), frame.nall, wanted);
  const System system = make_system(frame, info(), gradients ? wanted.cotangent : nullptr);
  // A rank without atoms takes part in exchanges.
  if (system.n_local == 0 && !system.exchanges) return predictions;
  evaluate_chunks(system, wanted, predictions);
  add_totals(info(), system, predictions);
  return predictions;
}

/** Throw unless the first output has a vector-Jacobian product here. */
void Engine::check_cotangent() const {
  if (!info().outputs.front().differentiable) {
    fail(info().path, "\"" + info().outputs.front().name + "\" has no derivatives",
         "ask for the values only");
  }
  // Of a local model every edge belongs to one atom.
  if (backend_->has_cotangents() || (backend_->has_edges() && !info().message_passing)) return;
  fail(info().path,
       "the file has no derivatives of weighted sums over atoms, which several ranks need for "
       "models that pass messages, and long-range models for dipoles",
       "write it anew as .pth with this release (dp convert-backend), or run one rank");
}

/**
 * Derivatives of what this rank's atoms have, where some ghosts are evaluated, too.
 *
 * Those of the first output: nobody asks for others.
 */
std::vector<Prediction> Engine::evaluate_components(const Frame& frame, const Wanted& wanted) {
  const Output& first = info().outputs.front();
  Wanted one = wanted;
  if (!first.differentiable) {
    one.derivatives = one.atom_virial = false;
    return evaluate(frame, one);
  }
  const int64_t nloc = std::max<int64_t>(frame.nall - frame.nghost, 0);
  std::vector<Prediction> all;
  for (int64_t c = 0; c < first.size; ++c) {
    // One number more, so that there is memory without atoms.
    std::vector<double> cotangent(static_cast<size_t>(nloc * first.size + 1), 0.0);
    for (int64_t a = 0; a < nloc; ++a) cotangent[a * first.size + c] = 1.0;
    one.cotangent = cotangent.data();
    std::vector<Prediction> found = evaluate(frame, one);
    if (wanted.atom_virial && frame.list->unfolded) unfold(frame, cotangent, found.front());
    if (c == 0) {
      all = std::move(found);
      continue;
    }
    for (const auto array : {&Prediction::force, &Prediction::force_mag, &Prediction::virial,
                             &Prediction::atom_virial}) {
      const std::vector<double>& part = found.front().*array;
      (all.front().*array).insert((all.front().*array).end(), part.begin(), part.end());
    }
  }
  return all;
}

/**
 * Replace the virials of atoms by those that the heat flux needs.
 *
 * With B_b = sum_k w_k r_kb e_k, in which r_kb is not differentiated, the sum over k of
 * (r_i - r_k)_b de_k/dr_ia is r_ib dE/dr_ia - dB_b/dr_ia: one more evaluation per direction
 * (Langer et al., Phys. Rev. B 108, L100302 (2023)). Ghosts are places of their own here.
 */
void Engine::unfold(const Frame& frame, const std::vector<double>& weights, Prediction& found) {
  const int64_t size = info().outputs.front().size;
  for (int b = 0; b < 3; ++b) {
    // From an atom of this rank on: large coordinates would cost digits.
    const double origin = frame.nall > 0 ? frame.coord[b] : 0.0;
    std::vector<double> moved = weights;
    for (size_t k = 0; k + 1 < moved.size(); ++k) {
      moved[k] *= frame.coord[3 * (static_cast<int64_t>(k) / size) + b] - origin;
    }
    Wanted one;
    one.cotangent = moved.data();
    const std::vector<double> of_moved = std::move(evaluate(frame, one).front().force);
    for (int64_t i = 0; i < frame.nall; ++i) {
      for (int64_t a = 0; a < 3; ++a) {
        const double place = frame.coord[3 * i + b] - origin;
        found.atom_virial[9 * i + 3 * a + b] = place * found.force[3 * i + a] - of_moved[3 * i + a];
      }
    }
  }
}

void Engine::evaluate_chunks(const System& system, const Wanted& wanted,
                             std::vector<Prediction>& predictions) {
  const bool gradients = wanted.derivatives || wanted.atom_virial;
  std::vector<std::unique_ptr<Workspace>> workspaces;
  workspaces.push_back(take_workspace());
  const std::vector<Range> ranges = chunks(system, *workspaces[0]);
  const auto n = static_cast<int64_t>(ranges.size());
  // An accelerator does one call after the other; a second thread prepares the next one.
  const int threads = backend_->chunk_edges() > 0 ? std::min(threads_, 2) : threads_;
  const int inside = static_cast<int>(std::max<int64_t>(threads / n, 1));
  const int buffers = buffers_for(n, threads);
  while (static_cast<int>(workspaces.size()) < buffers) workspaces.push_back(take_workspace());
  run_in_order(
      n, threads,
      [&](int64_t k, int b) {
        Workspace& w = *workspaces[b];
        if (backend_->has_edges()) {
          run_chunk(system, ranges[k], gradients, inside, w);
        } else {
          w.extended.run(*backend_, system, ranges[k], wanted, inside);
        }
      },
      [&](int64_t k, int b) {
        const Workspace& w = *workspaces[b];
        if (backend_->has_edges()) {
          add_chunk(system, ranges[k], gradients, w, predictions);
        } else {
          w.extended.add(info(), system, ranges[k], predictions);
        }
        note(backend_->has_edges() ? w.overflow : w.extended.overflow());
      });
  give_workspaces(workspaces);
}

/**
 * Divide the centers, by nothing but the input, so that the sums do not depend on the machine.
 *
 * A local model's atom depends on its own edges and its neighbors' types only, so any range of
 * centers will do; messages need all atoms at once.
 */
std::vector<Range> Engine::chunks(const System& system, Workspace& workspace) const {
  const int64_t n = system.n();
  if (info().message_passing) return {{0, n}};
  const int64_t samples = std::min(n, kSamples);
  int64_t edges = 0;
  for (int64_t s = 0; s < samples; ++s) {
    const int64_t center = s * n / samples;
    system.pairs->find(center, center + 1, workspace.pairs);
    edges += workspace.pairs.size() + 1;  // the atom counts, or lonely ones would pile up
  }
  // Tables of fixed width are as large as `sel` says, whether they are full or not.
  const int64_t width = std::accumulate(info().sel.begin(), info().sel.end(), int64_t{1});
  if (info().has_spin) edges *= 2 * Partners::per_center(info());
  const int64_t total = backend_->has_edges() ? edges * n / samples : n * width;
  const int64_t size = backend_->chunk_edges() > 0 ? backend_->chunk_edges() : kEdgesPerChunk;
  int64_t parts = (total + size - 1) / size;
  if (backend_->least_edges() > 0) {
    parts = std::max(parts, std::min(kPartsOfSmall, total / backend_->least_edges()));
  }
  parts = std::clamp<int64_t>(parts, 1, n);
  std::vector<Range> ranges;
  ranges.reserve(static_cast<size_t>(parts));
  for (int64_t k = 0; k < parts; ++k) ranges.push_back({k * n / parts, (k + 1) * n / parts});
  return ranges;
}

/** The centers, then one atom per type that stands for all neighbors of which only it matters. */
void Engine::describe_atoms(const System& system, Range range, Workspace& w) const {
  const Frame& frame = *system.frame;
  const int64_t n = range.last - range.first;
  const int64_t first_type = system.centers.empty() ? 0 : frame.atype[system.centers[0]];
  if (info().has_spin) {
    w.partners.expand(system, info(), range, w.pairs, {w.i, w.j, w.atype});
    w.partners.gather(system, info(), range, w.inputs);
    w.frame.assign(w.atype.size(), 0);
    w.first_type.assign(w.atype.size(), first_type);
    return;
  }
  const auto ntypes = static_cast<int64_t>(info().type_map.size());
  w.atype.resize(static_cast<size_t>(n + ntypes));
  w.frame.assign(static_cast<size_t>(n + ntypes), 0);
  w.first_type.assign(static_cast<size_t>(n + ntypes), first_type);
  for (int64_t k = 0; k < n; ++k) {
    w.atype[k] = frame.atype[system.centers[range.first + k]];
  }
  std::iota(w.atype.begin() + n, w.atype.end(), int64_t{0});
  w.inputs.gather(system.inputs, system.centers.data() + range.first, n, ntypes);
}

void Engine::run_chunk(const System& system, Range range, bool gradients, int threads,
                       Workspace& w) const {
  const Frame& frame = *system.frame;
  const int64_t n = range.last - range.first;
  system.pairs->find(range.first, range.last, w.pairs);
  describe_atoms(system, range, w);
  const int64_t n_edges = w.pairs.size();
  w.i.resize(static_cast<size_t>(n_edges));
  w.j.resize(static_cast<size_t>(n_edges));
  for (int64_t e = 0; !info().has_spin && e < n_edges; ++e) {
    const int64_t j = w.pairs.j[e];
    w.i[e] = system.owner[w.pairs.i[e]] - range.first;
    const bool known = info().message_passing && system.owner[j] >= 0;
    if (info().message_passing && !known && !system.has_halo) fail_without_owner(j);
    w.j[e] = known ? system.owner[j] : n + frame.atype[j];
  }
  const auto n_atoms = static_cast<int64_t>(w.atype.size());
  w.overflow = {};
  const std::vector<Slot>& slots =
      w.packer.pack(info().packings,
                    {n_edges, w.i.data(), w.j.data(), w.pairs.vec.data(), w.pairs.r2.data(),
                     n_atoms, w.atype.data(), w.first_type.data()},
                    &w.overflow);
  w.slots.clear();
  w.slots.reserve(slots.size());
  for (const Slot& s : slots) {
    w.slots.push_back(s.columns < 0 ? array_of(s.data.data(), {s.rows})
                                    : array_of(s.data.data(), {s.rows, s.columns}));
  }
  prepare_results(system, range, gradients, n_edges, w);

  deepmd_edges_request request{};
  request.struct_size = sizeof(request);
  request.n_edges = n_edges;
  request.n_atoms = n_atoms;
  request.n_frames = 1;
  request.vec = array_of(w.pairs.vec.data(), {n_edges, 3});
  request.i = array_of(w.i.data(), {n_edges});
  request.j = array_of(w.j.data(), {n_edges});
  request.atype = array_of(w.atype.data(), {n_atoms});
  request.frame = array_of(w.frame.data(), {n_atoms});
  request.inputs = w.inputs.data();
  request.n_inputs = w.inputs.size();
  request.slots = w.slots.data();
  request.n_slots = static_cast<int32_t>(w.slots.size());
  request.results = w.results.data();
  request.n_results = static_cast<int32_t>(w.results.size());
  request.threads = threads;
  request.exchange = frame.list ? frame.list->exchange : nullptr;
  if (system.exchanges) {
    const int64_t each = info().has_spin ? Partners::per_center(info()) : 1;
    request.exchange = w.exchange.begin(system, each);
    request.n_owned = std::max<int64_t>(each * system.n_local, 1);
  }
  backend_->evaluate(request);
  if (gradients && !w.cotangent.empty() && !backend_->has_cotangents()) contract(n_edges, w);
}

/** Contract the gradients of components with the cotangent of the center of each edge. */
void Engine::contract(int64_t n_edges, Workspace& w) const {
  const int64_t size = info().outputs.front().size;
  std::vector<double>& gradient = w.gradients.front();
  for (int64_t e = 0; e < n_edges; ++e) {
    const double* weights = w.cotangent.data() + w.i[e] * size;
    double sum[3] = {};
    for (int64_t c = 0; c < size; ++c) {
      for (int64_t a = 0; a < 3; ++a) sum[a] += weights[c] * gradient[(e * size + c) * 3 + a];
    }
    std::copy_n(sum, 3, gradient.begin() + 3 * e);
  }
}

/** With a cotangent that the backend does not take, all components of the first output. */
void Engine::prepare_results(const System& system, Range range, bool gradients, int64_t n_edges,
                             Workspace& w) const {
  const std::vector<Output>& outputs = info().outputs;
  const auto n_atoms = static_cast<int64_t>(w.atype.size());
  const bool weighted = gradients && !system.cotangent.empty();
  w.cotangent.clear();
  if (weighted) {
    const int64_t size = outputs.front().size;
    const int64_t each = info().has_spin ? Partners::per_center(info()) : 1;
    w.cotangent.assign(static_cast<size_t>(n_atoms * size), 0.0);
    for (int64_t c = range.first; c < range.last; ++c) {
      std::copy_n(system.cotangent.begin() + c * size, size,
                  w.cotangent.begin() + (c - range.first) * each * size);
    }
  }
  w.values.resize(outputs.size());
  w.gradients.resize(outputs.size());
  w.results.clear();
  for (size_t k = 0; k < outputs.size(); ++k) {
    const bool gradient = gradients && info().derivatives_of(k, weighted) > 0;
    const bool taken = weighted && backend_->has_cotangents();
    const int64_t size = outputs[k].size, count = info().derivatives_of(k, taken);
    w.values[k].resize(static_cast<size_t>(n_atoms * size));
    w.gradients[k].resize(gradient ? static_cast<size_t>(n_edges * count * 3) : 0);
    deepmd_result result{};
    result.struct_size = sizeof(result);
    result.name = outputs[k].name.c_str();
    result.value = array_of(w.values[k].data(), {n_atoms, size});
    // A pointer that is not null says that the gradient is wanted, even without edges.
    if (gradient && n_edges == 0) w.gradients[k].reserve(1);
    if (gradient) result.gradient = array_of(w.gradients[k].data(), {n_edges, count, 3});
    if (gradient && taken) result.cotangent = array_of(w.cotangent.data(), {n_atoms, size});
    w.results.push_back(result);
  }
}

void Engine::add_chunk(const System& system, Range range, bool gradients, const Workspace& w,
                       std::vector<Prediction>& predictions) const {
  for (size_t k = 0; k < predictions.size(); ++k) {
    const Output& output = info().outputs[k];
    Prediction& p = predictions[k];
    const int64_t row = output.size * (info().has_spin ? Partners::per_center(info()) : 1);
    for (int64_t c = range.first; c < std::min(range.last, system.n_local); ++c) {
      std::copy_n(w.values[k].begin() + (c - range.first) * row, output.size,
                  p.atom_value.begin() + system.centers[c] * output.size);
    }
    const int64_t count = info().derivatives_of(k, !system.cotangent.empty());
    if (!gradients || count == 0) continue;
    const std::vector<double>& vec = info().has_spin ? w.partners.atom_vectors() : w.pairs.vec;
    add_derivatives(w.gradients[k].data(), vec.data(), w.pairs.i.data(), w.pairs.j.data(),
                    w.pairs.size(), count,
                    {system.frame->nall, p.force.data(), p.virial.data(),
                     p.atom_virial.empty() ? nullptr : p.atom_virial.data()});
    if (info().has_spin) {
      w.partners.add_force_mag(system, info(), w.pairs, w.gradients[k].data(), count,
                               p.force_mag.data());
    }
  }
}

void Engine::note(const Overflow& overflow) {
  overflow_ += overflow.centers;
  int64_t most = most_;
  while (most < overflow.most && !most_.compare_exchange_weak(most, overflow.most)) {
  }
}

std::unique_ptr<Engine::Workspace> Engine::take_workspace() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (spare_.empty()) return std::make_unique<Workspace>();
  std::unique_ptr<Workspace> workspace = std::move(spare_.back());
  spare_.pop_back();
  return workspace;
}

void Engine::give_workspaces(std::vector<std::unique_ptr<Workspace>>& workspaces) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& workspace : workspaces) spare_.push_back(std::move(workspace));
}

}  // namespace deepmd::core
