// SPDX-License-Identifier: LGPL-3.0-or-later
/** Named inputs of frames and atoms: which a model takes, what a frame gives, what a chunk gets. */
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "model.h"

namespace deepmd::core {

/** Value of one input of a model in a frame. */
struct GivenInput {
  const Input* input = nullptr;
  std::vector<double> value;     ///< (size): of the frame, or of every atom without `rows`
  const double* rows = nullptr;  ///< (n_rows, size), of inputs of atoms
  int64_t n_rows = 0;            ///< local atoms; those of others are zero
};

/** Throw if a model takes an input that frames cannot give here. */
void check_inputs(const Info& info);

/**
 * Values of all inputs of a model; throws for one that is neither given nor has a default.
 *
 * @param n number of atoms that are predicted: without any, inputs of atoms may be missing
 */
std::vector<GivenInput> given_inputs(const Info& info, const Frame& frame, int64_t n);

/** Inputs of a range of centers as a backend wants them. Keeps its memory from call to call. */
class ChunkInputs {
 public:
  /**
   * Gather the rows of some atoms, followed by rows of zeros.
   *
   * @param given of the frame; must outlive the use of these inputs
   * @param atoms numbers of `n` atoms
   * @param padding rows of zeros at the end
   */
  void gather(const std::vector<GivenInput>& given, const int64_t* atoms, int64_t n,
              int64_t padding);

  const deepmd_input* data() const { return list_.data(); }
  int32_t size() const { return static_cast<int32_t>(list_.size()); }

 private:
  std::vector<std::vector<double>> rows_;
  std::vector<deepmd_input> list_;
};

}  // namespace deepmd::core
