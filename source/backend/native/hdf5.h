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
#include <string_view>
#include <vector>

#include "array.h"

namespace deepmd::native {

/** The content of a file; arrays point into its bytes, which the caller keeps. */
class Hdf5 {
 public:
  /** Throws Failure if the file is of another kind, damaged, or uses what is not read here. */
  explicit Hdf5(std::string_view bytes);

  const Arrays& arrays() const { return arrays_; }
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

  const std::string_view bytes_;
  Arrays arrays_;
  std::map<std::string, std::string> texts_;
};

}  // namespace deepmd::native
