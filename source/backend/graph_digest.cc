// SPDX-License-Identifier: LGPL-3.0-or-later
#include "graph_digest.h"

#include <string>
#include <vector>

#include "entry.h"
#include "protobuf.h"
#include "sha256.h"

namespace deepmd::backend {

void check_digest(std::string_view graph) {
  const std::vector<std::string_view> nodes = all_of(graph, 1);
  if (!nodes.empty() && bytes_of(nodes.back(), 1) == "deepmd/digest") {
    const std::string_view last = nodes.back();
    std::string written;  // the node with its number and size
    put(written, 1, last);
    const std::string_view body = graph.substr(0, graph.size() - written.size());
    Sha256 hash;
    hash.update(body.data(), body.size());
    const bool is_end = last.data() + last.size() == graph.data() + graph.size();
    if (is_end && last.find("sha256:" + hash.digits()) != std::string_view::npos) return;
  }
  throw Failure(
      "the graph does not hold what was written: its checksum differs or is not there, it is "
      "damaged or was edited; copy or freeze it again");
}

}  // namespace deepmd::backend
