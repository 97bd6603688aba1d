// SPDX-License-Identifier: LGPL-3.0-or-later
#include "uncertainty.h"

#include <algorithm>
#include <cmath>

#include "network.h"

namespace deepmd::native {

namespace {

/** Strips of a triangle: with four of them 5/8 of a full product are left. */
constexpr int64_t kStrips = 4;
/** Atoms whose deviations are worked out together. */
constexpr int64_t kAtoms = 64;
constexpr int64_t kVersion = 1;

}  // namespace

Triangle::Triangle(const double* data, int64_t width)
    : width_(width), ld_(row_length<double>(width)) {
  const auto& k = Kernels<double>::get();
  const int64_t step = row_length<double>((width + kStrips - 1) / kStrips);
  for (int64_t first = 0; first < width; first += step) {
    const int64_t rows = std::min(step, width - first), columns = width - first;
    std::vector<double> packed(static_cast<size_t>(k.packed_size(columns, rows)));
    k.pack(columns, rows, data + first * width + first, width, 1, packed.data());
    strips_.push_back({first, rows, std::move(packed)});
  }
}

void Triangle::multiply(int64_t m, const double* x, double* y) const {
  const auto& k = Kernels<double>::get();
  for (const Strip& strip : strips_) {
    k.multiply(m, row_length<double>(strip.rows), width_ - strip.first, x + strip.first, width_,
               strip.packed.data(), y + strip.first, ld_, 0);
  }
}

Uncertainty::Uncertainty(std::string missing) : missing_(std::move(missing)) {
  facts_.struct_size = sizeof(facts_);
  facts_.missing = missing_.c_str();
}

Uncertainty::Uncertainty(const Node& section, int64_t width, std::vector<int64_t> predicted)
    : predicted_(std::move(predicted)) {
  facts_.struct_size = sizeof(facts_);
  facts_.width = width;
  facts_.n_types = static_cast<int64_t>(predicted_.size());
  facts_.predicted = predicted_.data();
  read(section);
}

void Uncertainty::read(const Node& section) {
  if (section.integer("@version", 0) != kVersion) {
    section.fail("is of another version; fit it again with dp uncertainty");
  }
  const int64_t types = facts_.n_types, width = facts_.width;
  const Node atoms = section["atoms"];
  const Array& triangles = atoms["@variables"]["factor"].array();
  const std::vector<int64_t>& shape = triangles.shape;
  const bool fits = shape.size() == 3 && (shape[0] == 1 || shape[0] == types) &&
                    shape[1] == width && shape[2] == width;
  if (!fits) section.fail("does not fit the model");
  facts_.n_networks = shape[0];
  const std::vector<double> all = atoms["@variables"]["factor"].values();
  for (int64_t k = 0; k < shape[0]; ++k) {
    triangles_.emplace_back(all.data() + k * width * width, width);
  }
  const auto count = static_cast<size_t>(types);
  offset_ = atoms.variable("offset", count * static_cast<size_t>(width));
  center_ = atoms.variable("center", count * static_cast<size_t>(width));
  corner_ = atoms.variable("corner", count);
  floor_ = atoms.variable("floor", count);
  slope_ = atoms.variable("slope", count);
  facts_.energy_scale = section["energy"].number("scale");
  const auto n = static_cast<size_t>(facts_.n_networks * width + types);
  factor_ = section.variable("factor", n * n);
  facts_.factor = factor_.data();
}

void Uncertainty::evaluate(int64_t n_atoms, const int64_t* atype, const double* hidden,
                           double* deviations) const {
  const int64_t width = facts_.width, ld = triangles_.front().ld();
  std::vector<int64_t> rows;
  std::vector<double> x(static_cast<size_t>(kAtoms * width)), y(static_cast<size_t>(kAtoms * ld));
  std::fill_n(deviations, 2 * n_atoms, 0.0);
  for (int64_t t = 0; t < facts_.n_types; ++t) {
    if (predicted_[t] == 0) continue;
    rows.clear();
    for (int64_t a = 0; a < n_atoms; ++a) {
      if (atype[a] == t) rows.push_back(a);
    }
    const Triangle& triangle = triangles_[facts_.n_networks == 1 ? 0 : t];
    const double *offset = offset_.data() + t * width, *center = center_.data() + t * width;
    for (size_t first = 0; first < rows.size(); first += kAtoms) {
      const auto m = static_cast<int64_t>(std::min<size_t>(kAtoms, rows.size() - first));
      for (int64_t c = 0; c < m; ++c) {
        std::copy_n(hidden + rows[first + c] * width, width, x.data() + c * width);
      }
      triangle.multiply(m, x.data(), y.data());
      for (int64_t c = 0; c < m; ++c) {
        const double* row = y.data() + c * ld;
        double energy = corner_[t] * corner_[t], distance = 0.0;
        for (int64_t k = 0; k < width; ++k) {
          energy += (row[k] + offset[k]) * (row[k] + offset[k]);
          distance += (row[k] - center[k]) * (row[k] - center[k]);
        }
        double* to = deviations + 2 * rows[first + c];
        to[0] = facts_.energy_scale * std::sqrt(energy);
        to[1] = std::sqrt(floor_[t] * floor_[t] + slope_[t] * slope_[t] * distance);
      }
    }
  }
}

std::unique_ptr<Uncertainty> read_uncertainty(const Node& root, int64_t width,
                                              std::vector<int64_t> predicted) {
  const auto none = [](const char* reason) { return std::make_unique<Uncertainty>(reason); };
  if (!root.has("uncertainty")) return none("holds no uncertainty; fit it with dp uncertainty");
  const Node section = root["uncertainty"];
  if (section.text("kind", "") == "committee") {
    return none(
        "holds the uncertainty of a committee, which is evaluated by Python only; name several "
        "models, or fit that of the last layer with dp uncertainty and one model");
  }
  if (!section.has("atoms")) {
    return none("holds an uncertainty of an earlier release; fit it again with dp uncertainty");
  }
  if (width == 0) {
    return none(
        "is a model whose last layer the native engine does not give; evaluate its uncertainty "
        "with Python, or compare several models");
  }
  return std::make_unique<Uncertainty>(section, width, std::move(predicted));
}

}  // namespace deepmd::native
