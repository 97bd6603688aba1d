// SPDX-License-Identifier: LGPL-3.0-or-later
/** The functions of backend.h for one framework: exceptions become messages here. */
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "arrays.h"

/** The handle that the DeePMD library holds. */
struct deepmd_backend_model {
  std::shared_ptr<void> program;
};

namespace deepmd::backend {

/** A message for the user: what, where, how to mend it. */
struct Failure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** Whether a framework has evaluate(program, request) for a kind of requests. */
template <class Framework, class Request, class = void>
constexpr bool kEvaluates = false;
template <class Framework, class Request>
constexpr bool kEvaluates<
    Framework, Request,
    std::void_t<decltype(Framework::evaluate(std::declval<const typename Framework::Program&>(),
                                             std::declval<const Request&>()))>> = true;

/**
 * Functions of a framework.
 *
 * `Framework` has the type Program, a name and suffixes, and static functions: open(source) for a
 * std::shared_ptr<Program>, info(program), evaluate(program, request) for requests by edges and,
 * where it has that entry, for extended ones, version() and first_words(message of an exception of
 * the framework).
 */
template <class Framework>
class Entry {
 public:
  static const deepmd_backend_functions* functions() {
    static const deepmd_backend_functions all = {
        sizeof(deepmd_backend_functions),
        DEEPMD_BACKEND_VERSION,
        Framework::name,
        Framework::suffixes,
        open,
        query,
        evaluate<deepmd_edges_request>,
        close,
        extended(),
        [] { return Framework::version(); },
    };
    return &all;
  }

 private:
  using Program = typename Framework::Program;

  /** Run an action; write the message of an exception and return 1 if there is one. */
  template <class Action>
  static int guarded(char* error, size_t error_size, const Action& action) {
    const auto fail = [&](std::string message) {
      // One line, whatever the file has in the place of names.
      const auto unprintable = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
      std::replace_if(message.begin(), message.end(), unprintable, '?');
      if (error != nullptr && error_size > 0) {
        const size_t n = std::min(message.size(), error_size - 1);
        std::memcpy(error, message.data(), n);
        error[n] = '\0';
      }
      return 1;
    };
    try {
      action();
      return 0;
    } catch (const Failure& failure) {
      return fail(failure.what());
    } catch (const std::bad_alloc&) {
      return fail("out of memory; evaluate fewer atoms at a time, or use more processes");
    } catch (const std::exception& other) {
      return fail(Framework::first_words(other.what()));
    } catch (...) {
      return fail(std::string(Framework::name) + " failed without saying why");
    }
  }

  static const Program& program(const deepmd_backend_model* model) {
    return *static_cast<const Program*>(model->program.get());
  }

  static int open(const deepmd_source* source, deepmd_backend_model** model, char* error,
                  size_t error_size) {
    return guarded(error, error_size, [&] {
      *model = nullptr;
      *model = new deepmd_backend_model{Framework::open(read(source))};
    });
  }

  static int query(deepmd_backend_model* model, const deepmd_info** info, char* error,
                   size_t error_size) {
    return guarded(error, error_size, [&] { *info = &Framework::info(program(model)); });
  }

  template <class Request>
  static int evaluate(deepmd_backend_model* model, const Request* request, char* error,
                      size_t error_size) {
    return guarded(error, error_size, [&] { Framework::evaluate(program(model), read(request)); });
  }

  static constexpr auto extended() -> decltype(&evaluate<deepmd_extended_request>) {
    if constexpr (kEvaluates<Framework, deepmd_extended_request>) {
      return evaluate<deepmd_extended_request>;
    } else {
      return nullptr;
    }
  }

  static void close(deepmd_backend_model* model) { delete model; }
};

}  // namespace deepmd::backend
