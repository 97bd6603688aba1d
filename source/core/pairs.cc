// SPDX-License-Identifier: LGPL-3.0-or-later
#include "pairs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "error.h"

namespace deepmd::core {

namespace {

constexpr double kPi = 3.14159265358979323846;
/** Beyond this [Å] a double has less than a digit left after the point. */
constexpr double kFarthest = 1e15;
/** More neighbors than this per atom are a collapsed cell, not physics. */
constexpr double kMostNeighbors = 1e7;
constexpr int64_t kMostBinsPerSide = int64_t{1} << 20;

using Vector = std::array<double, 3>;

double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

Vector cross(const Vector& a, const Vector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

double length(const Vector& a) { return std::sqrt(dot(a, a)); }

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

}  // namespace

void Pairs::resize(int64_t n) {
  const auto count = static_cast<size_t>(n);
  i.resize(count);
  j.resize(count);
  shift.resize(3 * count);
  vec.resize(3 * count);
  r2.resize(count);
}

void check_coordinates(const double* coord, int64_t first, int64_t last) {
  for (int64_t k = 3 * first; k < 3 * last; ++k) {
    if (!(std::abs(coord[k]) < kFarthest)) {
      fail("atom " + std::to_string(k / 3), "a coordinate is NaN, infinite or absurdly large",
           "check the positions given; a simulation may have exploded");
    }
  }
}

CellList::CellList(const double* coord, std::vector<int64_t> atoms, const double* cell, double rcut)
    : coord_(coord), atoms_(std::move(atoms)), rcut_(rcut), reach_(rcut) {
  double largest = 0.0;
  for (const int64_t a : atoms_) {
    check_coordinates(coord_, a, a + 1);
    for (int k = 0; k < 3; ++k) largest = std::max(largest, std::abs(coord_[3 * a + k]));
  }
  set_cell(cell);
  for (const Vector& a : cell_) largest = std::max(largest, length(a));
  // The first, quick comparison uses folded positions, whose rounding the exact one does not share.
  reach_ = rcut_ * (1.0 + 1e-9) + 64 * std::numeric_limits<double>::epsilon() * largest;
  set_bins();
  sort_atoms();
}

void CellList::set_cell(const double* cell) {
  periodic_ = cell != nullptr && std::any_of(cell, cell + 9, [](double x) { return x != 0.0; });
  if (periodic_) {
    for (int k = 0; k < 9; ++k) cell_[k / 3][k % 3] = cell[k];
  } else {
    Vector low{}, high{};
    for (size_t a = 0; a < atoms_.size(); ++a) {
      for (int k = 0; k < 3; ++k) {
        const double x = coord_[3 * atoms_[a] + k];
        low[k] = a == 0 ? x : std::min(low[k], x);
        high[k] = a == 0 ? x : std::max(high[k], x);
      }
    }
    origin_ = low;
    for (int k = 0; k < 3; ++k) {
      cell_[k] = {};
      cell_[k][k] = std::max(high[k] - low[k], rcut_);
    }
  }
  const double volume = dot(cell_[0], cross(cell_[1], cell_[2]));
  const double lengths = length(cell_[0]) * length(cell_[1]) * length(cell_[2]);
  if (!(std::abs(volume) > 1e-8 * std::max(lengths, 1e-300)) || !std::isfinite(lengths)) {
    std::string numbers;
    for (int k = 0; k < 9; ++k) {
      numbers += (k ? (k % 3 ? " " : ", ") : "") + std::to_string(cell_[k / 3][k % 3]);
    }
    fail("cell", "the cell vectors (" + numbers + ") enclose no volume",
         "give three independent vectors, or no cell for an open system");
  }
  for (int k = 0; k < 3; ++k) {
    const Vector normal = cross(cell_[(k + 1) % 3], cell_[(k + 2) % 3]);
    for (int a = 0; a < 3; ++a) inverse_[a][k] = normal[a] / volume;
  }
  const double around = 4.0 / 3.0 * kPi * rcut_ * rcut_ * rcut_;
  const double expected = static_cast<double>(atoms_.size()) / std::abs(volume) * around;
  if (periodic_ && expected > kMostNeighbors) {
    fail("cell",
         "it is so small that every atom has about " + std::to_string(expected) + " neighbors",
         "check the cell and its unit, Angstrom");
  }
}

void CellList::set_bins() {
  for (int k = 0; k < 3; ++k) {
    const Vector column = {inverse_[0][k], inverse_[1][k], inverse_[2][k]};
    const double height = 1.0 / length(column);  // distance between opposite faces
    // Half the cutoff: fewer atoms are looked at in vain than with bins as large as the cutoff.
    const double wanted = std::floor(2.0 * height / reach_);
    bins_[k] = static_cast<int64_t>(std::clamp(wanted, 1.0, double(kMostBinsPerSide)));
    const double width = height / static_cast<double>(bins_[k]);
    range_[k] = static_cast<int64_t>(std::ceil(reach_ / width));
  }
}

void CellList::sort_atoms() {
  const size_t n = atoms_.size();
  std::vector<int32_t> fold(3 * n, 0);
  std::vector<double> folded(3 * n);
  bin_.resize(n);
  for (size_t a = 0; a < n; ++a) {
    const double* x = coord_ + 3 * atoms_[a];
    Vector fraction{};
    for (int k = 0; k < 3; ++k) {
      for (int c = 0; c < 3; ++c) fraction[k] += (x[c] - origin_[c]) * inverse_[c][k];
    }
    double* y = &folded[3 * a];
    for (int c = 0; c < 3; ++c) y[c] = x[c];
    int64_t bin = 0;
    for (int k = 0; k < 3; ++k) {
      if (periodic_) {
        const double cells = std::floor(fraction[k]);
        if (!(std::abs(cells) < 1e9)) {
          fail("atom " + std::to_string(atoms_[a]), "it is more than 1e9 cells away",
               "check positions and cell");
        }
        fold[3 * a + k] = static_cast<int32_t>(cells);
        fraction[k] -= cells;
        for (int c = 0; c < 3; ++c) y[c] -= cells * cell_[k][c];
      }
      const auto place = static_cast<int64_t>(fraction[k] * static_cast<double>(bins_[k]));
      bin = bin * bins_[k] + std::clamp<int64_t>(place, 0, bins_[k] - 1);
    }
    bin_[a] = bin;
  }
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  const double total =
      static_cast<double>(bins_[0]) * static_cast<double>(bins_[1]) * static_cast<double>(bins_[2]);
  if (total <= 8.0 * static_cast<double>(n) + 64.0) {
    starts_.assign(static_cast<size_t>(total) + 1, 0);
    for (size_t a = 0; a < n; ++a) ++starts_[bin_[a] + 1];
    std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
    std::vector<int64_t> next(starts_.begin(), starts_.end() - 1);
    for (size_t a = 0; a < n; ++a) order[next[bin_[a]]++] = static_cast<int64_t>(a);
  } else {  // mostly vacuum: a table of all bins would be larger than the system
    std::stable_sort(order.begin(), order.end(),
                     [this](int64_t a, int64_t b) { return bin_[a] < bin_[b]; });
    keys_.resize(n);
    for (size_t s = 0; s < n; ++s) keys_[s] = bin_[order[s]];
  }
  place_.resize(n);
  order_.resize(n);
  fold_.resize(3 * n);
  for (int k = 0; k < 3; ++k) folded_[k].resize(n);
  for (size_t s = 0; s < n; ++s) {
    const int64_t a = order[s];
    place_[a] = static_cast<int64_t>(s);
    order_[s] = atoms_[a];
    for (int k = 0; k < 3; ++k) {
      fold_[3 * s + k] = fold[3 * a + k];
      folded_[k][s] = folded[3 * a + k];
    }
  }
}

int64_t CellList::start_of(int64_t bin) const {
  if (!starts_.empty()) return starts_[bin];
  return std::lower_bound(keys_.begin(), keys_.end(), bin) - keys_.begin();
}

void CellList::find(int64_t first, int64_t last, Pairs& pairs) const {
  Scratch scratch;
  int64_t n = 0;
  for (int64_t k = first; k < last; ++k) {
    const int64_t candidates = look_around(k, scratch);
    if (n + candidates > pairs.size()) {
      // What the centers so far had tells how much the others need.
      const double share = static_cast<double>(last - first) / static_cast<double>(k - first + 1);
      const double guess = 1.05 * share * static_cast<double>(n + candidates);
      pairs.resize(std::max(n + candidates, std::min<int64_t>(static_cast<int64_t>(guess),
                                                              2 * (n + candidates) + 4096)));
    }
    n = add_pairs(k, scratch, n, pairs);
  }
  pairs.resize(n);
}

void CellList::Scratch::set_axis(int k, int64_t here, int64_t bins, int64_t range, bool periodic) {
  std::vector<Step>& steps = axis[k];
  steps.clear();
  int64_t image = floor_div(here - range, bins), bin = here - range - image * bins;
  for (int64_t step = -range; step <= range; ++step) {
    if (periodic || image == 0) steps.push_back({bin, static_cast<int32_t>(image)});
    if (++bin == bins) {
      bin = 0;
      ++image;
    }
  }
}

int64_t CellList::look_around(int64_t center, Scratch& scratch) const {
  const int64_t bin = bin_[center];
  if (bin != scratch.bin) {
    scratch.bin = bin;
    int64_t rest = bin;
    for (int k = 2; k >= 0; --k) {
      scratch.set_axis(k, rest % bins_[k], bins_[k], range_[k], periodic_);
      rest /= bins_[k];
    }
  }
  scratch.runs.clear();
  int64_t found = 0;
  for (const Step& a : scratch.axis[0]) {
    for (const Step& b : scratch.axis[1]) {
      const int64_t row = (a.bin * bins_[1] + b.bin) * bins_[2];
      const std::vector<Step>& steps = scratch.axis[2];
      // Bins that differ in the last index only follow each other: one run of atoms per image.
      for (size_t first = 0, next; first < steps.size(); first = next) {
        for (next = first + 1; next < steps.size() && steps[next].image == steps[first].image;) {
          ++next;
        }
        const int64_t begin = start_of(row + steps[first].bin);
        const int64_t end = start_of(row + steps[next - 1].bin + 1);
        if (begin == end) continue;
        Run run{{a.image, b.image, steps[first].image}, found, found};
        found = add_near(center, begin, end, run, scratch);
        if (found > run.first) scratch.runs.push_back(run);
      }
    }
  }
  return found;
}

int64_t CellList::add_near(int64_t center, int64_t begin, int64_t end, Run& run,
                           Scratch& scratch) const {
  double p[3];
  for (int c = 0; c < 3; ++c) {
    p[c] = folded_[c][place_[center]] - run.image[0] * cell_[0][c] - run.image[1] * cell_[1][c] -
           run.image[2] * cell_[2][c];
  }
  int64_t found = run.first;
  if (scratch.near.size() < static_cast<size_t>(found + end - begin)) {
    scratch.near.resize(2 * static_cast<size_t>(found + end - begin));
  }
  const double quick = reach_ * reach_;
  const double *sx = folded_[0].data(), *sy = folded_[1].data(), *sz = folded_[2].data();
  int64_t* near = scratch.near.data();
  for (int64_t s = begin; s < end; ++s) {
    const double x = sx[s] - p[0], y = sy[s] - p[1], z = sz[s] - p[2];
    near[found] = s;  // without a branch, which would be mispredicted every other time
    found += x * x + y * y + z * z <= quick;
  }
  run.last = found;
  return found;
}

int64_t CellList::add_pairs(int64_t center, const Scratch& scratch, int64_t n, Pairs& pairs) const {
  const int64_t i = atoms_[center];
  const Vector xi = {coord_[3 * i], coord_[3 * i + 1], coord_[3 * i + 2]};
  const int32_t* fold_i = &fold_[3 * place_[center]];
  const double exact = rcut_ * rcut_;
  const std::array<Vector, 3> cell = cell_;
  const int64_t *near = scratch.near.data(), *order = order_.data();
  const int32_t* fold = fold_.data();
  const double* coord = coord_;
  int64_t *to_i = pairs.i.data(), *to_j = pairs.j.data();
  double* to_r2 = pairs.r2.data();
  for (const Run& run : scratch.runs) {
    const int32_t base[3] = {run.image[0] + fold_i[0], run.image[1] + fold_i[1],
                             run.image[2] + fold_i[2]};
    for (int64_t f = run.first; f < run.last; ++f) {
      const int64_t s = near[f], j = order[s];
      int32_t* shift = pairs.shift.data() + 3 * n;
      double* vec = pairs.vec.data() + 3 * n;
      double r2 = 0.0, moved[3];
      for (int k = 0; k < 3; ++k) {
        shift[k] = base[k] - fold[3 * s + k];
        moved[k] = shift[k];
      }
      for (int c = 0; c < 3; ++c) {
        // From the positions as given: folding must not cost digits, and (j, i) is exactly -(i, j).
        vec[c] = coord[3 * j + c] - xi[c] +
                 (moved[0] * cell[0][c] + moved[1] * cell[1][c] + moved[2] * cell[2][c]);
        r2 += vec[c] * vec[c];
      }
      to_i[n] = i;
      to_j[n] = j;
      to_r2[n] = r2;
      n += r2 <= exact && r2 > 0.0;
    }
  }
  return n;
}

Pairs find_pairs(const double* coord, int64_t natoms, const double* cell, double rcut) {
  std::vector<int64_t> atoms(static_cast<size_t>(natoms));
  std::iota(atoms.begin(), atoms.end(), int64_t{0});
  Pairs pairs;
  CellList(coord, std::move(atoms), cell, rcut).find(0, natoms, pairs);
  return pairs;
}

}  // namespace deepmd::core
