// SPDX-License-Identifier: LGPL-3.0-or-later
#include "partners.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace deepmd::core {

namespace {

/** Distances below this [Å] are taken for it: where neighbors are chosen, zero is none. */
constexpr double kShortest = 1e-20;

/** Add `sign` times the displacement of an atom's partner to a vector. */
void displace(const System& system, const Info& info, int64_t atom, double sign, double* vec) {
  const double scale = sign * info.spin_scale[system.frame->atype[atom]];
  const double* spin = system.frame->spin + 3 * atom;
  for (int a = 0; a < 3; ++a) vec[a] += scale * spin[a];
}

/** Whether a packing drops all pairs with partners of atoms without spin by itself. */
bool excludes_hidden(const Info& info, const Packing& packing) {
  std::set<std::pair<int, int>> known;
  for (const auto& [a, b] : packing.exclude) {
    known.insert({a, b});
    known.insert({b, a});
  }
  const auto n = static_cast<int>(info.use_spin.size());
  for (int t = 0; t < n; ++t) {
    for (int other = 0; !info.use_spin[t] && other < 2 * n; ++other) {
      if (!known.count({n + t, other})) return false;
    }
  }
  return true;
}

}  // namespace

void Partners::expand(const System& system, const Info& info, Range range, Pairs& pairs,
                      const ChunkNumbers& numbers) {
  std::swap(pairs, atoms_);
  pairs.resize(0);
  atom_vec_.clear();
  from_.clear();
  to_.clear();
  int64_t e = 0;
  // Ghosts whose messages other ranks have are no centers of edges, not of those to their partners.
  const int64_t last = system.exchanges ? std::min(range.last, system.n_local) : range.last;
  for (int64_t c = range.first; c < last; ++c) {
    const int64_t atom = system.centers[c], first = e;
    while (e < atoms_.size() && atoms_.i[e] == atom) ++e;
    add_center(system, info, atom, first, e, pairs);
  }
  if (!is_crowded(info, pairs)) drop_hidden(system, info, pairs);
  pairs.resize(pairs.size());  // its translations, too, which are of no use here
  number(system, info, range, pairs, numbers);
}

/** Edges of a center, and of its partner; those to partners first, which settles ties. */
void Partners::add_center(const System& system, const Info& info, int64_t atom, int64_t first,
                          int64_t last, Pairs& pairs) {
  constexpr double none[3] = {};
  for (const bool from : {false, true}) {
    if (from && per_center(info) == 1) continue;
    for (const bool to : {true, false}) {
      for (int64_t e = first; e < last; ++e) {
        add(system, info, {atom, atoms_.j[e], &atoms_.vec[3 * e], from, to}, pairs);
      }
      if (from != to) add(system, info, {atom, atom, none, from, to}, pairs);
    }
  }
}

void Partners::add(const System& system, const Info& info, const Edge& edge, Pairs& pairs) {
  double vec[3] = {edge.vec[0], edge.vec[1], edge.vec[2]};
  if (edge.to) displace(system, info, edge.j, 1.0, vec);
  if (edge.from) displace(system, info, edge.i, -1.0, vec);
  double r2 = vec[0] * vec[0] + vec[1] * vec[1] + vec[2] * vec[2];
  // Coincident atoms are not neighbors, but an atom without spin and its partner are.
  if (r2 > info.rcut * info.rcut || (r2 == 0.0 && edge.i != edge.j)) return;
  r2 = std::max(r2, kShortest * kShortest);
  pairs.i.push_back(edge.i);
  pairs.j.push_back(edge.j);
  pairs.vec.insert(pairs.vec.end(), vec, vec + 3);
  pairs.r2.push_back(r2);
  atom_vec_.insert(atom_vec_.end(), edge.vec, edge.vec + 3);
  from_.push_back(edge.from);
  to_.push_back(edge.to);
}

/** Whether partners of atoms without spin must stay, because they take the places of others. */
bool Partners::is_crowded(const Info& info, const Pairs& pairs) const {
  for (const Packing& p : info.packings) {
    if (p.layout == Layout::centers || p.layout == Layout::first_type) continue;
    if (!excludes_hidden(info, p)) return true;
    const int64_t most =
        p.nearest ? p.nearest : std::accumulate(p.sel.begin(), p.sel.end(), int64_t{0});
    int64_t count = 0;
    for (int64_t e = 0; e < pairs.size(); ++e) {
      if (e > 0 && (pairs.i[e] != pairs.i[e - 1] || from_[e] != from_[e - 1])) count = 0;
      count += pairs.r2[e] <= p.rcut * p.rcut;
      if (count > most) return true;
    }
  }
  return false;
}

