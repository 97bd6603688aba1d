// SPDX-License-Identifier: LGPL-3.0-or-later
#include "packing.h"

#include <algorithm>
#include <numeric>

namespace deepmd::core {

namespace {

/**
 * Relative difference of squared distances up to which two neighbors are equally far: those in a
 * crystal are equal up to rounding, which depends on where positions of images come from. It and
 * the direction of `projection` are those of deepmd/dpmodel, TIE and TIE_DIRECTION.
 */
constexpr double kTie = 1e-10;

/** Projection by which neighbors that are equally far are ordered; see kTie. */
double projection(const double* d) {
  return d[0] + d[1] * 0.7548776662466927 + d[2] * 0.5698402909980532;
}

}  // namespace

int64_t Packing::n_slots() const {
  switch (layout) {
    case Layout::centers:
      return ntypes;
    case Layout::first_type:
    case Layout::flat:
      return 1;
    case Layout::angles:
      return 2;
    case Layout::typed:
    case Layout::mixed:
      break;
  }
  const int64_t tables = layout == Layout::typed ? ntypes : 1;
  return by_centre ? ntypes * (1 + tables) : tables;
}

const std::vector<Slot>& Packer::pack(const std::vector<Packing>& packings, const Edges& edges,
                                      Overflow* overflow) {
  int64_t total = 0;
  for (const Packing& p : packings) total += p.n_slots();
  slots_.resize(static_cast<size_t>(total));
  first_edge_.assign(static_cast<size_t>(edges.n_atoms) + 1, 0);
  for (int64_t e = 0; e < edges.n_edges; ++e) ++first_edge_[edges.i[e] + 1];
  std::partial_sum(first_edge_.begin(), first_edge_.end(), first_edge_.begin());

  Slot* slots = slots_.data();
  for (const Packing& p : packings) {
    const int64_t most =
        p.nearest ? p.nearest : std::accumulate(p.sel.begin(), p.sel.end(), int64_t{0});
    switch (p.layout) {
      case Layout::centers:
        for (int64_t t = 0; t < p.ntypes; ++t) {
          slots[t].data.clear();
          slots[t].columns = -1;
        }
        for (int64_t a = 0; a < edges.n_atoms; ++a) slots[edges.atype[a]].data.push_back(a);
        for (int64_t t = 0; t < p.ntypes; ++t) {
          slots[t].rows = static_cast<int64_t>(slots[t].data.size());
        }
        break;
      case Layout::first_type:
        slots->data.assign(edges.first_type, edges.first_type + edges.n_atoms);
        slots->rows = edges.n_atoms;
        slots->columns = -1;
        break;
      case Layout::angles:
        fill_angles(p, edges, slots);
        break;
      case Layout::flat:
        select(p, false, p.rcut, most, edges, kept_, overflow);
        slots->data = kept_.edges;
        slots->rows = static_cast<int64_t>(kept_.edges.size());
        slots->columns = -1;
        break;
      case Layout::typed:
      case Layout::mixed:
        select(p, p.layout == Layout::typed, p.rcut, most, edges, kept_, overflow);
        fill_tables(p, edges, slots);
        break;
    }
    slots += p.n_slots();
  }
  return slots_;
}

void Packer::select(const Packing& p, bool typed, double rcut, int64_t most, const Edges& edges,
                    Kept& kept, Overflow* overflow) {
  const double limit = rcut * rcut;
  const size_t nt = static_cast<size_t>(p.ntypes);
  allowed_.assign(nt * nt, 1);
  for (const auto& [a, b] : p.exclude) {
    allowed_[a * nt + b] = allowed_[b * nt + a] = 0;
  }
  if (overflow && typed) overflow->needed.resize(nt, 0);
  kept.edges.resize(static_cast<size_t>(edges.n_edges));
  kept.starts.resize(static_cast<size_t>(edges.n_atoms) + 1);
  int64_t end = 0;
  for (int64_t a = 0; a < edges.n_atoms; ++a) {
    kept.starts[a] = end;
    int64_t* mine = kept.edges.data() + end;
    int64_t n = 0;
    for (int64_t e = first_edge_[a]; e < first_edge_[a + 1]; ++e) {
      // Atoms on top of each other are no pair; a list with a longer cutoff is cut to this one.
      if (edges.r2[e] <= limit && edges.r2[e] > 0.0) mine[n++] = e;
    }
    if (overflow) {
      overflow->most = std::max(overflow->most, n);
      overflow->centers += n > most;
    }
    if (n > most) {
      ranked_.clear();
      for (int64_t k = 0; k < n; ++k) ranked_.emplace_back(edges.r2[mine[k]], mine[k]);
      const Limit nearest = limit_of_ranked(most, edges);
      n = std::remove_if(mine, mine + n,
                         [&](int64_t e) { return is_beyond(nearest, e, edges.r2); }) -
          mine;
    }
    if (typed && n > 0) n = cut_types(p, mine, n, edges, overflow);
    if (!p.exclude.empty()) {
      const char* allowed = allowed_.data() + edges.atype[a] * p.ntypes;
      n = std::remove_if(mine, mine + n,
                         [&](int64_t e) { return !allowed[edges.atype[edges.j[e]]]; }) -
          mine;
    }
    end += n;
  }
  kept.starts[edges.n_atoms] = end;
  kept.edges.resize(static_cast<size_t>(end));
}

/**
 * Find where the `most` nearest of the ranked edges end.
 *
 * Of neighbors that are equally far those with the smallest projection are chosen, and of atoms at
 * one place those that come first, as the packer in Python does.
 */
Packer::Limit Packer::limit_of_ranked(int64_t most, const Edges& edges) {
  chosen_.clear();
  std::nth_element(ranked_.begin(), ranked_.begin() + most, ranked_.end());
  const double cut = ranked_[most].first, low = cut * (1.0 - kTie), high = cut * (1.0 + kTie);
  const int64_t nearer = std::count_if(ranked_.begin(), ranked_.begin() + most,
                                       [&](const auto& edge) { return edge.first < low; });
  if (nearer == most) return {low, high};
  tied_.clear();
  for (const auto& [r2, e] : ranked_) {
    if (r2 >= low && r2 <= high) tied_.emplace_back(projection(edges.vec + 3 * e), e);
  }
  std::sort(tied_.begin(), tied_.end());
  for (int64_t k = 0; k < most - nearer; ++k) chosen_.push_back(tied_[k].second);
  std::sort(chosen_.begin(), chosen_.end());
  return {low, high};
}

/** Whether an edge is beyond the nearest ones. */
bool Packer::is_beyond(const Limit& limit, int64_t e, const double* r2) const {
  return r2[e] > limit.high ||
         (r2[e] >= limit.low && !std::binary_search(chosen_.begin(), chosen_.end(), e));
}

/** Keep the nearest sel[t] of each type t of the n edges of one center. */
int64_t Packer::cut_types(const Packing& p, int64_t* first, int64_t n, const Edges& edges,
                          Overflow* overflow) {
  per_type_.assign(static_cast<size_t>(p.ntypes), 0);
  for (int64_t k = 0; k < n; ++k) ++per_type_[edges.atype[edges.j[first[k]]]];
  bool surplus = false;
  for (int64_t t = 0; t < p.ntypes; ++t) {
    if (overflow) overflow->needed[t] = std::max(overflow->needed[t], per_type_[t]);
    surplus = surplus || per_type_[t] > p.sel[t];
  }
  if (!surplus) return n;
  if (overflow) ++overflow->centers;
  for (int64_t t = 0; t < p.ntypes; ++t) {
    if (per_type_[t] <= p.sel[t]) continue;
    ranked_.clear();
    for (int64_t k = 0; k < n; ++k) {
      const int64_t e = first[k];
      if (edges.atype[edges.j[e]] == t) ranked_.emplace_back(edges.r2[e], e);
    }
    const Limit nearest = limit_of_ranked(p.sel[t], edges);
    n = std::remove_if(first, first + n,
                       [&](int64_t e) {
                         return edges.atype[edges.j[e]] == t && is_beyond(nearest, e, edges.r2);
                       }) -
        first;
  }
  return n;
}

void Packer::fill_tables(const Packing& p, const Edges& edges, Slot* slots) {
  const bool typed = p.layout == Layout::typed;
  const int64_t tables = typed ? p.ntypes : 1;
  const int64_t groups = p.by_centre ? p.ntypes : 1;
  const int64_t per_group = p.by_centre ? 1 + tables : tables;
  const auto group_of = [&](int64_t a) { return p.by_centre ? edges.atype[a] : 0; };

  // How wide and how long each table is.
  widths_.assign(static_cast<size_t>(groups * tables), 1);
  per_type_.assign(static_cast<size_t>(groups), 0);
  rows_.resize(static_cast<size_t>(edges.n_atoms));
  counts_.assign(static_cast<size_t>(tables), 0);
  for (int64_t a = 0; a < edges.n_atoms; ++a) {
    const int64_t g = group_of(a);
    rows_[a] = per_type_[g]++;
    if (typed) {
      std::fill(counts_.begin(), counts_.end(), 0);
      for (int64_t k = kept_.starts[a]; k < kept_.starts[a + 1]; ++k) {
        ++counts_[edges.atype[edges.j[kept_.edges[k]]]];
      }
    } else {
      counts_[0] = kept_.starts[a + 1] - kept_.starts[a];
    }
    for (int64_t t = 0; t < tables; ++t) {
      widths_[g * tables + t] = std::max(widths_[g * tables + t], counts_[t]);
    }
  }
  for (int64_t g = 0; g < groups; ++g) {
    Slot* group = slots + g * per_group;
    if (p.by_centre) {
      group->rows = per_type_[g];
      group->columns = -1;
      group->data.resize(static_cast<size_t>(group->rows));
      ++group;
    }
    for (int64_t t = 0; t < tables; ++t) {
      group[t].rows = per_type_[g];
      group[t].columns = widths_[g * tables + t];
      group[t].data.assign(static_cast<size_t>(group[t].rows * group[t].columns), -1);
    }
  }
  for (int64_t a = 0; a < edges.n_atoms; ++a) {
    Slot* group = slots + group_of(a) * per_group;
    if (p.by_centre) {
      group->data[rows_[a]] = a;
      ++group;
    }
    std::fill(counts_.begin(), counts_.end(), 0);
    for (int64_t k = kept_.starts[a]; k < kept_.starts[a + 1]; ++k) {
      const int64_t e = kept_.edges[k];
      const int64_t t = typed ? edges.atype[edges.j[e]] : 0;
      group[t].data[rows_[a] * group[t].columns + counts_[t]++] = e;
    }
  }
}

void Packer::fill_angles(const Packing& p, const Edges& edges, Slot* slots) {
  const int64_t sum = std::accumulate(p.sel.begin(), p.sel.end(), int64_t{0});
  select(p, false, p.edge_rcut, p.nearest ? p.nearest : p.edge_sel, edges, flat_, nullptr);
  position_.assign(static_cast<size_t>(edges.n_edges), -1);
  for (size_t k = 0; k < flat_.edges.size(); ++k) {
    position_[flat_.edges[k]] = static_cast<int64_t>(k);
  }
  select(p, false, p.rcut, p.nearest ? p.nearest : sum, edges, kept_, nullptr);
  for (int s = 0; s < 2; ++s) {
    slots[s].data.clear();
    slots[s].columns = -1;
  }
  for (int64_t a = 0; a < edges.n_atoms; ++a) {
    int64_t* first = kept_.edges.data() + kept_.starts[a];
    // Two neighbors span an angle only if they are nearer than the cutoff.
    int64_t* last = std::remove_if(first, kept_.edges.data() + kept_.starts[a + 1],
                                   [&](int64_t e) { return !(edges.r2[e] < p.rcut * p.rcut); });
    for (const int64_t* e = first; e < last; ++e) {
      for (const int64_t* f = first; f < last; ++f) {
        slots[0].data.push_back(position_[*e]);
        slots[1].data.push_back(position_[*f]);
      }
    }
  }
  slots[0].rows = slots[1].rows = static_cast<int64_t>(slots[0].data.size());
}

}  // namespace deepmd::core
