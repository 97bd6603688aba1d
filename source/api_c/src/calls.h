// SPDX-License-Identifier: LGPL-3.0-or-later
/** What a caller of the C interface passes, as vectors. */
#pragma once

#include <string>
#include <vector>

#include "handles.h"

namespace deepmd::c {

/** The arguments of a computation; what is not an argument of a function keeps its default. */
template <typename T>
struct Call {
  int natoms;
  const T* coord;
  const int* atype;
  const T* cell;
  int nframes = 1;
  const T* fparam = nullptr;
  const T* aparam = nullptr;
  const T* charge_spin = nullptr;
  int nghost = 0;
  const DP_Nlist* nlist = nullptr;
  bool with_list = false;
  int ago = 0;
  bool mixed = false;
  const T* spin = nullptr;
};

/** The same as vectors. */
template <typename T>
struct Vectors {
  template <typename Model>
  Vectors(const Call<T>& call, Model& model) {
    if (call.nframes < 1 || call.natoms < 0 || call.nghost < 0 || call.nghost > call.natoms) {
      throw deepmd::deepmd_exception("there are " + std::to_string(call.nframes) + " frames of " +
                                     std::to_string(call.natoms) + " atoms, of which " +
                                     std::to_string(call.nghost) +
                                     " are ghosts; ghosts are counted among the atoms");
    }
    const size_t nframes = call.nframes;
    const size_t natoms = call.natoms;
    const size_t nloc = natoms - call.nghost;
    coord = array(call.coord, nframes * natoms * 3);
    atype = array(call.atype, call.mixed ? nframes * natoms : natoms);
    spin = array(call.spin, nframes * natoms * 3);
    box = array(call.cell, nframes * 9);
    fparam = array(call.fparam, nframes * model.dim_fparam());
    aparam = array(call.aparam, nframes * nloc * model.dim_aparam());
    if (call.charge_spin) {
      const size_t size = nframes * model.dim_chg_spin();
      charge_spin.assign(call.charge_spin, call.charge_spin + size);
    }
  }

  std::vector<T> coord, spin, box, fparam, aparam;
  std::vector<int> atype;
  std::vector<double> charge_spin;
};

}  // namespace deepmd::c
