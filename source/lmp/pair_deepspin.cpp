// SPDX-License-Identifier: LGPL-3.0-or-later
#include "pair_deepspin.h"

#include <memory>

#include "error.h"
#include "model.h"
#include "settings.h"

using namespace LAMMPS_NS;

void PairDeepspin::settings(int narg, char** arg) {
  std::string message;
  try {
    const std::string path = deepmd_lmp::parse_settings(narg, arg).models[0];
    std::unique_ptr<DP_DeepSpin, void (*)(DP_DeepSpin*)> model(DP_NewDeepSpin(path.c_str()),
                                                               &DP_DeleteDeepSpin);
    message = deepmd_lmp::take(DP_DeepSpinCheckOK(model.get()));
  } catch (const deepmd_lmp::Failure& failure) {
    message = failure.what();
  }
  if (message.empty()) message = "models with spins are not built for LAMMPS yet";
  error->all(FLERR, "pair_style deepspin: " + message);
}
