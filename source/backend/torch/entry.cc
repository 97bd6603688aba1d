// SPDX-License-Identifier: LGPL-3.0-or-later
/** The functions of backend.h: exceptions become messages here. */
#include <algorithm>
#include <cstring>
#include <new>

#include "model.h"

namespace tb = deepmd::torch_backend;

/** The handle that the DeePMD library holds. */
struct deepmd_backend_model {
  std::shared_ptr<tb::Program> program;
};

namespace {

/** Run an action; write the message of an exception and return 1 if there is one. */
template <class Action>
int guarded(char* error, size_t error_size, const Action& action) {
  const auto fail = [&](const char* message) {
    if (error != nullptr && error_size > 0) {
      const size_t n = std::min(std::strlen(message), error_size - 1);
      std::memcpy(error, message, n);
      error[n] = '\0';
    }
    return 1;
  };
  try {
    action();
    return 0;
  } catch (const tb::Failure& failure) {
    return fail(failure.what());
  } catch (const std::bad_alloc&) {
    return fail("out of memory; evaluate fewer atoms at a time, or use more processes");
  } catch (const std::exception& other) {
    return fail(tb::first_words(other.what()).c_str());
  } catch (...) {
    return fail("PyTorch failed without saying why");
  }
}

int open_model(const deepmd_source* source, deepmd_backend_model** model, char* error,
               size_t error_size) {
  return guarded(error, error_size, [&] {
    *model = nullptr;
    *model = std::make_unique<deepmd_backend_model>(
                 deepmd_backend_model{tb::open_program(deepmd::backend::read(source))})
                 .release();
  });
}

int query(deepmd_backend_model* model, const deepmd_info** info, char* error, size_t error_size) {
  return guarded(error, error_size, [&] { *info = &tb::info_of(*model->program); });
}

int evaluate(deepmd_backend_model* model, const deepmd_edges_request* request, char* error,
             size_t error_size) {
  return guarded(error, error_size,
                 [&] { tb::evaluate_edges(*model->program, deepmd::backend::read(request)); });
}

int evaluate_extended(deepmd_backend_model* model, const deepmd_extended_request* request,
                      char* error, size_t error_size) {
  return guarded(error, error_size,
                 [&] { tb::evaluate_extended(*model->program, deepmd::backend::read(request)); });
}

void close_model(deepmd_backend_model* model) { std::unique_ptr<deepmd_backend_model> end(model); }

const char* framework() { return tb::framework_name().c_str(); }

}  // namespace

extern "C" __attribute__((visibility("default"))) const deepmd_backend_functions* deepmd_backend() {
  static const deepmd_backend_functions functions = {
      sizeof(deepmd_backend_functions),
      DEEPMD_BACKEND_VERSION,
      "PyTorch",
      ".pth",
      open_model,
      query,
      evaluate,
      close_model,
      evaluate_extended,
      framework,
  };
  return &functions;
}
