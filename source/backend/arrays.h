// SPDX-License-Identifier: LGPL-3.0-or-later
/** Structures and arrays of backend.h for C++, on both sides of the border. */
#pragma once

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "backend.h"

namespace deepmd::backend {

/** A structure of any release as one of this release, see deepmd_read. */
template <class T>
T read(const T* from) {
  T to;
  deepmd_read(&to, sizeof(T), from);
  return to;
}

/** Entry k of an array of structures of any release. */
template <class T>
T element(const T* array, int64_t k) {
  size_t stride;
  std::memcpy(&stride, array, sizeof(stride));
  const char* bytes = reinterpret_cast<const char*>(array) + static_cast<size_t>(k) * stride;
  T to;
  deepmd_read(&to, sizeof(T), bytes);
  return to;
}

template <class T>
constexpr int32_t dtype_of() {
  static_assert(std::is_same_v<T, double> || std::is_same_v<T, int64_t>);
  return std::is_same_v<T, double> ? DEEPMD_FLOAT64 : DEEPMD_INT64;
}

/** A view of numbers in the memory of this process. */
template <class T>
deepmd_array array_of(const T* data, std::initializer_list<int64_t> shape) {
  deepmd_array array{};
  array.data = const_cast<T*>(data);
  std::copy(shape.begin(), shape.end(), array.shape);
  array.n_dims = static_cast<int32_t>(shape.size());
  array.dtype = dtype_of<T>();
  array.device = DEEPMD_CPU;
  return array;
}

/**
 * Numbers of an array; null if it has no data.
 *
 * @throws std::invalid_argument if they are of another type, or not in the memory of the process
 */
template <class T>
T* numbers(const deepmd_array& array, const char* name) {
  if (array.data == nullptr) return nullptr;
  if (array.device != DEEPMD_CPU) {
    throw std::invalid_argument(std::string(name) + " lies on device " +
                                std::to_string(array.device) +
                                "; this backend takes arrays on the CPU (1) only");
  }
  if (array.dtype != dtype_of<T>()) {
    throw std::invalid_argument(std::string(name) + " has numbers of type " +
                                std::to_string(array.dtype) + "; this backend takes " +
                                (std::is_same_v<T, double> ? "float64 (1)" : "int64 (2)"));
  }
  if (array.n_dims < 0 || array.n_dims > DEEPMD_MAX_DIMS) {
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(array.n_dims) +
                                " dimensions; at most " + std::to_string(DEEPMD_MAX_DIMS) +
                                " are known");
  }
  return static_cast<T*>(array.data);
}

}  // namespace deepmd::backend
