// SPDX-License-Identifier: LGPL-3.0-or-later
#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "engine.h"

namespace deepmd::core {

namespace {

/** A periodic image of an atom, or a ghost that was given. */
struct Image {
  int64_t atom;
  int32_t shift[3];

  bool operator==(const Image& o) const {
    return atom == o.atom && std::equal(shift, shift + 3, o.shift);
  }
};

struct HashImage {
  size_t operator()(const Image& image) const {
    auto hash = static_cast<uint64_t>(image.atom);
    for (const int32_t s : image.shift) {
      hash = hash * 0x9e3779b97f4a7c15u + static_cast<uint32_t>(s);
    }
    return static_cast<size_t>(hash ^ (hash >> 29));
  }
};

/** Centres, then all other atoms and images that are neighbours. */
struct Extended {
  std::vector<int64_t> atom;       ///< (nall): the frame's atom that gets the force
  std::vector<int64_t> mapping;    ///< (nall)
  std::vector<int64_t> atype;      ///< (nall)
  std::vector<double> coord;       ///< (nall, 3)
  std::vector<int64_t> neighbor;   ///< per pair

  int64_t size() const { return static_cast<int64_t>(atom.size()); }

  void add(const System& system, int64_t a, const double* position) {
    atom.push_back(a);
    atype.push_back(system.frame->atype[a]);
    mapping.push_back(system.owner[a]);
    coord.insert(coord.end(), position, position + 3);
  }
};

Extended extend(const System& system, const Pairs& pairs, bool message_passing) {
  Extended all;
  const double* coord = system.frame->coord;
  for (const int64_t a : system.centres) all.add(system, a, coord + 3 * a);
  std::unordered_map<Image, int64_t, HashImage> known;
  for (int64_t e = 0; e < pairs.size(); ++e) {
    const int64_t j = pairs.j[e];
    const int32_t* s = &pairs.shift[3 * e];
    const bool moved = s[0] != 0 || s[1] != 0 || s[2] != 0;
    if (!moved && j < system.nloc) {
      all.neighbor.push_back(system.owner[j]);
      continue;
    }
    const auto [place, is_new] = known.insert({Image{j, {s[0], s[1], s[2]}}, all.size()});
    all.neighbor.push_back(place->second);
    if (!is_new) continue;
    if (message_passing && system.owner[j] < 0) fail_without_owner(j);
    double position[3];
    const double* at = coord + 3 * pairs.i[e];
    for (int a = 0; a < 3; ++a) {
      position[a] = moved ? at[a] + pairs.vec[3 * e + a] : coord[3 * j + a];
    }
    all.add(system, j, position);
  }
  return all;
}

/** The neighbours (n, width) of the centres, the nearest first, cut to `sel`; -1: none. */
std::vector<int64_t> neighbor_table(const BackendModel& backend, const System& system,
                                    const Pairs& pairs, const Extended& all, int64_t width,
                                    Overflow& overflow) {
  const Info& info = backend.info();
  Packing packing;
  packing.layout = backend.mixed_types() ? Layout::mixed : Layout::typed;
  packing.ntypes = static_cast<int64_t>(info.type_map.size());
  packing.rcut = info.rcut;
  packing.sel = info.sel;
  std::vector<int64_t> centre(pairs.i.size());
  for (size_t e = 0; e < centre.size(); ++e) centre[e] = system.owner[pairs.i[e]];
  Packer packer;
  const std::vector<Slot>& slots =
      packer.pack({packing},
                  {pairs.size(), centre.data(), all.neighbor.data(), pairs.r2.data(), system.n(),
                   all.atype.data(), nullptr},
                  &overflow);
  std::vector<int64_t> table(static_cast<size_t>(system.n() * width), -1);
  std::vector<int64_t> row;
  for (int64_t c = 0; c < system.n(); ++c) {
    row.clear();
    for (const Slot& slot : slots) {
      for (int64_t k = 0; k < slot.columns; ++k) {
        if (slot.data[c * slot.columns + k] >= 0) row.push_back(slot.data[c * slot.columns + k]);
      }
    }
    std::sort(row.begin(), row.end(), [&](int64_t a, int64_t b) {
      return std::make_pair(pairs.r2[a], a) < std::make_pair(pairs.r2[b], b);
    });
    for (size_t k = 0; k < row.size(); ++k) table[c * width + k] = all.neighbor[row[k]];
  }
  return table;
}

/** Per output an array, or null where it is not wanted. */
struct Arrays {
  std::vector<std::vector<double>> data;
  std::vector<double*> pointers;

