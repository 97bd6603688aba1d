// SPDX-License-Identifier: LGPL-3.0-or-later
#include "compute_deeptensor_atom.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "model.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"

using namespace LAMMPS_NS;

namespace {

constexpr const char* who = "compute deeptensor/atom: ";

}  // namespace

ComputeDeeptensorAtom::ComputeDeeptensorAtom(LAMMPS* lmp, int narg, char** arg)
    : Compute(lmp, narg, arg), frame(lmp) {
  deepmd_lmp::guard(lmp, who, [&] {
    if (narg != 4) throw deepmd_lmp::Failure("compute ID group deeptensor/atom FILE");
    length = deepmd_lmp::Units(lmp).length;
    model.reset(DP_NewDeepTensorWithParam(arg[3], deepmd_lmp::node_rank(world), ""));
    const std::string message = deepmd_lmp::take(DP_DeepTensorCheckOK(model.get()));
    if (!message.empty()) throw deepmd_lmp::Failure(message);
  });
  width = DP_DeepTensorGetOutputDim(model.get());
  const int* chosen = DP_DeepTensorGetSelTypes(model.get());
  selected.assign(chosen, chosen + DP_DeepTensorGetNumbSelTypes(model.get()));
  const int known = DP_DeepTensorGetNumbTypes(model.get());
  for (int t = 0; t <= atom->ntypes; ++t) types.push_back(t <= known ? t - 1 : -1);
  peratom_flag = 1;
  size_peratom_cols = width;
}

ComputeDeeptensorAtom::~ComputeDeeptensorAtom() { memory->destroy(tensor); }

void ComputeDeeptensorAtom::init() {
  if (!force->pair) {
    error->all(FLERR, std::string(who) +
                          "ghosts are needed; define a pair style, for example pair_style zero "
                          "with the model's cutoff");
  }
  const double cutoff = DP_DeepTensorGetCutoff(model.get()) * length;
  if (cutoff > force->pair->cutforce * (1.0 + 1e-12)) {
    error->all(FLERR, std::string(who) + "the model's cutoff of " + std::to_string(cutoff) +
                          " is beyond that of the pair style, " +
                          std::to_string(force->pair->cutforce));
  }
  deepmd_lmp::guard(lmp, who, [&] { deepmd_lmp::keep_ghosts(lmp, model.get(), frame); });
  neighbor->add_request(this, NeighConst::REQ_FULL | NeighConst::REQ_OCCASIONAL);
}

void ComputeDeeptensorAtom::init_list(int, NeighList* neighbors) { list = neighbors; }

void ComputeDeeptensorAtom::compute_peratom() {
  invoked_peratom = update->ntimestep;
  if (atom->nmax > capacity) {
    memory->destroy(tensor);
    capacity = atom->nmax;
    memory->create(tensor, capacity, width, "deeptensor/atom:tensor");
    array_atom = tensor;
  }
  neighbor->build_one(list);
  frame.fill(list, types, length, true);
  double* found = nullptr;
  int size = 0;
  if (frame.nlocal() > 0) {
    DP_DeepTensorComputeTensorNList(model.get(), frame.nall(), frame.coord(), frame.atype(),
                                    frame.cell(), frame.nghost(), frame.list(), &found, &size);
  }
  const std::unique_ptr<double, void (*)(void*)> values(found, &std::free);
  deepmd_lmp::guard(lmp, who, [&] {
    const std::string message = deepmd_lmp::take(DP_DeepTensorCheckOK(model.get()));
    if (!message.empty()) throw deepmd_lmp::Failure(message);
  });
  const double* value = found;
  for (int i = 0; i < frame.nlocal(); ++i) {
    std::fill_n(tensor[i], width, 0.0);
    const bool has = std::count(selected.begin(), selected.end(), frame.atype()[i]) > 0;
    if (!has || value == found + size) continue;
    if (atom->mask[i] & groupbit) {
      for (int k = 0; k < width; ++k) tensor[i][k] = length * value[k];
    }
    value += width;
  }
}

double ComputeDeeptensorAtom::memory_usage() {
  return static_cast<double>(capacity) * width * sizeof(double);
}
