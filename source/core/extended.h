// SPDX-License-Identifier: LGPL-3.0-or-later
/** Evaluation of files that have no entry for edges: coordinates with ghosts and a list. */
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "inputs.h"
#include "library.h"
#include "packing.h"
#include "pairs.h"
#include "system.h"

namespace deepmd::core {

/** A range of centers as such files want it. Keeps its memory from call to call. */
class ExtendedChunk {
 public:
  /** Evaluate; results stay here. */
  void run(const BackendModel& model, const System& system, Range range, const Wanted& wanted,
           int threads);
  /** Add the results to predictions of the whole frame. */
  void add(const Info& info, const System& system, Range range,
           std::vector<Prediction>& predictions) const;

  const Overflow& overflow() const { return overflow_; }

 private:
  /** An atom and the lattice translation of its image. */
  using Image = std::array<int64_t, 4>;
  struct HashImage {
    size_t operator()(const Image& image) const;
  };
  /** One array per output, empty where nothing is wanted. */
  using Arrays = std::vector<std::vector<double>>;

  int64_t n_atoms() const { return static_cast<int64_t>(atom_.size()); }
  void find_atoms(const System& system, Range range, bool message_passing);
  void add_atom(const System& system, Range range, int64_t atom, const double* position);
  void fill_table(const Info& info, const System& system, int64_t n);
  void prepare_results(const Info& info, const System& system, const Wanted& wanted, Range range);
  void fold(const std::vector<double>& from, int64_t size, int64_t width, int64_t n_all,
            std::vector<double>& to) const;

  Pairs pairs_;
  Packer packer_;
  Overflow overflow_;
  std::unordered_map<Image, int64_t, HashImage> images_;
  // The centers, then all other atoms and images that are neighbors:
  std::vector<int64_t> atom_;     ///< the frame's atom that gets the force
  std::vector<int64_t> mapping_;  ///< place among the centers, or -1
  std::vector<int64_t> atype_;
  std::vector<double> coord_;
  std::vector<int64_t> center_, neighbor_;  ///< per pair
  std::vector<int64_t> table_, row_;
  int64_t width_ = 0;
  std::vector<double> spin_;
  ChunkInputs inputs_;
  std::vector<deepmd_result> results_;
  Arrays value_, force_, force_mag_, virial_, atom_virial_;
};

}  // namespace deepmd::core
