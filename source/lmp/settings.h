// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The arguments of pair_style deepmd (and deepspin): model files, then keywords with values.
 */
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace deepmd_lmp {

/** How several ranks evaluate models that pass messages: ghosts, too, or an exchange per layer. */
enum class Messages { automatic, halo, layer };

struct Settings {
  std::vector<std::string> models;  ///< the first one drives

  std::string out_file = "model_devi.out";
  int out_freq = 100;  ///< 0: no file
  bool atomic = false;
  std::optional<double> relative;    ///< level of the force deviation [force unit of the run]
  std::optional<double> relative_v;  ///< level of the virial deviation [energy unit]

  // At most one source of each; numbers as given, not yet compared with the model.
  std::vector<double> fparam;
  std::string fparam_compute;
  std::string fparam_fix;
  int fparam_fix_index = 0;  ///< 1-based; 0: the fix's scalar
  std::vector<double> aparam;
  std::string aparam_compute;
  std::string ttm;  ///< ID of a fix whose electron temperatures are aparam, or their mean fparam
  std::vector<double> charge_spin;

  Messages messages = Messages::automatic;
  bool unfolded = false;  ///< virials of atoms are for the heat flux
  bool check_probes = true;
  std::string engine = "auto";
};

/** Read the arguments. Throws Failure, naming the keyword and what is wanted. */
Settings parse_settings(int narg, char** arg);

}  // namespace deepmd_lmp
