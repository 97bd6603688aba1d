// SPDX-License-Identifier: LGPL-3.0-or-later
#include "fragments.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "error.h"

namespace deepmd::core {

namespace {

/** A neighbor in the row of a center. */
using Entry = std::pair<int, int>;

/** Atoms of a group, local ones first, and what only it has of the neighbor list. */
struct Group {
  std::vector<int> atoms;
  std::vector<Entry> pairs;  ///< center and neighbor, in the order of the list
};

/** The groups of a frame: the QM region, and fragments by number, without the QM atoms. */
struct Groups {
  Group qm;
  std::map<int64_t, Group> fragments;
};

void add_pairs(const NeighborList& list, int64_t nall, const std::vector<int64_t>& regions,
               Groups& groups) {
  for (int row = 0; row < list.inum; ++row) {
    const int center = list.ilist[row];
    if (center < 0 || center >= nall) continue;  // refused where the lists are read
    const int64_t mine = regions[center];
    if (mine < 0) continue;
    for (int k = 0; k < list.numneigh[row]; ++k) {
      const int neighbor = list.firstneigh[row][k] & list.mask;
      if (neighbor < 0 || neighbor >= nall) {
        fail("neighbor list", "atom " + std::to_string(center) + " has the neighbor " +
                                  std::to_string(neighbor) + ", which does not exist");
      }
      const int64_t other = regions[neighbor];
      if (other < 0 || (mine > 0 && other > 0 && mine != other)) continue;
      const int64_t fragment = std::max(mine, other);
      Group& group = fragment == 0 ? groups.qm : groups.fragments[fragment];
      group.pairs.emplace_back(center, neighbor);
    }
  }
}

Groups groups_of(const Frame& frame, const std::vector<int64_t>& regions) {
  Groups groups;
  for (int64_t a = 0; a < frame.nall; ++a) {
    if (regions[a] < 0) continue;
    Group& group = regions[a] == 0 ? groups.qm : groups.fragments[regions[a]];
    group.atoms.push_back(static_cast<int>(a));
  }
  if (frame.list) add_pairs(*frame.list, frame.nall, regions, groups);
  return groups;
}

/** A frame of some atoms of another one, with its part of the list. */
class Part {
 public:
  /** `number` (nall) is -1 before and after. */
  Part(const Frame& frame, const std::vector<int>& atoms, std::vector<int>& number)
      : atoms_(atoms) {
    frame_ = frame;
    frame_.nall = static_cast<int64_t>(atoms.size());
    const int64_t nloc = frame.nall - frame.nghost;
    local_ = std::count_if(atoms.begin(), atoms.end(), [&](int a) { return a < nloc; });
    frame_.nghost = frame_.nall - local_;
    for (size_t k = 0; k < atoms.size(); ++k) {
      number[atoms[k]] = static_cast<int>(k);
      coord_.insert(coord_.end(), frame.coord + 3 * atoms[k], frame.coord + 3 * atoms[k] + 3);
      atype_.push_back(frame.atype[atoms[k]]);
    }
    frame_.coord = coord_.data();
    frame_.atype = atype_.data();
    frame_.aparam = nullptr;
  }

  /** Take the pairs of some groups; rows are those of all local atoms. */
  void take_list(const NeighborList& given, const std::vector<const Group*>& groups,
                 const std::vector<int>& number) {
    rows_.resize(static_cast<size_t>(local_));
    for (const Group* group : groups) {
      for (const auto& [center, neighbor] : group->pairs) {
        rows_[number[center]].push_back(number[neighbor]);
      }
    }
    for (int64_t k = 0; k < local_; ++k) {
      ilist_.push_back(static_cast<int>(k));
      numneigh_.push_back(static_cast<int>(rows_[k].size()));
      first_.push_back(rows_[k].data());
    }
    list_ = given;
    list_.inum = static_cast<int>(local_);
    list_.ilist = ilist_.data();
    list_.numneigh = numneigh_.data();
    list_.firstneigh = first_.data();
    list_.mask = -1;
    if (given.mapping) {
      for (const int a : atoms_) {
        const int owner = given.mapping[a];
        mapping_.push_back(owner < 0 ? -1 : number[owner]);
      }
      list_.mapping = mapping_.data();
    }
    frame_.list = &list_;
  }

  void evaluate(Model& model, Wanted wanted, std::vector<double>& cotangent) {
    if (wanted.cotangent) {
      cotangent.clear();
      for (int64_t k = 0; k < local_; ++k) cotangent.push_back(wanted.cotangent[atoms_[k]]);
      cotangent.push_back(0.0);  // so that there is memory without atoms
      wanted.cotangent = cotangent.data();
    }
    found_ = std::move(model.evaluate(frame_, wanted).front());
  }

  void add_to(Prediction& sum) const {
    sum.value[0] += found_.value[0];
    add(found_.atom_value, 1, sum.atom_value);
    add(found_.force, 3, sum.force);
    add(found_.atom_virial, 9, sum.atom_virial);
    for (size_t k = 0; k < found_.virial.size(); ++k) sum.virial[k] += found_.virial[k];
  }

