// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include "connection.h"
#include "potential.h"

namespace deepmd::ipi {

/**
 * Answer the server until it sends EXIT or closes the connection between two messages.
 *
 * Messages: STATUS, answered by NEEDINIT, READY or HAVEDATA; INIT, which names a replica; POSDATA,
 * a cell and positions; GETFORCE, answered by FORCEREADY and results. All of it in atomic units.
 */
void serve(Connection& server, Potential& potential, bool verbose);

}  // namespace deepmd::ipi
