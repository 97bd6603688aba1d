// SPDX-License-Identifier: LGPL-3.0-or-later
/** Laying edges out in the tables ("slots") that a model reads. */
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace deepmd::core {

/** Layouts of a packing; the numbers are those of deepmd_layout. */
enum class Layout { typed = 0, mixed = 1, flat = 2, angles = 3, centers = 4, first_type = 5 };

/** How one part of a model wants its neighbors; see deepmd_packing. */
struct Packing {
  Layout layout = Layout::typed;
  int64_t ntypes = 0;
  double rcut = 0.0;  ///< [Å]
  std::vector<int64_t> sel;
  bool by_centre = false;
  std::vector<std::pair<int, int>> exclude;
  int64_t nearest = 0;
  double edge_rcut = 0.0;
  int64_t edge_sel = 0;

  /** Number of slots it takes. */
  int64_t n_slots() const;
};

/** Edges sorted by center, and the atoms they join. */
struct Edges {
  int64_t n_edges = 0;
  const int64_t* i = nullptr;
  const int64_t* j = nullptr;
  const double* vec = nullptr;  ///< (n_edges, 3) [Å]
  const double* r2 = nullptr;   ///< squared lengths [Å²]
  int64_t n_atoms = 0;
  const int64_t* atype = nullptr;
  const int64_t* first_type = nullptr;  ///< (n_atoms): type of the first atom of the frame
};

/** An index array: (rows) if `columns` is negative, otherwise (rows, columns). */
struct Slot {
  std::vector<int64_t> data;
  int64_t rows = 0;
  int64_t columns = -1;
};

/** What did not fit. */
struct Overflow {
  int64_t centers = 0;          ///< centers with more neighbors than `sel`
  int64_t most = 0;             ///< largest number of neighbors seen within a cutoff
  std::vector<int64_t> needed;  ///< per type, of typed layouts: largest number seen
};

/** Makes slots; keeps its memory from call to call. One thread at a time. */
class Packer {
 public:
  /** Make the slots of all packings, in their order; valid until the next call. */
  const std::vector<Slot>& pack(const std::vector<Packing>& packings, const Edges& edges,
                                Overflow* overflow);

 private:
  /** Numbers of edges that are kept, per center; starts has n_atoms + 1 entries. */
  struct Kept {
    std::vector<int64_t> edges;
    std::vector<int64_t> starts;
  };

  /** Where the nearest edges of a center end; of those in between `chosen_` are kept. */
  struct Limit {
    double low, high;  ///< squared distances [Å²]
  };

  void select(const Packing& p, bool typed, double rcut, int64_t most, const Edges& edges,
              Kept& kept, Overflow* overflow);
  Limit limit_of_ranked(int64_t most, const Edges& edges);
  bool is_beyond(const Limit& limit, int64_t e, const double* r2) const;
  int64_t cut_types(const Packing& p, int64_t* first, int64_t n, const Edges& edges,
                    Overflow* overflow);
  void fill_tables(const Packing& p, const Edges& edges, Slot* slots);
  void fill_angles(const Packing& p, const Edges& edges, Slot* slots);

  std::vector<Slot> slots_;
  Kept kept_, flat_;
  std::vector<int64_t> first_edge_;                 ///< per atom, and the end
  std::vector<std::pair<double, int64_t>> ranked_;  ///< squared distances and edges of a center
  std::vector<std::pair<double, int64_t>> tied_;
  std::vector<int64_t> chosen_;
  std::vector<int64_t> counts_, widths_, rows_, position_, per_type_;
  std::vector<char> allowed_;
};

}  // namespace deepmd::core
