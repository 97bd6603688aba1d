// SPDX-License-Identifier: LGPL-3.0-or-later
/** TensorFlow in the form of backend.h. */
#include "../entry.h"

#include "model.h"

namespace tf = deepmd::tensorflow_backend;

namespace {

struct TensorFlow {
  using Program = tf::Program;
  static constexpr const char* name = "TensorFlow";
  static constexpr const char* suffixes = ".pb .savedmodel .savedmodeltf";

  static std::shared_ptr<Program> open(const deepmd_source& source) {
    return tf::open_program(source);
  }
  static const deepmd_info& info(const Program& program) { return program.info(); }
  template <class Request>
  static void evaluate(const Program& program, const Request& request) {
    program.evaluate(request);
  }
  static const char* version() { return tf::framework_name().c_str(); }
  static std::string first_words(const std::string& message) { return tf::first_words(message); }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const deepmd_backend_functions* deepmd_backend() {
  return deepmd::backend::Entry<TensorFlow>::functions();
}
