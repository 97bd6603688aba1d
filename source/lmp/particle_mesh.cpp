// SPDX-License-Identifier: LGPL-3.0-or-later
#include "particle_mesh.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace deepmd_lmp {
namespace {

constexpr double pi = 3.14159265358979323846;
constexpr int most_order = 16;
constexpr int most_points = 1024;  // per axis
constexpr int aliases = 3;         // on either side, in estimates

/** Signed wave number of index i of K. */
int wave(int i, int size) { return i <= size / 2 ? i : i - size; }

/** Whether waves n and -n are different ones on the mesh. */
bool resolved(int n, int size) { return 2 * std::abs(n) < size; }

/** Reciprocal vector without 2π of the integers n: m = n h⁻ᵀ. */
std::array<double, 3> reciprocal(const Cell& cell, const std::array<int, 3>& n) {
  std::array<double, 3> m{};
  for (int x = 0; x < 3; ++x) {
    for (int d = 0; d < 3; ++d) m[x] += cell.inverse[3 * x + d] * n[d];
  }
  return m;
}

double dot(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/**
 * Cardinal B-splines of `order` at w + j, j = 0 ... order - 1, and those of the order below at the
 * same places.
 */
void cardinal(double w, int order, double* value, double* below) {
  std::fill_n(value, order, 0.0);
  std::fill_n(below, order, 0.0);
  value[0] = w;
  value[1] = 1.0 - w;
  for (int p = 3; p <= order; ++p) {
    if (p == order) std::copy_n(value, order, below);
    const double over = 1.0 / (p - 1);
    for (int j = p - 1; j >= 0; --j) {
      const double x = w + j;
      value[j] = over * (x * value[j] + (j > 0 ? (p - x) * value[j - 1] : 0.0));
    }
  }
}

/** 1/|Σ_j M_p(j+1) exp(2πi n j/K)|²: how much splines weaken a wave, squared and inverted. */
std::vector<double> euler(int size, int order) {
  std::vector<double> value(order), below(order), factor(size, 0.0);
  cardinal(0.0, order, value.data(), below.data());
  for (int i = 0; i < size; ++i) {
    if (!resolved(wave(i, size), size)) continue;
    std::complex<double> sum = 0.0;
    for (int j = 1; j < order; ++j) sum += value[j] * std::polar(1.0, 2.0 * pi * i * j / size);
    factor[i] = 1.0 / std::norm(sum);
  }
  return factor;
}

/**
 * Waves n + aK that a mesh takes for n, by their amplitudes w.
 *
 * Small numbers are kept as such: 1 + ... would round them away.
 */
struct Mixture {
  double log_own = 0.0;                            ///< log w² of n itself
  double zeroth = 0.0, first = 0.0, second = 0.0;  ///< Σ w², Σ (n+aK) w², Σ (n+aK)² w² over the
                                                   ///< others, over w² of n itself

  Mixture(int n, int size, int order) {
    double others = 0.0;
    for (int a = -aliases; a <= aliases; ++a) {
      if (a == 0) continue;
      const double n_a = n + static_cast<double>(a) * size;
      const double t = std::pow(n / n_a, order);
      others += t;
      zeroth += t * t;
      first += n_a * t * t;
      second += n_a * n_a * t * t;
    }
    log_own = -2.0 * std::log1p(others);
  }
};

/** Square of the error of a wave's force, over that of its amplitude: see MeshScheme. */
double mixed_error(const std::array<int, 3>& n, double m2,
                   const std::array<std::array<double, 3>, 3>& g,
                   const std::array<const Mixture*, 3>& mix, bool from_waves) {
  const double log_own = mix[0]->log_own + mix[1]->log_own + mix[2]->log_own;
  const double own = std::exp(log_own), lost = -std::expm1(log_own);
  const double others = std::expm1(std::log1p(mix[0]->zeroth) + std::log1p(mix[1]->zeroth) +
                                   std::log1p(mix[2]->zeroth));
  double error = m2 * others * (2.0 + others);
  if (!from_waves) {
    // A derivative along the mesh has the wave vectors of all of them.
    double moved = 0.0;
    for (int d = 0; d < 3; ++d) {
      const int e = (d + 1) % 3, f = (d + 2) % 3;
      const double z_e = mix[e]->zeroth, z_f = mix[f]->zeroth;
      const double both = z_e + z_f + z_e * z_f;
      const double square = static_cast<double>(n[d]) * n[d];
      moved += dot(g[d], g[d]) * (mix[d]->second * (1.0 + both) + square * both);
      const double sign_d = n[d] < 0 ? -1.0 : 1.0, sign_e = n[e] < 0 ? -1.0 : 1.0;
      const double first_d = sign_d * mix[d]->first, first_e = sign_e * mix[e]->first;
      const double cross = n[d] * first_e + n[e] * first_d + first_d * first_e;
      moved += 2.0 * dot(g[d], g[e]) * (cross * (1.0 + z_f) + z_f * n[d] * n[e]);
    }
    error = moved + others * (m2 + moved);
  }
  return own * own * error + m2 * lost * lost;
}

/** The next number from n on with no prime factor above 5, even. */
int fast_size(int n) {
  for (int size = n + n % 2;; size += 2) {
    int rest = size;
    for (const int prime : {2, 3, 5}) {
      while (rest % prime == 0) rest /= prime;
    }
    if (rest == 1) return size;
  }
}

}  // namespace

Cell::Cell(const std::array<double, 9>& vectors) : rows(vectors) {
  const auto& h = rows;
  for (int x = 0; x < 3; ++x) {
    for (int d = 0; d < 3; ++d) {
      // column d of the inverse: the cross product of the other two vectors over the volume
      const int e = (d + 1) % 3, f = (d + 2) % 3, y = (x + 1) % 3, z = (x + 2) % 3;
      inverse[3 * x + d] = h[3 * e + y] * h[3 * f + z] - h[3 * e + z] * h[3 * f + y];
    }
  }
  const double signed_volume = h[0] * inverse[0] + h[1] * inverse[3] + h[2] * inverse[6];
  for (double& value : inverse) value /= signed_volume;
  volume = std::abs(signed_volume);
}

double MeshScheme::force_error(const Cell& cell) const {
  const double farthest = splitting * std::sqrt(45.0) / pi;  // exp(-45) is below rounding
  std::array<std::vector<Mixture>, 3> mixtures;
  std::array<int, 3> last{};
  std::array<std::array<double, 3>, 3> g{};  // reciprocal vectors
  for (int d = 0; d < 3; ++d) {
    const double* h = cell.rows.data() + 3 * static_cast<ptrdiff_t>(d);
    last[d] = static_cast<int>(farthest * std::sqrt(h[0] * h[0] + h[1] * h[1] + h[2] * h[2]));
    std::array<int, 3> one{};
    one[d] = 1;
    g[d] = reciprocal(cell, one);
    for (int n = 0; n <= last[d]; ++n) mixtures[d].emplace_back(n, size[d], order);
  }
  double sum = 0.0;
  for (int n0 = 0; n0 <= last[0]; ++n0) {
    for (int n1 = -last[1]; n1 <= last[1]; ++n1) {
      for (int n2 = -last[2]; n2 <= last[2]; ++n2) {
        const std::array<int, 3> n = {n0, n1, n2};
        const auto m = reciprocal(cell, n);
        const double m2 = dot(m, m);
        if (m2 == 0.0 || m2 > farthest * farthest) continue;
        const double amplitude = 2.0 * std::exp(-pi * pi * m2 / (splitting * splitting)) / m2;
        double error = m2;
        if (resolved(n0, size[0]) && resolved(n1, size[1]) && resolved(n2, size[2])) {
          std::array<const Mixture*, 3> mix{};
          for (int d = 0; d < 3; ++d) mix[d] = &mixtures[d][std::abs(n[d])];
          error = mixed_error(n, m2, g, mix, from_waves);
        }
        sum += (n0 == 0 ? 1.0 : 2.0) * amplitude * amplitude * error;
      }
    }
  }
  return std::sqrt(sum) / cell.volume;
}

std::array<int, 3> choose_mesh(MeshScheme scheme, const Cell& cell, double error) {
  for (double spacing = 2.0;; spacing /= 1.1) {
    std::array<int, 3> size{};
    for (int d = 0; d < 3; ++d) {
      const double* h = cell.rows.data() + 3 * static_cast<ptrdiff_t>(d);
      const double length = std::sqrt(h[0] * h[0] + h[1] * h[1] + h[2] * h[2]);
      if (length > spacing * most_points) {
        throw std::range_error("no mesh of up to " + std::to_string(most_points) +
                               " points per axis is as accurate as asked for");
      }
      size[d] = fast_size(std::max(scheme.order, static_cast<int>(std::ceil(length / spacing))));
    }
    if (size == scheme.size) continue;
    scheme.size = size;
    if (scheme.force_error(cell) <= error) return size;
  }
}

ParticleMesh::ParticleMesh(const MeshScheme& scheme) : scheme_(scheme), transform_(scheme.size) {
  if (scheme.order < 3 || scheme.order > most_order) {
    throw std::range_error("the order must be from 3 to " + std::to_string(most_order));
  }
  size_t points = 1;
  for (int d = 0; d < 3; ++d) {
    if (scheme.size[d] < scheme.order || scheme.size[d] > most_points) {
      throw std::range_error("the mesh must have from " + std::to_string(scheme.order) +
                             " (the order) to " + std::to_string(most_points) + " points per axis");
    }
    points *= scheme.size[d];
    euler_[d] = euler(scheme.size[d], scheme.order);
  }
  mesh_.resize(points);
}

void ParticleMesh::set_cell(const Cell& cell) {
  if (cell.rows == cell_.rows) return;
  cell_ = cell;
  const auto& size = scheme_.size;
  const int half = transform_.half();
  const double prefactor = coulomb / (2.0 * pi * cell.volume);
  const double decay = pi * pi / (scheme_.splitting * scheme_.splitting);
  weight_.resize(static_cast<size_t>(size[0]) * size[1] * half);
  size_t at = 0;
  for (int i = 0; i < size[0]; ++i) {
    for (int j = 0; j < size[1]; ++j) {
      for (int k = 0; k < half; ++k, ++at) {
        const auto m = reciprocal(cell, {wave(i, size[0]), wave(j, size[1]), k});
        const double m2 = dot(m, m);
        const double factor = euler_[0][i] * euler_[1][j] * euler_[2][k];
        const double both = k == 0 ? 1.0 : 2.0;
        weight_[at] = m2 == 0.0 ? 0.0 : both * prefactor * factor * std::exp(-decay * m2) / m2;
      }
    }
  }
}

/** B-splines of one charge: mesh points it touches, values there, derivatives by the fraction. */
struct ParticleMesh::Splines {
  int points[3][most_order];
  double value[3][most_order];
  double slope[3][most_order];

