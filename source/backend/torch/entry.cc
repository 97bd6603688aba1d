// SPDX-License-Identifier: LGPL-3.0-or-later
/** PyTorch in the form of backend.h. */
#include "../entry.h"

#include "model.h"

namespace tb = deepmd::torch_backend;

namespace {

struct Torch {
  using Program = tb::Program;
  static constexpr const char* name = "PyTorch";
  static constexpr const char* suffixes = ".pth";

  static std::shared_ptr<Program> open(const deepmd_source& source) {
    return tb::open_program(source);
  }
  static const deepmd_info& info(const Program& program) { return tb::info_of(program); }
  static void evaluate(const Program& program, const deepmd_edges_request& request) {
    tb::evaluate_edges(program, request);
  }
  static void evaluate(const Program& program, const deepmd_extended_request& request) {
    tb::evaluate_extended(program, request);
  }
  static const char* version() { return tb::framework_name().c_str(); }
  static std::string first_words(const std::string& message) { return tb::first_words(message); }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const deepmd_backend_functions* deepmd_backend() {
  return deepmd::backend::Entry<Torch>::functions();
}
