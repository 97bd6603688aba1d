// SPDX-License-Identifier: LGPL-3.0-or-later
/** Finding pairs of atoms: O(N), exact for any cell, cells smaller than the cutoff included. */
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace deepmd::core {

/** Pairs, sorted by their center. */
struct Pairs {
  std::vector<int64_t> i;      ///< center
  std::vector<int64_t> j;      ///< neighbor
  std::vector<int32_t> shift;  ///< (n, 3): lattice translation of the neighbor
  std::vector<double> vec;     ///< (n, 3): coord[j] - coord[i] + shift . cell [Å]
  std::vector<double> r2;      ///< (n): squared length of vec [Å²]

  int64_t size() const { return static_cast<int64_t>(i.size()); }
  /** Change the number of pairs; memory is kept. */
  void resize(int64_t n);
};

/** What knows the neighbors of a set of centers. Several threads may ask at once. */
class PairSource {
 public:
  virtual ~PairSource() = default;

  /** Replace `pairs` by those of the centers first <= k < last; i and j are atoms, not places k. */
  virtual void find(int64_t first, int64_t last, Pairs& pairs) const = 0;
};

/** Atoms sorted into bins, so that the neighbors of an atom are found without looking at all. */
class CellList : public PairSource {
 public:
  /**
   * @param coord (any, 3) [Å], anywhere in space; must outlive this object
   * @param atoms those that take part, all of them centers
   * @param cell (9) [Å], rows are the vectors; null or zero for an open system
   * @throws deepmd::deepmd_exception for coordinates that are not finite or a cell without volume
   */
  CellList(const double* coord, std::vector<int64_t> atoms, const double* cell, double rcut);

  void find(int64_t first, int64_t last, Pairs& pairs) const override;

 private:
  using Vector = std::array<double, 3>;

  /** A bin along one axis, and in which image of the cell it is. */
  struct Step {
    int64_t bin;
    int32_t image;
  };
  /** Candidates first <= k < last of one image of the cell. */
  struct Run {
    std::array<int32_t, 3> image;
    int64_t first = 0, last = 0;
  };
  /** What is around one center. */
  struct Scratch {
    int64_t bin = -1;
    std::vector<Step> axis[3];
    std::vector<Run> runs;
    std::vector<int64_t> near;  ///< candidates, as places in the order of the bins

    void set_axis(int k, int64_t here, int64_t bins, int64_t range, bool periodic);
  };

  void set_cell(const double* cell);
  void set_bins();
  void sort_atoms();
  int64_t start_of(int64_t bin) const;
  int64_t look_around(int64_t center, Scratch& scratch) const;
  int64_t add_near(int64_t center, int64_t begin, int64_t end, Run& run, Scratch& scratch) const;
  int64_t add_pairs(int64_t center, const Scratch& scratch, int64_t n, Pairs& pairs) const;

  const double* coord_;
  std::vector<int64_t> atoms_;
  double rcut_;
  double reach_;  ///< cutoff with room for rounding [Å]
  bool periodic_ = false;
  Vector origin_{};
  std::array<Vector, 3> cell_{};     ///< rows are the vectors; of an open system a box around it
  std::array<Vector, 3> inverse_{};  ///< (x - origin) . inverse = fractional coordinates
  std::array<int64_t, 3> bins_{};
  std::array<int64_t, 3> range_{};  ///< bins to look at on either side

  std::vector<int64_t> bin_;    ///< per center
  std::vector<int64_t> place_;  ///< per center: its place in the order of the bins
  // In the order of the bins:
  std::vector<int64_t> order_;     ///< atoms
  std::vector<int32_t> fold_;      ///< (n, 3): lattice translations that bring atoms into the cell
  std::vector<double> folded_[3];  ///< positions in the cell, one array per direction
  std::vector<int64_t> starts_;    ///< first place of every bin; empty if most bins are
  std::vector<int64_t> keys_;      ///< instead of starts_: bin at every place
};

/** All pairs with 0 < r <= rcut of one frame; see CellList. */
Pairs find_pairs(const double* coord, int64_t natoms, const double* cell, double rcut);

/** Throw unless the coordinates (any, 3) of a range of atoms are finite and not absurdly large. */
void check_coordinates(const double* coord, int64_t first, int64_t last);

}  // namespace deepmd::core
