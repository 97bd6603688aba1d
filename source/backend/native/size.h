// SPDX-License-Identifier: LGPL-3.0-or-later
/** Sizes of arrays of a stored program: polynomials of named sizes. */
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "../entry.h"

namespace deepmd::native::traced {

using backend::Failure;

/** Names of sizes, numbered. */
class SizeNames {
 public:
  int64_t number(const std::string& name);
  size_t count() const { return names_.size(); }
  const std::string& name(size_t k) const { return names_[k]; }

 private:
  std::vector<std::string> names_;
};

/** A polynomial with whole coefficients; equal ones are equal in form. */
class Size {
 public:
  Size() = default;
  explicit Size(int64_t value);
  /** From a number, a name, or a list of terms [coefficient, names...]; throws Failure. */
  static Size read(const nlohmann::json& json, SizeNames& names);

  Size operator+(const Size& other) const;
  Size operator*(const Size& other) const;
  bool operator==(const Size& other) const { return terms_ == other.terms_; }
  bool operator!=(const Size& other) const { return !(*this == other); }
  bool is(int64_t value) const { return *this == Size(value); }
  /** The size that it is, if it is nothing but one; otherwise -1. */
  int64_t name() const;
  /** Whether it depends on no size. */
  bool is_fixed() const;
  /** Whether it depends on a size. */
  bool has(int64_t name) const;
  /** Whether it is a multiple of a size, which does not depend on it otherwise. */
  bool is_multiple(int64_t name) const;
  /** Its value; throws Failure if that is no size an array can have. */
  int64_t value(const std::vector<int64_t>& sizes) const;

 private:
  using Product = std::vector<int64_t>;
  void add(const Product& product, int64_t factor);

  std::map<Product, int64_t> terms_;
};

using Shape = std::vector<Size>;

/** The number of elements. */
Size elements(const Shape& shape);

}  // namespace deepmd::native::traced
