// SPDX-License-Identifier: LGPL-3.0-or-later
#include "extended.h"

#include <algorithm>
#include <initializer_list>
#include <numeric>
#include <utility>

#include "backend/arrays.h"

namespace deepmd::core {

size_t ExtendedChunk::HashImage::operator()(const Image& image) const {
  uint64_t hash = 0;
  for (const int64_t x : image) hash = (hash ^ static_cast<uint64_t>(x)) * 0x9e3779b97f4a7c15u;
  return static_cast<size_t>(hash ^ (hash >> 29));
}

namespace {

/** Make an array of zeros for a result, or none where it is not wanted. */
deepmd_array zeros(std::vector<double>& data, bool wanted, std::initializer_list<int64_t> shape) {
  int64_t size = 1;
  for (const int64_t n : shape) size *= n;
  data.assign(wanted ? static_cast<size_t>(size) : 0, 0.0);
  return wanted ? backend::array_of(data.data(), shape) : deepmd_array{};
}

}  // namespace

void ExtendedChunk::add_atom(const System& system, Range range, int64_t atom,
                             const double* position) {
  const int64_t owner = system.owner[atom];
  atom_.push_back(atom);
  atype_.push_back(system.frame->atype[atom]);
  mapping_.push_back(owner >= range.first && owner < range.last ? owner - range.first : -1);
  coord_.insert(coord_.end(), position, position + 3);
}

void ExtendedChunk::find_atoms(const System& system, Range range, bool message_passing) {
  const double* coord = system.frame->coord;
  atom_.clear();
  atype_.clear();
  mapping_.clear();
  coord_.clear();
  images_.clear();
  for (int64_t c = range.first; c < range.last; ++c) {
    add_atom(system, range, system.centers[c], coord + 3 * system.centers[c]);
  }
  system.pairs->find(range.first, range.last, pairs_);
  const bool needs_owners = message_passing && !system.has_halo;
  center_.resize(static_cast<size_t>(pairs_.size()));
  neighbor_.resize(static_cast<size_t>(pairs_.size()));
  for (int64_t e = 0; e < pairs_.size(); ++e) {
    const int64_t i = pairs_.i[e], j = pairs_.j[e];
    const int32_t* s = &pairs_.shift[3 * e];
    const bool moved = s[0] != 0 || s[1] != 0 || s[2] != 0;
    center_[e] = system.owner[i] - range.first;
    if (!moved && system.is_center(j) && system.owner[j] >= range.first &&
        system.owner[j] < range.last) {
      neighbor_[e] = system.owner[j] - range.first;
      continue;
    }
    const auto [place, is_new] = images_.insert({Image{j, s[0], s[1], s[2]}, n_atoms()});
    neighbor_[e] = place->second;
    if (!is_new) continue;
    if (needs_owners && system.owner[j] < 0) fail_without_owner(j);
    double position[3];
    for (int a = 0; a < 3; ++a) {
      position[a] = moved ? coord[3 * i + a] + pairs_.vec[3 * e + a] : coord[3 * j + a];
    }
    add_atom(system, range, j, position);
  }
}

/** The neighbors (n, width) of the centers, the nearest first, cut to `sel`; -1: none. */
void ExtendedChunk::fill_table(const Info& info, const System& system, int64_t n) {
  Packing packing;
  packing.layout = info.mixed_types || info.has_spin ? Layout::mixed : Layout::typed;
  packing.ntypes = static_cast<int64_t>(info.type_map.size());
  packing.rcut = system.reach;
  // Which partners of the neighbors are among the nearest is seen inside, hence all of them.
  packing.sel = info.has_spin ? std::vector<int64_t>{pairs_.size()} : info.sel;
  overflow_ = {};
  // In the numbers of this chunk there are more atoms than centers; only these have edges.
  const std::vector<Slot>& slots =
      packer_.pack({packing},
                   {pairs_.size(), center_.data(), neighbor_.data(), pairs_.vec.data(),
                    pairs_.r2.data(), n, atype_.data(), nullptr},
                   &overflow_);
  width_ = info.has_spin ? slots.front().columns
                         : std::accumulate(info.sel.begin(), info.sel.end(), int64_t{0});
  width_ = std::max<int64_t>(width_, 1);
  table_.assign(static_cast<size_t>(n * width_), -1);
  for (int64_t c = 0; c < n; ++c) {
    row_.clear();
    for (const Slot& slot : slots) {
      for (int64_t k = c * slot.columns; k < (c + 1) * slot.columns; ++k) {
        if (slot.data[k] >= 0) row_.push_back(slot.data[k]);
      }
    }
    std::sort(row_.begin(), row_.end(), [this](int64_t a, int64_t b) {
      return std::make_pair(pairs_.r2[a], a) < std::make_pair(pairs_.r2[b], b);
    });
    for (size_t k = 0; k < row_.size(); ++k) table_[c * width_ + k] = neighbor_[row_[k]];
  }
}

void ExtendedChunk::prepare_results(const Info& info, const System& system, const Wanted& wanted,
                                    Range range) {
  const int64_t n = range.last - range.first;
  const size_t n_outputs = info.outputs.size();
  for (Arrays* arrays : {&value_, &force_, &force_mag_, &virial_, &atom_virial_}) {
    arrays->resize(n_outputs);
  }
  results_.clear();
  for (size_t k = 0; k < n_outputs; ++k) {
    const Output& output = info.outputs[k];
    const int64_t count = info.derivatives_of(k, !system.cotangent.empty());
    const bool derivatives = (wanted.derivatives || wanted.atom_virial) && count > 0;
    deepmd_result result{};
    result.struct_size = sizeof(result);
    result.name = output.name.c_str();
    result.value = zeros(value_[k], true, {n, output.size});
    result.force = zeros(force_[k], derivatives, {count, n_atoms(), 3});
    result.virial = zeros(virial_[k], derivatives, {count, 9});
    result.atom_virial =
        zeros(atom_virial_[k], derivatives && wanted.atom_virial, {count, n_atoms(), 9});
    result.force_mag = zeros(force_mag_[k], derivatives && info.has_spin, {count, n_atoms(), 3});
    if (k == 0 && derivatives && !system.cotangent.empty()) {
      result.cotangent =
          backend::array_of(system.cotangent.data() + range.first * output.size, {n, output.size});
    }
    results_.push_back(result);
  }
}

void ExtendedChunk::run(const BackendModel& model, const System& system, Range range,
                        const Wanted& wanted, int threads) {
  const Info& info = model.info();
  const int64_t n = range.last - range.first;
  find_atoms(system, range, info.message_passing);
  fill_table(info, system, n);
  inputs_.gather(system.inputs, system.centers.data() + range.first, n, 0);
  spin_.clear();
  for (int64_t a = 0; info.has_spin && a < n_atoms(); ++a) {
    const double* row = system.frame->spin + 3 * atom_[a];
    spin_.insert(spin_.end(), row, row + 3);
  }
  prepare_results(info, system, wanted, range);

  using backend::array_of;
  const bool mapped = system.owners_known && n == system.n();
  deepmd_extended_request request{};
  request.struct_size = sizeof(request);
  request.nloc = n;
  request.nall = n_atoms();
  request.nnei = width_;
  request.coord = array_of(coord_.data(), {n_atoms(), 3});
  request.atype = array_of(atype_.data(), {n_atoms()});
  request.nlist = array_of(table_.data(), {n, width_});
  if (mapped) request.mapping = array_of(mapping_.data(), {n_atoms()});
  if (info.has_spin) request.spin = array_of(spin_.data(), {n_atoms(), 3});
  request.inputs = inputs_.data();
  request.n_inputs = inputs_.size();
  request.results = results_.data();
  request.n_results = static_cast<int32_t>(results_.size());
  request.threads = threads;
  request.exchange = system.frame->list ? system.frame->list->exchange : nullptr;
  model.evaluate(request);
}

/** Add (size, atoms of this chunk, width) to (size, atoms of the frame, width). */
void ExtendedChunk::fold(const std::vector<double>& from, int64_t size, int64_t width,
                         int64_t n_all, std::vector<double>& to) const {
  for (int64_t c = 0; c < size; ++c) {
    for (int64_t a = 0; a < n_atoms(); ++a) {
      const double* source = from.data() + (c * n_atoms() + a) * width;
      double* target = to.data() + (c * n_all + atom_[a]) * width;
      for (int64_t k = 0; k < width; ++k) target[k] += source[k];
    }
  }
}

void ExtendedChunk::add(const Info& info, const System& system, Range range,
                        std::vector<Prediction>& predictions) const {
  const int64_t n_all = system.frame->nall;
  for (size_t k = 0; k < predictions.size(); ++k) {
    const int64_t size = info.outputs[k].size;
    const int64_t count = info.derivatives_of(k, !system.cotangent.empty());
    Prediction& p = predictions[k];
    for (int64_t c = range.first; c < std::min(range.last, system.n_local); ++c) {
      std::copy_n(value_[k].begin() + (c - range.first) * size, size,
                  p.atom_value.begin() + system.centers[c] * size);
    }
    if (force_[k].empty()) continue;
    fold(force_[k], count, 3, n_all, p.force);
    if (!force_mag_[k].empty()) fold(force_mag_[k], count, 3, n_all, p.force_mag);
    for (size_t a = 0; a < p.virial.size(); ++a) p.virial[a] += virial_[k][a];
    if (!atom_virial_[k].empty()) fold(atom_virial_[k], count, 9, n_all, p.atom_virial);
  }
}

}  // namespace deepmd::core
