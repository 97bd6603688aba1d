// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * compute deeptensor/atom: what a model of a tensor (dipole, polarizability, ...) gives per atom.
 */
#pragma once

#include <deepmd/c_api.h>

#include <memory>
#include <vector>

#include "compute.h"
#include "frame.h"

namespace LAMMPS_NS {

class ComputeDeeptensorAtom : public Compute {
 public:
  ComputeDeeptensorAtom(class LAMMPS* lmp, int narg, char** arg);
  ~ComputeDeeptensorAtom() override;

  void init() override;
  void init_list(int id, class NeighList* neighbors) override;
  void compute_peratom() override;
  double memory_usage() override;

 private:
  struct Close {
    void operator()(DP_DeepTensor* model) const { DP_DeleteDeepTensor(model); }
  };
  std::unique_ptr<DP_DeepTensor, Close> model;
  deepmd_lmp::Frame frame;
  std::vector<int> types;     ///< (ntypes + 1): LAMMPS's type i is the model's i - 1
  std::vector<int> selected;  ///< types with values
  double length = 1.0;
  int width = 0;
  int capacity = 0;
  double** tensor = nullptr;  ///< (capacity, width)
  class NeighList* list = nullptr;
};

}  // namespace LAMMPS_NS