void Partners::drop_hidden(const System& system, const Info& info, Pairs& pairs) {
  const int* atype = system.frame->atype;
  int64_t n = 0;
  for (int64_t e = 0; e < pairs.size(); ++e) {
    if (from_[e] && !info.use_spin[atype[pairs.i[e]]]) continue;
    if (to_[e] && !info.use_spin[atype[pairs.j[e]]]) continue;
    pairs.i[n] = pairs.i[e];
    pairs.j[n] = pairs.j[e];
    pairs.r2[n] = pairs.r2[e];
    std::copy_n(&pairs.vec[3 * e], 3, &pairs.vec[3 * n]);
    std::copy_n(&atom_vec_[3 * e], 3, &atom_vec_[3 * n]);
    from_[n] = from_[e];
    to_[n++] = to_[e];
  }
  pairs.resize(n);
  atom_vec_.resize(static_cast<size_t>(3 * n));
  from_.resize(static_cast<size_t>(n));
  to_.resize(static_cast<size_t>(n));
}

void Partners::number(const System& system, const Info& info, Range range, const Pairs& pairs,
                      const ChunkNumbers& numbers) const {
  const int* atype = system.frame->atype;
  const int64_t each = per_center(info), n = each * (range.last - range.first);
  const auto ntypes = static_cast<int64_t>(info.type_map.size());
  numbers.atype.clear();
  for (int64_t c = range.first; c < range.last; ++c) {
    for (int64_t k = 0; k < each; ++k) {
      numbers.atype.push_back(atype[system.centers[c]] + k * ntypes);
    }
  }
  for (int64_t t = 0; t < 2 * ntypes; ++t) numbers.atype.push_back(t);
  numbers.i.resize(static_cast<size_t>(pairs.size()));
  numbers.j.resize(static_cast<size_t>(pairs.size()));
  for (int64_t e = 0; e < pairs.size(); ++e) {
    const int64_t j = pairs.j[e];
    numbers.i[e] = each * (system.owner[pairs.i[e]] - range.first) + from_[e];
    const bool known = info.message_passing && system.owner[j] >= 0;
    if (info.message_passing && !known && !system.has_halo) fail_without_owner(j);
    numbers.j[e] = known ? each * system.owner[j] + to_[e] : n + atype[j] + (to_[e] ? ntypes : 0);
  }
}

void Partners::gather(const System& system, const Info& info, Range range, ChunkInputs& inputs) {
  const int64_t each = per_center(info), n = each * (range.last - range.first);
  const auto types = 2 * static_cast<int64_t>(info.type_map.size());
  centers_.clear();
  displacement_.assign(static_cast<size_t>(3 * (n + types)), 0.0);
  for (int64_t c = range.first; c < range.last; ++c) {
    const int64_t atom = system.centers[c];
    centers_.insert(centers_.end(), static_cast<size_t>(each), atom);
    if (each == 1) continue;
    const auto partner = static_cast<int64_t>(centers_.size()) - 1;
    displace(system, info, atom, 1.0, &displacement_[3 * partner]);
  }
  inputs.gather(system.inputs, centers_.data(), n, types);
  inputs.add_of_atoms("displacement", displacement_, 3);
}

void Partners::add_force_mag(const System& system, const Info& info, const Pairs& pairs,
                             const double* gradient, int64_t size, double* force_mag) const {
  const int* atype = system.frame->atype;
  for (int64_t c = 0; c < size; ++c) {
    double* mag = force_mag + 3 * c * system.frame->nall;
    for (int64_t e = 0; e < pairs.size(); ++e) {
      const int64_t i = pairs.i[e], j = pairs.j[e];
      const double* g = gradient + 3 * (e * size + c);
      const double of_i = from_[e] ? info.spin_scale[atype[i]] : 0.0;
      const double of_j = to_[e] ? info.spin_scale[atype[j]] : 0.0;
      for (int a = 0; a < 3; ++a) {
        mag[3 * i + a] += of_i * g[a];
        mag[3 * j + a] -= of_j * g[a];
      }
    }
  }
}

}  // namespace deepmd::core