 private:
  void add(const std::vector<double>& rows, int width, std::vector<double>& to) const {
    if (rows.empty()) return;
    for (size_t k = 0; k < atoms_.size(); ++k) {
      for (int c = 0; c < width; ++c) to[width * atoms_[k] + c] += rows[width * k + c];
    }
  }

  const std::vector<int>& atoms_;
  int64_t local_ = 0;
  Frame frame_;
  NeighborList list_;
  std::vector<double> coord_;
  std::vector<int> atype_, ilist_, numneigh_, mapping_;
  std::vector<std::vector<int>> rows_;
  std::vector<const int*> first_;
  Prediction found_;
};

Prediction nothing(int64_t nall, const Wanted& wanted) {
  const auto n = static_cast<size_t>(nall);
  Prediction sum;
  sum.value.assign(1, 0.0);
  sum.atom_value.assign(n, 0.0);
  if (wanted.derivatives || wanted.atom_virial) {
    sum.force.assign(3 * n, 0.0);
    sum.virial.assign(9, 0.0);
  }
  if (wanted.atom_virial) sum.atom_virial.assign(9 * n, 0.0);
  return sum;
}

/** The QM atoms and those of a fragment, local ones first. */
std::vector<int> together(const std::vector<int>& qm, const std::vector<int>& fragment) {
  std::vector<int> atoms;
  std::merge(qm.begin(), qm.end(), fragment.begin(), fragment.end(), std::back_inserter(atoms));
  return atoms;
}

}  // namespace

/** Region of every atom, -1 for those left out; ghosts have that of their atom. */
std::vector<int64_t> Fragments::regions(const Frame& frame) const {
  const int64_t nloc = frame.nall - frame.nghost;
  if (frame.nall < 0 || nloc < 0) fail("frame", "there are more ghosts than atoms");
  if (!frame.aparam && nloc > 0) {
    fail(info_.path, "the model needs the regions of the atoms",
         "give aparam: 0 for QM atoms, 1, 2, ... for the fragments, -1 for atoms left out");
  }
  std::vector<int64_t> found(static_cast<size_t>(frame.nall), -1);
  for (int64_t a = 0; a < nloc; ++a) {
    const double given = frame.aparam[a];
    if (!(std::abs(given - std::round(given)) < 1e-6) || given < -1.5 || given > 2e9) {
      fail("frame", "the region (aparam) of atom " + std::to_string(a) + " is " +
                        std::to_string(given),
           "give 0 for QM atoms, 1, 2, ... for the fragments, -1 for atoms left out");
    }
    found[a] = static_cast<int64_t>(std::llround(given));
  }
  if (frame.nghost == 0) return found;
  if (!frame.list || !frame.list->mapping) {
    fail(info_.path, "the regions of ghosts are those of their atoms, which are not known",
         "give the mapping of the neighbor list; in LAMMPS run one rank with several threads");
  }
  for (int64_t g = nloc; g < frame.nall; ++g) {
    const int owner = frame.list->mapping[g];
    if (owner >= nloc) {
      fail("neighbor list", "mapping: ghost " + std::to_string(g) + " is an image of atom " +
                                std::to_string(owner) + ", which is no local atom");
    }
    if (owner >= 0) found[g] = found[owner];
  }
  return found;
}

/** Add the bias of the whole, one of atoms, not of their copies. */
void Fragments::add_bias(const Frame& frame, const std::vector<int64_t>& regions,
                         Prediction& sum) const {
  const auto ntypes = static_cast<int>(info_.type_map.size());
  for (int64_t a = 0; a < frame.nall - frame.nghost; ++a) {
    if (regions[a] < 0 || frame.atype[a] < 0 || frame.atype[a] >= ntypes) continue;
    sum.atom_value[a] += info_.region_bias[frame.atype[a]];
    sum.value[0] += info_.region_bias[frame.atype[a]];
  }
}

std::vector<Prediction> Fragments::evaluate(const Frame& frame, const Wanted& wanted) {
  const std::vector<int64_t> regions = this->regions(frame);
  const Groups groups = groups_of(frame, regions);
  std::vector<int> number(static_cast<size_t>(frame.nall), -1);
  std::vector<double> cotangent;
  Prediction sum = nothing(frame.nall, wanted);
  const auto add = [&](Model& model, const std::vector<int>& atoms,
                       const std::vector<const Group*>& several) {
    if (atoms.empty()) return;
    Part part(frame, atoms, number);
    if (frame.list) part.take_list(*frame.list, several, number);
    part.evaluate(model, wanted, cotangent);
    part.add_to(sum);
    for (const int a : atoms) number[a] = -1;
  };
  add(*qm_, groups.qm.atoms, {&groups.qm});
  for (const auto& [region, fragment] : groups.fragments) {
    const std::vector<int> atoms = together(groups.qm.atoms, fragment.atoms);
    add(*qmmm_, atoms, {&groups.qm, &fragment});
  }
  add_bias(frame, regions, sum);
  return {std::move(sum)};
}

}  // namespace deepmd::core
