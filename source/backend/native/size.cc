// SPDX-License-Identifier: LGPL-3.0-or-later
#include "size.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

namespace deepmd::native::traced {

namespace {

constexpr int64_t kLargest = int64_t{1} << 40;
constexpr size_t kMostTerms = 64, kMostFactors = 8, kMostNames = 4096;

[[noreturn]] void impossible() { throw Failure("an array of the program has an impossible size"); }

int64_t checked(__int128 value) {
  if (value > kLargest || value < -kLargest) impossible();
  return static_cast<int64_t>(value);
}

}  // namespace

int64_t SizeNames::number(const std::string& name) {
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found != names_.end()) return found - names_.begin();
  if (names_.size() >= kMostNames) impossible();
  names_.push_back(name);
  return static_cast<int64_t>(names_.size()) - 1;
}

Size::Size(int64_t value) { add({}, value); }

void Size::add(const Product& product, int64_t factor) {
  if (product.size() > kMostFactors || terms_.size() > kMostTerms) impossible();
  const auto [place, is_new] = terms_.try_emplace(product, 0);
  place->second = checked(__int128{place->second} + factor);
  if (place->second == 0) terms_.erase(place);
}

Size Size::read(const nlohmann::json& json, SizeNames& names) {
  Size size;
  if (json.is_number_integer()) {
    size.add({}, checked(json.get<int64_t>()));
  } else if (json.is_string()) {
    size.add({names.number(json.get<std::string>())}, 1);
  } else if (json.is_array()) {
    for (const auto& term : json) {
      if (!term.is_array() || term.empty() || !term[0].is_number_integer()) impossible();
      Product product;
      for (size_t k = 1; k < term.size(); ++k) {
        product.push_back(names.number(term[k].get<std::string>()));
      }
      std::sort(product.begin(), product.end());
      size.add(product, checked(term[0].get<int64_t>()));
    }
  } else {
    impossible();
  }
  return size;
}

Size Size::operator+(const Size& other) const {
  Size sum = *this;
  for (const auto& [product, factor] : other.terms_) sum.add(product, factor);
  return sum;
}

Size Size::operator*(const Size& other) const {
  Size result;
  for (const auto& [a, x] : terms_) {
    for (const auto& [b, y] : other.terms_) {
      Product both;
      std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
      result.add(both, checked(__int128{x} * y));
    }
  }
  return result;
}

int64_t Size::name() const {
  if (terms_.size() != 1 || terms_.begin()->second != 1) return -1;
  const Product& product = terms_.begin()->first;
  return product.size() == 1 ? product[0] : -1;
}

bool Size::is_fixed() const {
  return terms_.empty() || (terms_.size() == 1 && terms_.begin()->first.empty());
}

bool Size::has(int64_t name) const {
  return std::any_of(terms_.begin(), terms_.end(), [name](const auto& term) {
    return std::find(term.first.begin(), term.first.end(), name) != term.first.end();
  });
}

bool Size::is_multiple(int64_t name) const {
  return !terms_.empty() && std::all_of(terms_.begin(), terms_.end(), [name](const auto& term) {
    return std::count(term.first.begin(), term.first.end(), name) == 1;
  });
}

int64_t Size::value(const std::vector<int64_t>& sizes) const {
  int64_t total = 0;
  for (const auto& [product, factor] : terms_) {
    int64_t term = factor;
    for (const int64_t name : product) term = checked(__int128{term} * sizes[name]);
    total = checked(__int128{total} + term);
  }
  if (total < 0) impossible();
  return total;
}

Size elements(const Shape& shape) {
  Size total(1);
  for (const Size& n : shape) total = total * n;
  return total;
}

}  // namespace deepmd::native::traced
