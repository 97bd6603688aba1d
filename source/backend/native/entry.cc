// SPDX-License-Identifier: LGPL-3.0-or-later
/** The native engine in the form of backend.h. */
#include "../entry.h"

#include "program.h"

namespace native = deepmd::native;

namespace {

struct Native {
  using Program = native::Program;
  static constexpr const char* name = "native";
  static constexpr const char* suffixes = native::kSuffixes;

  static std::shared_ptr<Program> open(const deepmd_source& source) {
    return std::make_shared<Program>(source);
  }
  static const deepmd_info& info(const Program& program) { return program.info(); }
  static void evaluate(const Program& program, const deepmd_edges_request& request) {
    program.evaluate(request);
  }
  static const char* version() { return native::engine_name(); }
  static std::string first_words(const std::string& message) { return message; }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const deepmd_backend_functions* deepmd_backend() {
  return deepmd::backend::Entry<Native>::functions();
}
