// SPDX-License-Identifier: LGPL-3.0-or-later
#include "array.h"

#include <cstring>

namespace deepmd::native {

namespace {

template <class T>
void convert(const Array& from, std::vector<double>& to) {
  for (size_t k = 0; k < to.size(); ++k) {
    T x;
    std::memcpy(&x, from.data + k * sizeof(T), sizeof(T));
    to[k] = static_cast<double>(x);
  }
}

}  // namespace

int64_t Array::size() const {
  int64_t n = 1;
  for (const int64_t k : shape) n *= k;
  return n;
}

std::vector<double> Array::values() const {
  std::vector<double> to(static_cast<size_t>(size()));
  if (dtype == "<f8") {
    convert<double>(*this, to);
  } else if (dtype == "<f4") {
    convert<float>(*this, to);
  } else if (dtype == "<i8") {
    convert<int64_t>(*this, to);
  } else if (dtype == "<i4") {
    convert<int32_t>(*this, to);
  } else if (dtype == "|b1" || dtype == "|u1") {
    convert<uint8_t>(*this, to);
  } else {
    throw Failure("an array has numbers of type " + dtype +
                  ", which the native engine does not read");
  }
  return to;
}

}  // namespace deepmd::native
