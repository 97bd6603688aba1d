// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Reader of HDF5 files as h5py writes them: datasets and texts of the root group.
 *
 * Of the format, what such files use: superblock 0, groups as B-trees of symbol tables, object
 * headers 1, contiguous or compact data, integers, floats, booleans and opaque bytes, texts in the
 * global heap. HDF5's own library would be a dependency of 3 MB for this. Every offset is checked.
 *
 * HDF5 File Format Specification Version 3.0, The HDF Group.
 */
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

/** An open file; arrays point into its memory. */
class Hdf5 {
 public:
  /** Throws Failure if the file is of another kind, damaged, or uses what is not read here. */
  explicit Hdf5(std::string bytes);

  const std::map<std::string, Array>& arrays() const { return arrays_; }
  /** A text attribute of the root group; null: there is none. */
  const std::string* text(const std::string& name) const;

 private:
  struct Message {
    unsigned type;
    size_t begin, size;
  };
  uint64_t number(size_t at, int bytes) const;
  void need(uint64_t at, uint64_t size) const;
  bool is(size_t at, const char* signature) const;
  std::vector<Message> header(size_t at) const;
  void read_group(size_t tree, size_t heap, int depth);
  void read_names(size_t node, size_t heap_data);
  void read_dataset(const std::string& name, size_t at);
  void read_type(size_t at, Array& array) const;
  void read_attribute(const Message& message);
  std::string heap_text(size_t at) const;

  const std::string bytes_;
  std::map<std::string, Array> arrays_;
  std::map<std::string, std::string> texts_;
};

}  // namespace deepmd::native
