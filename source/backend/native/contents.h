// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The neutral dictionary in a model file, whatever the kind of the file.
 *
 *   .dp .hlo                  HDF5 (deepmd/io/dp.py), the checksum compared
 *   .pth                      records of an archive (deepmd/io/packed.py), their checksums compared
 *   .pb                       constants of a graph, the checksum of the graph compared
 *   .savedmodel(tf)           a .dp beside the program, whose checksum it holds
 *   .yaml .yml                text (deepmd/io/yaml.py), the checksum compared
 *
 * Nothing of a file is run, and sizes are compared with those of the file before memory is taken.
 */
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "array.h"

namespace deepmd::native {

/** Suffixes of the files that are read, separated by blanks. */
inline constexpr const char* kSuffixes = ".dp .hlo .pth .pb .savedmodel .savedmodeltf .yaml .yml";

/** Key of an object that stands for an array, whose value is its name. */
inline constexpr const char* kArrayKey = "@array";

/** A dictionary as JSON, and the arrays that it names. */
struct Contents {
  std::string json;
  Arrays arrays;
  std::deque<std::string> memory;  ///< in which arrays lie; texts stay in their places
};

/** Read a file; throws Failure if it is damaged, or holds no neutral dictionary. */
Contents read_contents(const deepmd_source& source);

/** Those of the kinds of files. Arrays point into `bytes`, or into the memory of the contents. */
void read_hdf5(std::string_view bytes, Contents& contents);
void read_archive(std::string_view bytes, Contents& contents);
void read_graph(std::string_view bytes, Contents& contents);
void read_text(std::string_view text, Contents& contents);

/** The arrays of an .npz archive. */
void read_npz(std::string_view bytes, Contents& contents);

}  // namespace deepmd::native
