// SPDX-License-Identifier: LGPL-3.0-or-later
/** Standard deviations of the C interface. */
#include "calls.h"

using namespace deepmd::c;

extern "C" {

const char* DP_DeepPotUncertaintyMissing(DP_DeepPot* dp) {
  const std::string closed = "the model is not open";
  return to_char(fact(dp, closed, [&] { return dp->model.uncertainty_missing(); }));
}

int DP_DeepPotGetNumbFeatures(DP_DeepPot* dp) {
  return fact(dp, 0, [&] { return dp->model.numb_features(); });
}

double DP_DeepPotEnergyDeviation(DP_DeepPot* dp, const double* features) {
  return fact(dp, 0.0, [&] {
    return dp->model.energy_deviation(array(features, dp->model.numb_features()));
  });
}

void DP_DeepPotComputeNListDeviations(
    DP_DeepPot* dp, const int natoms, const double* coord, const int* atype, const double* cell,
    const int nghost, const DP_Nlist* nlist, const double* fparam, const double* aparam,
    const double* charge_spin, double* energy, double* force, double* virial, double* atomic_energy,
    double* atomic_virial, double* atomic_energy_std, double* force_std, double* features) {
  perform(dp, [&] {
    const Vectors<double> in({natoms, coord, atype, cell, 1, fparam, aparam, charge_spin, nghost},
                             dp->model);
    double total = 0.0;
    std::vector<double> forces, virials, energies, atom_virials;
    deepmd::Deviations deviations;
    dp->model.compute_deviations(total, forces, virials, atomic_energy ? &energies : nullptr,
                                 atomic_virial ? &atom_virials : nullptr, deviations, in.coord,
                                 in.atype, in.box, nghost, list_of(nlist), in.fparam, in.aparam,
                                 in.charge_spin);
    if (energy) *energy = total;
    copy_out(forces, force);
    copy_out(virials, virial);
    copy_out(energies, atomic_energy);
    copy_out(atom_virials, atomic_virial);
    copy_out(deviations.atom_energy, atomic_energy_std);
    copy_out(deviations.force, force_std);
    copy_out(deviations.features, features);
  });
}

}  // extern "C"