  Splines(const double* fractions, const MeshScheme& scheme) {
    const int order = scheme.order;
    double below[most_order];
    for (int d = 0; d < 3; ++d) {
      const int size = scheme.size[d];
      const double u = (fractions[d] - std::floor(fractions[d])) * size;
      const int first = std::min(static_cast<int>(u), size - 1);
      cardinal(u - first, order, value[d], below);
      for (int j = 0; j < order; ++j) {
        points[d][j] = first >= j ? first - j : first - j + size;
        slope[d][j] = size * (below[j] - (j > 0 ? below[j - 1] : 0.0));
      }
    }
  }

  /** Call with (place, value and derivatives: {1, s0, s1, s2}) for every point. */
  template <typename Action>
  void each(const MeshScheme& scheme, Action&& action) const {
    for (int a = 0; a < scheme.order; ++a) {
      for (int b = 0; b < scheme.order; ++b) {
        const size_t row =
            (static_cast<size_t>(points[0][a]) * scheme.size[1] + points[1][b]) * scheme.size[2];
        const double both = value[0][a] * value[1][b];
        const double first = slope[0][a] * value[1][b], second = value[0][a] * slope[1][b];
        for (int c = 0; c < scheme.order; ++c) {
          action(row + points[2][c], both * value[2][c], first * value[2][c], second * value[2][c],
                 both * slope[2][c]);
        }
      }
    }
  }
};

void ParticleMesh::spread(int n, const double* coord, const double* charge) {
  std::fill(mesh_.begin(), mesh_.end(), 0.0);
  charges_.assign(charge, charge + n);
  fractions_.resize(3 * static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    const double* r = coord + 3 * static_cast<ptrdiff_t>(i);
    double* s = fractions_.data() + 3 * static_cast<ptrdiff_t>(i);
    for (int d = 0; d < 3; ++d) {
      s[d] = r[0] * cell_.inverse[d] + r[1] * cell_.inverse[3 + d] + r[2] * cell_.inverse[6 + d];
    }
    if (charge[i] == 0.0) continue;
    Splines(s, scheme_).each(scheme_, [&](size_t at, double w, double, double, double) {
      mesh_[at] += charge[i] * w;
    });
  }
}

/** Energy and virial; then the waves become those of the potential, dE/dQ. */
void ParticleMesh::sum_waves() {
  const auto& size = scheme_.size;
  const int half = transform_.half();
  const double decay = pi * pi / (scheme_.splitting * scheme_.splitting);
  energy_ = 0.0;
  virial_.fill(0.0);
  size_t at = 0;
  for (int i = 0; i < size[0]; ++i) {
    for (int j = 0; j < size[1]; ++j) {
      for (int k = 0; k < half; ++k, ++at) {
        const double weight = weight_[at];
        if (weight != 0.0) {
          const double energy = weight * std::norm(waves_[at]);
          const auto m = reciprocal(cell_, {wave(i, size[0]), wave(j, size[1]), k});
          const double factor = 2.0 * energy * (1.0 / dot(m, m) + decay);
          energy_ += energy;
          for (int x = 0; x < 3; ++x) {
            virial_[4 * static_cast<size_t>(x)] += energy;
            for (int y = 0; y < 3; ++y) virial_[3 * x + y] -= factor * m[x] * m[y];
          }
        }
        waves_[at] *= (k == 0 ? 2.0 : 1.0) * weight;
      }
    }
  }
}

/** One component of the field, minus the gradient of the potential. */
void ParticleMesh::sum_field(int axis) {
  const auto& size = scheme_.size;
  const int half = transform_.half();
  scratch_.resize(waves_.size());
  size_t at = 0;
  for (int i = 0; i < size[0]; ++i) {
    for (int j = 0; j < size[1]; ++j) {
      for (int k = 0; k < half; ++k, ++at) {
        const auto m = reciprocal(cell_, {wave(i, size[0]), wave(j, size[1]), k});
        scratch_[at] = waves_[at] * std::complex<double>(0.0, -2.0 * pi * m[axis]);
      }
    }
  }
  transform_.backward(scratch_, field_[axis]);
}

void ParticleMesh::solve(bool potential) {
  transform_.forward(mesh_, waves_);
  sum_waves();
  if (scheme_.from_waves) {
    for (int x = 0; x < 3; ++x) sum_field(x);
  }
  if (potential || !scheme_.from_waves) transform_.backward(waves_, potential_);
}

void ParticleMesh::gather(double* force) const {
  for (size_t i = 0; i < charges_.size(); ++i) {
    const Splines splines(fractions_.data() + 3 * i, scheme_);
    std::array<double, 3> sum{};
    if (scheme_.from_waves) {
      splines.each(scheme_, [&](size_t at, double w, double, double, double) {
        for (int x = 0; x < 3; ++x) sum[x] += w * field_[x][at];
      });
      for (int x = 0; x < 3; ++x) force[3 * i + x] = charges_[i] * sum[x];
      continue;
    }
    splines.each(scheme_, [&](size_t at, double, double s0, double s1, double s2) {
      const double phi = potential_[at];
      sum[0] += s0 * phi;
      sum[1] += s1 * phi;
      sum[2] += s2 * phi;
    });
    for (int x = 0; x < 3; ++x) {
      const double* g = cell_.inverse.data() + 3 * static_cast<ptrdiff_t>(x);
      force[3 * i + x] = -charges_[i] * (g[0] * sum[0] + g[1] * sum[1] + g[2] * sum[2]);
    }
  }
}

void ParticleMesh::potentials(double* potential) const {
  for (size_t i = 0; i < charges_.size(); ++i) {
    double sum = 0.0;
    Splines(fractions_.data() + 3 * i, scheme_)
        .each(scheme_,
              [&](size_t at, double w, double, double, double) { sum += w * potential_[at]; });
    potential[i] = sum;
  }
}

double ParticleMesh::bytes() const {
  size_t numbers =
      mesh_.size() + weight_.size() + potential_.size() + 2 * (waves_.size() + scratch_.size());
  for (const auto& field : field_) numbers += field.size();
  return static_cast<double>((numbers + fractions_.size() + charges_.size()) * sizeof(double));
}

}  // namespace deepmd_lmp
