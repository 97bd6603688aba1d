// SPDX-License-Identifier: LGPL-3.0-or-later
/** Checks of a TorchScript file's archive. Nothing of torch is seen here. */
#pragma once

#include <cstdint>
#include <functional>
#include <istream>
#include <string>
#include <vector>

#include "../zip.h"

namespace deepmd::torch_backend {

using backend::Record;

/** Content of a record, of the size that the table of contents states. */
using Reader = std::function<std::string(const std::string& name, uint64_t size)>;

/**
 * The records of an archive, after a check of their sizes and checksums, and of what would run when
 * torch reads them. Throws Failure.
 */
std::vector<Record> read_records(std::istream& stream, const std::string& path, const Reader& get);

}  // namespace deepmd::torch_backend
