// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * SavedModels of this project: the evaluation entry by edges, the function forward_edges as
 * deepmd/tf/saved/functions.py writes it, and the description and probes beside the program.
 */
#include <algorithm>

#include "contents.h"
#include "edges.h"

namespace deepmd::tensorflow_backend {
namespace {

constexpr const char* kEntry = "forward_edges";
/** Sizes of few, large chunks are alike from step to step, so that few programs are compiled. */
constexpr int64_t kCompiledChunk = 1 << 17;

std::shared_ptr<const Graph> graph_with(const Contents& contents) {
  const Function entry = contents.function(kEntry);
  return std::make_shared<Graph>(contents.graph_of({{kEntry, entry}}, contents.called_by({entry})));
}

int64_t chunk_edges(const Contents& contents) {
  return contents.compiles(contents.called_by({contents.function(kEntry)})) ? kCompiledChunk : 0;
}

class OwnSaved : public EdgesProgram {
 public:
  OwnSaved(const Contents& contents, const SavedTexts& texts)
      : EdgesProgram(graph_with(contents), texts.description, texts.probes, chunk_edges(contents)),
        keys_(contents.function(kEntry).keys) {}

 private:
  std::string place(const std::string& name) const override { return kEntry + ("/" + name); }
  std::string input(const std::string& name, bool) const override { return place(name); }
  std::string slot(int32_t k) const override {
    const std::string digits = std::to_string(k);
    return place("slot_" + std::string(3 - std::min<size_t>(digits.size(), 3), '0') + digits);
  }
  std::string result(const std::string& name) const override {
    const auto found = std::find(keys_.begin(), keys_.end(), name);
    if (found == keys_.end()) throw Failure("the program gives no " + name);
    return kEntry + (":" + std::to_string(found - keys_.begin()));
  }

  std::vector<std::string> keys_;
};

}  // namespace

std::shared_ptr<Program> open_own_saved(const std::string& content, const SavedTexts& texts) {
  return std::make_shared<OwnSaved>(Contents(content), texts);
}

}  // namespace deepmd::tensorflow_backend
