// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <map>
#include <string>
#include <vector>

namespace deepmd::ipi {

/** What the input file says. */
struct Settings {
  bool verbose = false;   ///< one line per evaluation
  bool use_unix = false;  ///< a socket in the file system rather than a port
  int port = 31415;
  std::string host = "localhost";        ///< with use_unix: the server's name, /tmp/ipi_NAME
  std::string graph_file;                ///< the model
  std::string coord_file;                ///< XYZ, for the names of the atoms
  std::map<std::string, int> atom_type;  ///< empty: the model's own names
};

/** Read and check a JSON file. */
Settings read_settings(const std::string& path);

/** The names of the atoms of an XYZ file, in order. */
std::vector<std::string> read_names(const std::string& path);

}  // namespace deepmd::ipi
