// SPDX-License-Identifier: LGPL-3.0-or-later
#include "session.h"

#include <iostream>
#include <numeric>
#include <optional>
#include <utility>

#include "core/error.h"
#include "deepmd/common.h"

namespace deepmd {

namespace {

thread_local bool probes_wanted = true;

std::string expected(const std::string& name, size_t size, const std::string& shape) {
  return name + " has " + std::to_string(size) + " numbers, but " + shape;
}

/** Number of frames, of coord (nframes, natoms, 3) and box (nframes, 9). */
int64_t count_frames(const std::string& where, const Request& request, size_t natoms) {
  if (request.mixed_frames >= 0) {
    return request.mixed_frames;
  }
  if (natoms == 0) {
    return request.box.empty() ? 1 : static_cast<int64_t>(request.box.size() / 9);
  }
  if (request.coord.empty() || request.coord.size() % (3 * natoms) != 0) {
    core::fail(where, expected("coord", request.coord.size(),
                               std::to_string(natoms) + " atoms (the size of atype) need " +
                                   std::to_string(3 * natoms) + " per frame"));
  }
  return static_cast<int64_t>(request.coord.size() / (3 * natoms));
}

void check_size(const std::string& where, const std::string& name, size_t size, size_t nframes,
                size_t per_frame) {
  if (size != nframes * per_frame) {
    core::fail(where, expected(name, size,
                               std::to_string(nframes) + " frames of " + std::to_string(per_frame) +
                                   " need " + std::to_string(nframes * per_frame)));
  }
}

/** A parameter that is given per frame, once for all, or not at all. */
class Parameter {
 public:
  Parameter(const std::string& where, const std::string& name, const std::vector<double>& given,
            size_t per_frame, size_t nframes)
      : given_(given), per_frame_(per_frame), step_(given.size() == per_frame ? 0 : per_frame) {
    if (!given.empty() && given.size() != per_frame && given.size() != nframes * per_frame) {
      core::fail(where,
                 expected(name, given.size(),
                          per_frame == 0 ? "the model takes none"
                                         : "needs " + std::to_string(per_frame) +
                                               " for all frames, or as many for each of the " +
                                               std::to_string(nframes) + " frames"));
    }
  }

  const double* frame(int64_t k) const {
    return given_.empty() || per_frame_ == 0 ? nullptr : given_.data() + k * step_;
  }

 private:
  const std::vector<double>& given_;
  size_t per_frame_;
  size_t step_;
};

core::NeighborList neighbor_list(const InputNlist& list) {
  core::NeighborList neighbors;
  neighbors.inum = list.inum;
  neighbors.ilist = list.ilist;
  neighbors.numneigh = list.numneigh;
  neighbors.firstneigh = list.firstneigh;
  neighbors.mask = list.mask;
  neighbors.mapping = list.mapping;
  neighbors.nprocs = list.nprocs;
  neighbors.halo = list.halo;
  neighbors.unfolded = list.unfolded;
  return neighbors;
}

/** The functions of a list in the form of backend.h. */
class Exchange {
 public:
  explicit Exchange(const InputNlist& list) : list_(list) {
    functions_ = {sizeof(functions_), this, call<&InputNlist::to_ghosts>,
                  call<&InputNlist::to_owners>};
  }
  const deepmd_exchange* functions() const {
    return list_.to_ghosts && list_.to_owners ? &functions_ : nullptr;
  }

 private:
  template <InputNlist::Exchange InputNlist::*function>
  static int call(void* context, const deepmd_array* values, char*, size_t) {
    const InputNlist& list = static_cast<Exchange*>(context)->list_;
    return (list.*function)(list.exchange_context, static_cast<double*>(values->data),
                            static_cast<int>(values->shape[1]));
  }