  void add(bool wanted, int64_t size) {
    data.emplace_back(wanted ? static_cast<size_t>(size) : 0, 0.0);
    pointers.push_back(wanted ? data.back().data() : nullptr);
  }
};

/** Add (size, nall, width) of the extended atoms to those of the frame. */
void fold(const std::vector<double>& from, const Extended& all, int64_t size, int64_t width,
          int64_t n_atoms, std::vector<double>& to) {
  for (int64_t c = 0; c < size; ++c) {
    for (int64_t a = 0; a < all.size(); ++a) {
      for (int64_t k = 0; k < width; ++k) {
        to[(c * n_atoms + all.atom[a]) * width + k] += from[(c * all.size() + a) * width + k];
      }
    }
  }
}

}  // namespace

void evaluate_extended(const BackendModel& backend, const System& system, const Wanted& wanted,
                       int threads, std::vector<Prediction>& predictions, Overflow& overflow) {
  const Info& info = backend.info();
  const Frame& frame = *system.frame;
  Pairs pairs;
  system.pairs->find(0, system.n(), pairs);
  const Extended all = extend(system, pairs, info.message_passing);
  const int64_t width =
      std::max<int64_t>(std::accumulate(info.sel.begin(), info.sel.end(), int64_t{0}), 1);
  const std::vector<int64_t> table =
      neighbor_table(backend, system, pairs, all, width, overflow);
  std::vector<double> aparam;
  for (const int64_t a : system.centres) {
    const double* row = frame.aparam + (info.dim_aparam ? a * info.dim_aparam : 0);
    aparam.insert(aparam.end(), row, row + info.dim_aparam);
  }
  Arrays value, force, virial, atom_virial;
  for (const Output& output : info.outputs) {
    const bool derivatives =
        (wanted.derivatives || wanted.atom_virial) && output.differentiable;
    value.add(true, system.n() * output.size);
    force.add(derivatives, output.size * all.size() * 3);
    virial.add(derivatives, output.size * 9);
    atom_virial.add(derivatives && wanted.atom_virial, output.size * all.size() * 9);
  }

  deepmd_extended_request request{};
  request.struct_size = sizeof(request);
  request.nloc = system.n();
  request.nall = all.size();
  request.nnei = width;
  request.coord = all.coord.data();
  request.atype = all.atype.data();
  request.nlist = table.data();
  request.mapping = system.owners_known ? all.mapping.data() : nullptr;
  request.fparam = info.dim_fparam ? system.fparam.data() : nullptr;
  request.aparam = info.dim_aparam ? aparam.data() : nullptr;
  request.chg_spin = info.dim_chg_spin ? system.chg_spin.data() : nullptr;
  request.threads = threads;
  request.value = value.pointers.data();
  request.force = force.pointers.data();
  request.virial = virial.pointers.data();
  request.atom_virial = atom_virial.pointers.data();
  backend.evaluate(request);

  for (size_t k = 0; k < predictions.size(); ++k) {
    const int64_t size = info.outputs[k].size;
    Prediction& p = predictions[k];
    for (int64_t c = 0; c < system.n(); ++c) {
      std::copy_n(value.data[k].begin() + c * size, size,
                  p.atom_value.begin() + system.centres[c] * size);
    }
    if (!force.pointers[k]) continue;
    fold(force.data[k], all, size, 3, frame.nall, p.force);
    p.virial = virial.data[k];
    if (atom_virial.pointers[k]) fold(atom_virial.data[k], all, size, 9, frame.nall, p.atom_virial);
  }
}

}  // namespace deepmd::core
