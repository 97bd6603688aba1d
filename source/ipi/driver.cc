// SPDX-License-Identifier: LGPL-3.0-or-later
#include "driver.h"

#include <cstdint>
#include <cstdio>
#include <utility>

#include "error.h"

namespace deepmd::ipi {
namespace {

constexpr double BOHR = 0.52917721;      // Å
constexpr double HARTREE = 27.21138602;  // eV

/** Matrices are sent with their columns as vectors; here rows are. */
std::array<double, 9> transposed(const std::array<double, 9>& m, double factor) {
  std::array<double, 9> t;
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      t[3 * a + b] = m[3 * b + a] * factor;
    }
  }
  return t;
}

/** INIT: the number of the replica and a text for the driver; neither matters to a model. */
void receive_init(Connection& server) {
  server.receive<int32_t>();
  const auto size = server.receive<int32_t>();
  std::vector<char> text(size > 0 ? static_cast<size_t>(size) : 0);
  server.receive(text.data(), text.size());
}

/** POSDATA: cell, its inverse, the number of atoms, positions. */
Result receive_frame(Connection& server, Potential& potential) {
  std::array<double, 9> cell, inverse;
  server.receive(cell.data(), 9);
  server.receive(inverse.data(), 9);
  const auto natoms = server.receive<int32_t>();
  if (natoms < 0 || static_cast<size_t>(natoms) != potential.natoms()) {
    throw Error("the server has " + std::to_string(natoms) + " atoms, but coord_file names " +
                std::to_string(potential.natoms()) + "; give the file the simulation starts from");
  }
  std::vector<double> coord(3 * potential.natoms());
  server.receive(coord.data(), coord.size());
  for (double& x : coord) {
    x *= BOHR;
  }
  return potential.evaluate(coord, transposed(cell, BOHR));
}

/** FORCEREADY: energy, number of atoms, forces, virial, and no further text. */
void send_result(Connection& server, Result result) {
  for (double& f : result.forces) {
    f *= BOHR / HARTREE;
  }
  const auto virial = transposed(result.virial, 1.0 / HARTREE);
  server.send_header("FORCEREADY");
  server.send(result.energy / HARTREE);
  server.send(static_cast<int32_t>(result.forces.size() / 3));
  server.send(result.forces.data(), result.forces.size());
  server.send(virial.data(), virial.size());
  server.send(static_cast<int32_t>(0));
}

}  // namespace

void serve(Connection& server, Potential& potential, bool verbose) {
  bool initialized = false;
  bool have_result = false;
  long evaluations = 0;
  Result result;
  std::string header;
  while (server.receive_header(header) && header != "EXIT") {
    if (header == "STATUS") {
      server.send_header(have_result ? "HAVEDATA" : initialized ? "READY" : "NEEDINIT");
    } else if (header == "INIT") {
      receive_init(server);
      initialized = true;
    } else if (header == "POSDATA") {
      result = receive_frame(server, potential);
      have_result = true;
      ++evaluations;
      if (verbose) {
        std::printf("dp_ipi: evaluation %ld: energy %.10g eV\n", evaluations, result.energy);
        std::fflush(stdout);
      }
    } else if (header == "GETFORCE" && have_result) {
      send_result(server, std::exchange(result, {}));
      have_result = false;
    } else if (header == "GETFORCE") {
      throw Error("the server asked for forces before it sent positions");
    } else {
      throw Error("the server sent \"" + header + "\", which is no message of the i-PI protocol");
    }
  }
  std::printf("dp_ipi: %ld evaluations\n", evaluations);
}

}  // namespace deepmd::ipi
