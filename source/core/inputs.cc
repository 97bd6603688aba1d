// SPDX-License-Identifier: LGPL-3.0-or-later
#include "inputs.h"

#include <algorithm>
#include <string>

#include "backend/arrays.h"
#include "error.h"

namespace deepmd::core {

namespace {

/** What a frame has under a name, or null. */
const double* given_as(const Frame& frame, const Input& input) {
  if (input.name == "fparam") return frame.fparam;
  if (input.name == "charge_spin") return frame.chg_spin;
  if (input.name == "aparam") return frame.aparam;
  return nullptr;
}

}  // namespace

void check_inputs(const Info& info) {
  for (const Input& input : info.inputs) {
    const bool of_frames = input.name == "fparam" || input.name == "charge_spin";
    const bool known = of_frames || input.name == "aparam";
    if (known && input.per_atom == of_frames) {
      fail(info.path,
           "the model takes " + input.name + " of " + (input.per_atom ? "atoms" : "frames") +
               ", which is not understood",
           "install both libraries from one release of deepmd-kit");
    }
    if (!known && input.default_value.empty()) {
      fail(info.path,
           "the model takes \"" + input.name + "\" (" + std::to_string(input.size) +
               " numbers), which this library cannot give",
           "evaluate it from Python, or take a model with a default for it");
    }
  }
}

std::vector<GivenInput> given_inputs(const Info& info, const Frame& frame, int64_t n) {
  std::vector<GivenInput> all;
  for (const Input& input : info.inputs) {
    GivenInput one;
    one.input = &input;
    const double* given = given_as(frame, input);
    if (given && input.per_atom) {
      one.rows = given;
      one.n_rows = frame.nall - frame.nghost;
    } else if (given) {
      one.value.assign(given, given + input.size);
    } else if (!input.default_value.empty() || (input.per_atom && n == 0)) {
      one.value = input.default_value;
    } else {
      fail(info.path,
           "the model needs " + input.name + " (" + std::to_string(input.size) + " numbers" +
               (input.per_atom ? " per atom" : "") + "), and has no default",
           "give " + input.name);
    }
    all.push_back(std::move(one));
  }
  return all;
}

void ChunkInputs::gather(const std::vector<GivenInput>& given, const int64_t* atoms, int64_t n,
                         int64_t padding) {
  rows_.resize(given.size());
  list_.clear();
  for (size_t k = 0; k < given.size(); ++k) {
    const Input& input = *given[k].input;
    deepmd_input one{};
    one.struct_size = sizeof(one);
    one.name = input.name.c_str();
    one.level = input.per_atom ? DEEPMD_ATOM : DEEPMD_FRAME;
    if (input.per_atom) {
      std::vector<double>& rows = rows_[k];
      rows.assign(static_cast<size_t>((n + padding) * input.size), 0.0);
      for (int64_t a = 0; a < n; ++a) {
        if (given[k].rows && atoms[a] >= given[k].n_rows) continue;
        const double* row =
            given[k].rows ? given[k].rows + atoms[a] * input.size : given[k].value.data();
        std::copy_n(row, input.size, rows.begin() + a * input.size);
      }
      one.data = backend::array_of(rows.data(), {n + padding, input.size});
    } else {
      one.data = backend::array_of(given[k].value.data(), {1, input.size});
    }
    list_.push_back(one);
  }
}

}  // namespace deepmd::core
