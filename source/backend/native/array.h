// SPDX-License-Identifier: LGPL-3.0-or-later
/** Arrays of model files, where they lie in the bytes of the file. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../entry.h"

namespace deepmd::native {

using backend::Failure;

/** Numbers in a file. */
struct Array {
  std::string dtype;  ///< as NumPy writes it: "<f8", "<i8", "|b1"
  std::vector<int64_t> shape;
  const unsigned char* data = nullptr;  ///< in the memory of the file
  size_t item = 0;                      ///< bytes of a number

  int64_t size() const;
  /** The numbers as float64; throws Failure for what is no number. */
  std::vector<double> values() const;
};

/** Arrays of a file by their names in it. */
using Arrays = std::map<std::string, Array>;

}  // namespace deepmd::native
