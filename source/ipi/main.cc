// SPDX-License-Identifier: LGPL-3.0-or-later
/** dp_ipi INPUT.json: energies and forces of a model for i-PI, ASE and others of its protocol. */
#include <cstdio>
#include <cstring>
#include <exception>

#include "driver.h"

namespace {

constexpr const char* USAGE =
    "usage: dp_ipi INPUT.json\n"
    "Computes forces for a server of the i-PI protocol. Keys of the input:\n"
    "  graph_file  the model file\n"
    "  coord_file  XYZ file with the atoms in the server's order (only names are read)\n"
    "  atom_type   {\"O\": 0, \"H\": 1}: numbers of the model's types (default: the model's "
    "names)\n"
    "  use_unix    true: the socket /tmp/ipi_HOST, false: a port (default)\n"
    "  host, port  of the server (localhost, 31415)\n"
    "  verbose     true: a line per evaluation (false)\n";

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || std::strcmp(argv[1], "-h") == 0 || std::strcmp(argv[1], "--help") == 0) {
    std::fputs(USAGE, argc == 2 ? stdout : stderr);
    return argc == 2 ? 0 : 2;
  }
  try {
    const auto settings = deepmd::ipi::read_settings(argv[1]);
    deepmd::ipi::Potential potential(settings);  // before the server waits for us
    deepmd::ipi::Connection server(settings);
    deepmd::ipi::serve(server, potential, settings.verbose);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dp_ipi: %s\n", error.what());
    return 1;
  }
  return 0;
}
