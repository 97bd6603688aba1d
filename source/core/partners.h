// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * Atoms and their virtual partners: models with spins, evaluated by edges.
 *
 * Every atom has a partner at r + s * spin_scale[type], of the type ntypes + type. The model sees
 * both as atoms; their results are those of the atom. The same as deepmd/dpmodel/model/spin.py.
 */
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "inputs.h"
#include "pairs.h"
#include "system.h"

namespace deepmd::core {

/** Numbers of a chunk, as the evaluation by edges takes them. */
struct ChunkNumbers {
  std::vector<int64_t>&i, &j;   ///< per edge, atoms of the chunk
  std::vector<int64_t>& atype;  ///< per atom of the chunk
};

/** Atoms and partners of a range of centers. Keeps its memory from call to call. */
class Partners {
 public:
  /** Atoms of a chunk for every center: 2 where the surroundings of partners matter, too. */
  static int64_t per_center(const Info& info) { return info.message_passing ? 2 : 1; }

  /**
   * Add the partners to the pairs of a range.
   *
   * @param pairs in: of the centers, up to System::reach; out: edges of atoms and partners within
   *   the cutoff, whose i and j are still atoms of the frame
   * @param numbers of the edges and atoms of the chunk: the centers, each followed by its partner
   *   where there are two per center, and one atom per type that stands for all neighbors of which
   *   only it matters
   */
  void expand(const System& system, const Info& info, Range range, Pairs& pairs,
              const ChunkNumbers& numbers);

  /** Inputs of the atoms of the chunk, and the displacement of partners from their atoms. */
  void gather(const System& system, const Info& info, Range range, ChunkInputs& inputs);

  /** Vectors between the atoms themselves, (n_edges, 3) [Å]: a strain leaves spins as they are. */
  const std::vector<double>& atom_vectors() const { return atom_vec_; }

  /** Add minus the derivatives by spins of a gradient (n_edges, size, 3) to (size, nall, 3). */
  void add_force_mag(const System& system, const Info& info, const Pairs& pairs,
                     const double* gradient, int64_t size, double* force_mag) const;

 private:
  /** The atoms at the ends of an edge, the vector between them [Å], and which ends are partners. */
  struct Edge {
    int64_t i, j;
    const double* vec;
    bool from, to;
  };

  void add_center(const System& system, const Info& info, int64_t atom, int64_t first, int64_t last,
                  Pairs& pairs);
  void add(const System& system, const Info& info, const Edge& edge, Pairs& pairs);
  bool is_crowded(const Info& info, const Pairs& pairs) const;
  void drop_hidden(const System& system, const Info& info, Pairs& pairs);
  void number(const System& system, const Info& info, Range range, const Pairs& pairs,
              const ChunkNumbers& numbers) const;

  std::vector<double> atom_vec_;  ///< see atom_vectors()
  std::vector<char> from_, to_;   ///< per edge: whether an end is a partner
  Pairs atoms_;                   ///< those before expand()
  std::vector<int64_t> centers_;
  std::vector<double> displacement_;
};

}  // namespace deepmd::core