  const InputNlist& list_;
  deepmd_exchange functions_{};
};

/** Parameters of every atom where they were given once for all atoms. */
std::vector<double> repeat_for_atoms(const std::vector<double>& aparam, size_t nloc, size_t dim) {
  std::vector<double> repeated;
  if (aparam.size() == dim && nloc > 1) {
    repeated.reserve(nloc * dim);
    for (size_t atom = 0; atom < nloc; ++atom) {
      repeated.insert(repeated.end(), aparam.begin(), aparam.end());
    }
  }
  return repeated;
}

}  // namespace

bool check_probes(bool on) { return std::exchange(probes_wanted, on); }

std::shared_ptr<Session> open_session(const std::string& path, int gpu_rank,
                                      const std::string& content, const std::string& engine,
                                      Kind kind, const std::string& scope) {
  core::OpenOptions options;
  options.gpu_rank = gpu_rank;
  options.content = content;
  options.check_probes = probes_wanted;
  options.engine = engine;
  options.scope = scope;
  auto session = std::make_shared<Session>();
  session->model = core::Model::open(path, options);
  const core::Info& info = session->model->info();
  if (info.outputs.empty()) {
    core::fail(path, "it predicts nothing");
  }
  const bool tensor = kind == Kind::tensor;
  const bool energy = info.outputs.front().name == "energy";
  if (energy && tensor) {
    core::fail(path, "it predicts energies", "open it with DeepPot");
  }
  if (!energy && !tensor) {
    core::fail(path, "it predicts \"" + info.outputs.front().name + "\", not energies",
               "open it with DeepTensor");
  }
  if (info.has_spin && kind != Kind::spin) {
    core::fail(path, "its atoms carry spins",
               "open it with DeepSpin; in LAMMPS: pair_style deepspin");
  }
  if (!info.has_spin && kind == Kind::spin) {
    core::fail(path, "its atoms carry no spins",
               "open it with DeepPot; in LAMMPS: pair_style deepmd");
  }
  session->sel_types = info.sel_type;
  if (info.sel_type.empty()) {
    session->sel_types.resize(info.type_map.size());
    std::iota(session->sel_types.begin(), session->sel_types.end(), 0);
  }
  return session;
}

Session& opened(const std::shared_ptr<Session>& session, const char* what) {
  if (!session) {
    core::fail(what, "no model is open", "call init with the name of a model file first");
  }
  return *session;
}

std::string type_names(const core::Info& info) {
  std::string names;
  for (const std::string& name : info.type_map) {
    names += (names.empty() ? "" : " ") + name;
  }
  return names;
}

void print_summary(const std::string& pre, const core::Info& info) {
  print_summary(pre);
  std::cout << pre << info.path << ": " << info.framework << ", cutoff " << info.rcut
            << " A, types " << type_names(info) << std::endl;
}

void set_charge_spin(Session& session, const std::vector<double>& charge_spin) {
  const core::Info& info = session.model->info();
  if (static_cast<int>(charge_spin.size()) != info.size_of("charge_spin")) {
    core::fail(info.path,
               expected("charge_spin", charge_spin.size(),
                        "the model takes " + std::to_string(info.size_of("charge_spin"))));
  }
  session.charge_spin = charge_spin;
}

std::vector<core::Prediction> evaluate(Session& session, const Request& request,
                                       const core::Wanted& wanted) {
  const core::Info& info = session.model->info();
  const std::string& where = info.path;
  const bool mixed = request.mixed_frames >= 0;
  if (mixed && (request.mixed_frames == 0 || request.atype.size() % request.mixed_frames != 0)) {
    core::fail(where, expected("atype", request.atype.size(),
                               "it shall hold " + std::to_string(request.mixed_frames) +
                                   " frames with equally many atoms"));
  }
  const size_t nall = mixed ? request.atype.size() / request.mixed_frames : request.atype.size();
  const size_t nframes = count_frames(where, request, nall);
  if (request.nghost < 0 || static_cast<size_t>(request.nghost) > nall) {
    core::fail(where, std::to_string(request.nghost) + " of " + std::to_string(nall) +
                          " atoms shall be ghosts");
  }
  check_size(where, "coord", request.coord.size(), nframes, 3 * nall);
  if (request.spin) {
    check_size(where, "spin", request.spin->size(), nframes, 3 * nall);
  }
  if (!request.box.empty()) {
    check_size(where, "box", request.box.size(), nframes, 9);
  }
  const size_t nloc = nall - request.nghost;
  const std::vector<double> repeated =
      repeat_for_atoms(request.aparam, nloc, info.size_of("aparam"));
  const auto& charge_spin = request.charge_spin.empty() ? session.charge_spin : request.charge_spin;
  const Parameter fparam(where, "fparam", request.fparam, info.size_of("fparam"), nframes);
  const Parameter aparam(where, "aparam", repeated.empty() ? request.aparam : repeated,
                         nloc * info.size_of("aparam"), nframes);
  const Parameter charges(where, "charge_spin", charge_spin, info.size_of("charge_spin"), nframes);

  core::NeighborList list;
  std::optional<Exchange> exchange;
  core::Frame frame;
  frame.nall = static_cast<int64_t>(nall);
  frame.nghost = request.nghost;
  if (request.list) {
    list = neighbor_list(*request.list);
    exchange.emplace(*request.list);
    list.exchange = exchange->functions();
    frame.list = &list;
  }
  std::vector<core::Prediction> predictions;
  for (size_t k = 0; k < nframes; ++k) {
    frame.coord = request.coord.data() + k * 3 * nall;
    frame.atype = request.atype.data() + (mixed ? k * nall : 0);
    frame.spin = request.spin ? request.spin->data() + k * 3 * nall : nullptr;
    frame.cell = request.box.empty() ? nullptr : request.box.data() + 9 * k;
    frame.fparam = fparam.frame(k);
    frame.aparam = aparam.frame(k);
    frame.chg_spin = charges.frame(k);
    predictions.push_back(std::move(session.model->evaluate(frame, wanted).front()));
  }
  return predictions;
}

}  // namespace deepmd
