// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * What LAMMPS calls when it loads the plugin: the styles it adds.
 */
#include <cstdio>

#include "compute_deepmd_fparam_dedn.h"
#include "compute_deeptensor_atom.h"
#include "fix_dplr.h"
#include "lammps.h"
#include "lammps_plugin.h"
#include "library.h"
#include "pair_deepmd.h"
#include "pair_deepspin.h"
#include "pppm_dplr.h"

using namespace LAMMPS_NS;

namespace {

template <typename Style>
void* pair_style(void* lmp) {
  return static_cast<Pair*>(new Style(static_cast<LAMMPS*>(lmp)));
}

template <typename Style>
void* kspace_style(void* lmp) {
  return static_cast<KSpace*>(new Style(static_cast<LAMMPS*>(lmp)));
}

template <typename Style>
void* compute_style(void* lmp, int narg, char** arg) {
  return static_cast<Compute*>(new Style(static_cast<LAMMPS*>(lmp), narg, arg));
}

template <typename Style>
void* fix_style(void* lmp, int narg, char** arg) {
  return static_cast<Fix*>(new Style(static_cast<LAMMPS*>(lmp), narg, arg));
}

}  // namespace

extern "C" void lammpsplugin_init(void* lmp, void* handle, void* register_function) {
  // Classes of LAMMPS differ from version to version: calling others' would crash.
  const int version = lammps_version(lmp);
  if (version != DEEPMD_LAMMPS_VERSION) {
    std::fprintf(stderr,
                 "ERROR: this deepmd plugin was built for LAMMPS %d, but this is LAMMPS %d; "
                 "pair_style deepmd is not available. Build the plugin for this LAMMPS "
                 "(cmake -DLAMMPS_INCLUDE_DIR=...).\n",
                 DEEPMD_LAMMPS_VERSION, version);
    return;
  }
  const auto add = reinterpret_cast<lammps_plugin_register>(register_function);
  lammps_plugin plugin{};
  plugin.version = static_cast<LAMMPS*>(lmp)->version;
  plugin.author = "The DeePMD-kit authors";
  plugin.handle = handle;

  plugin.style = "pair";
  plugin.name = "deepmd";
  plugin.info = "deep potentials";
  plugin.creator.without_arguments = &pair_style<PairDeepmd>;
  add(&plugin, lmp);
  plugin.name = "deepspin";
  plugin.info = "deep potentials with spins";
  plugin.creator.without_arguments = &pair_style<PairDeepspin>;
  add(&plugin, lmp);

  plugin.style = "kspace";
  plugin.name = "pppm/dplr";
  plugin.info = "electrostatics of ions and Wannier centroids";
  plugin.creator.without_arguments = &kspace_style<PPPMDplr>;
  add(&plugin, lmp);

  plugin.style = "fix";
  plugin.name = "dplr";
  plugin.info = "forces of Wannier centroids on atoms";
  plugin.creator.with_arguments = &fix_style<FixDplr>;
  add(&plugin, lmp);

  plugin.style = "compute";
  plugin.name = "deeptensor/atom";
  plugin.info = "dipoles, polarizabilities and other properties of atoms";
  plugin.creator.with_arguments = &compute_style<ComputeDeeptensorAtom>;
  add(&plugin, lmp);
  plugin.name = "deepmd/fparam/dedn";
  plugin.info = "derivative of the energy by the frame parameter";
  plugin.creator.with_arguments = &compute_style<ComputeDeepmdFparamDedn>;
  add(&plugin, lmp);
}
