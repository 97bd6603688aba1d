// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * A potential behind the C interface, and how LAMMPS's ranks open model files together.
 */
#pragma once

#include <deepmd/c_api.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "error.h"
#include "lammps.h"
#include "pointers.h"
#include "settings.h"

namespace deepmd_lmp {

class Frame;

/** What the user must know; LAMMPS prints it as its ERROR. */
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** A failure that all ranks know already. */
struct Agreed : Failure {
  using Failure::Failure;
};

/** Frame and atomic parameters of one evaluation; null: none, or the model's default. */
struct Inputs {
  const double* fparam = nullptr;       ///< (dim_fparam)
  const double* aparam = nullptr;       ///< (nlocal, dim_aparam)
  const double* charge_spin = nullptr;  ///< (dim_chg_spin)
};

/** Results on this rank's atoms and ghosts. */
struct Results {
  double energy = 0.0;              ///< [eV]
  std::vector<double> virial;       ///< (9) [eV], row-major
  std::vector<double> force;        ///< (nall, 3) [eV/Å]: ghosts carry their share
  std::vector<double> force_mag;    ///< (nall, 3) [eV per unit of spin], alike; with spins
  std::vector<double> atom_energy;  ///< (nall) [eV]; if wanted
  std::vector<double> atom_virial;  ///< (nall, 9) [eV]; if wanted
};

/** An open potential, of atoms with or without spins. */
class Model {
 public:
  /** `content` of the file, or empty to read the path. Throws Failure. */
  Model(const std::string& path, const std::string& content, int gpu_rank, const Settings& settings,
        bool spins);

  std::string path;
  std::string engine;  ///< who evaluates it
  bool spins;
  double cutoff = 0.0;  ///< [Å]
  std::vector<std::string> type_map;
  int dim_fparam = 0;
  int dim_aparam = 0;
  int dim_chg_spin = 0;
  bool has_default_fparam = false;
  bool message_passing = false;
  bool has_exchange = false;  ///< ranks can exchange its messages
  bool aparam_of_ghosts = false;  ///< aparam is wanted for ghosts too

  /** `ago`: calls since the neighbors were found anew (0: anew). Throws Failure. */
  void evaluate(const Frame& frame, const Inputs& inputs, int ago, bool atom_energy,
                bool atom_virial, Results& results);
  double energy(const Frame& frame, const Inputs& inputs);

  /** How far neighbors matter [Å] where spins have up to this length. */
  double reach(double longest_spin) const;
  /** How far ghosts must be known around this rank's atoms where nothing says whose images they
     are, as on several ranks [Å]; 0 for models that do not pass messages. */
  double halo(double longest_spin) const;

  /** Centers with more neighbors than `sel` so far on this rank, and the largest number. */
  long long overflow() const;
  long long most_neighbors() const;

 private:
  struct Close {
    void operator()(DP_DeepBaseModel* handle) const { DP_DeleteDeepBaseModel(handle); }
  };
  DP_DeepPot* pot() const { return reinterpret_cast<DP_DeepPot*>(handle_.get()); }
  DP_DeepSpin* spin() const { return reinterpret_cast<DP_DeepSpin*>(handle_.get()); }
  void check() const;
  void compute(const Frame& frame, const Inputs& inputs, int ago, double* energy, double* force,
               double* force_mag, double* virial, double* atom_energy, double* atom_virial);

  std::unique_ptr<DP_DeepBaseModel, Close> handle_;
};

/** A string of the C interface, which is freed. */
std::string take(const char* text);

/** The words of a text. */
std::vector<std::string> split(const std::string& text);

/** Words with blanks between them. */
std::string join(const std::vector<std::string>& words);

/** Number of this rank among those on its machine: which GPU it takes. */
int node_rank(MPI_Comm world);

/** Throw the Failure of the first rank that has one (`message` is not empty) on all ranks. */
void agree(MPI_Comm world, const std::string& message);

/** Run on all ranks; if one fails, LAMMPS stops with its message, after the words `who`. */
template <typename Action>
void guard(LAMMPS_NS::LAMMPS* lmp, const std::string& who, Action&& action) {
  std::string message;
  try {
    action();
  } catch (const Agreed& known) {
    lmp->error->all(FLERR, who + known.what());
  } catch (const Failure& failure) {
    message = failure.what();
  }
  try {
    agree(lmp->world, message);
  } catch (const Failure& failure) {
    lmp->error->all(FLERR, who + failure.what());
  }
}

/** Open models: rank 0 reads the files and sends their contents. Throws Failure on all ranks. */
std::vector<std::unique_ptr<Model>> open_models(MPI_Comm world, const Settings& settings,
                                                bool spins = false);

}  // namespace deepmd_lmp
