// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * pair_style deepmd: energies, forces and virials of a model file, and the deviation of several.
 *
 * pair_style deepspin derives from it.
 */
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "frame.h"
#include "message_exchange.h"
#include "model.h"
#include "model_deviation.h"
#include "pair.h"
#include "parameters.h"
#include "type_map.h"

namespace LAMMPS_NS {

class PairDeepmd : public Pair {
 public:
  explicit PairDeepmd(class LAMMPS* lmp) : PairDeepmd(lmp, false) {}
  ~PairDeepmd() override;

  void settings(int narg, char** arg) override;
  void coeff(int narg, char** arg) override;
  void init_style() override;
  double init_one(int i, int j) override;
  void compute(int eflag, int vflag) override;
  void finish() override;
  void* extract(const char* name, int& dim) override;
  int pack_forward_comm(int n, int* list, double* buffer, int, int*) override {
    return exchange.columns.pack(n, list, buffer);
  }
  void unpack_forward_comm(int n, int first, double* buffer) override {
    exchange.columns.unpack_from(n, first, buffer);
  }
  int pack_reverse_comm(int n, int first, double* buffer) override {
    return exchange.columns.pack_from(n, first, buffer);
  }
  void unpack_reverse_comm(int n, int* list, double* buffer) override {
    exchange.columns.add(n, list, buffer);
  }

  // Nothing is stored; that a restart file was read is why the deviation file is continued.
  void write_restart(FILE*) override {}
  void write_restart_settings(FILE*) override {}
  void read_restart(FILE*) override;
  void read_restart_settings(FILE*) override;

  /** Elements of types by pair_coeff, (ntypes + 1); empty: ignored. */
  std::vector<std::string> elements() const;

  /** Numbers of frame parameters of the model. */
  int dim_fparam() const;

  /** Energy of this rank's atoms at another frame parameter [energy unit of the run]. */
  double energy_at(double fparam);

 protected:
  PairDeepmd(class LAMMPS* lmp, bool spins);

  /** Whether the atoms are what the style is for. Throws Failure. */
  virtual void check_atoms();
  /** The longest spin of this rank's atoms. */
  virtual double longest_spin() const { return 0.0; }
  /** Add results, times a factor, to what LAMMPS sums. */
  virtual void add(deepmd_lmp::Results& results, double factor);
  /** Atoms whose forces LAMMPS takes: with Newton's third law those of ghosts, too. */
  int count_added() const;
  /** Add the values (nall, width) of ghosts to those of their owners. */
  void fold(std::vector<double>& values, int width) { exchange.to_owners(values.data(), width); }

  deepmd_lmp::Frame frame;
  deepmd_lmp::MessageExchange exchange;

 private:
  void allocate();
  void open(const deepmd_lmp::Settings& settings);
  void check_unnamed() const;
  void check_special_bonds() const;
  void set_cutoff();
  bool exchanges_messages() const;
  void report_exchanges() const;
  void extend_ghosts();
  void check_skipped();
  void check_spins();
  double common_scale() const;
  void note_virial();
  void compare(const deepmd_lmp::Results& first, const deepmd_lmp::Inputs& inputs);

  const bool spins;
  const std::string style;                                 ///< for messages
  std::vector<std::unique_ptr<deepmd_lmp::Model>> models;  ///< the first one drives
  std::unique_ptr<deepmd_lmp::Parameters> parameters;
  std::unique_ptr<deepmd_lmp::ModelDeviation> deviation;  ///< null: one model, or not wanted
  std::unique_ptr<deepmd_lmp::Units> units;
  deepmd_lmp::Results results;
  deepmd_lmp::TypeMap types;
  double** scale = nullptr;  ///< (ntypes + 1, ntypes + 1): fix adapt writes it
  double cutoff = 0.0;       ///< in the units of the run, with the reach of spins
  double longest = 0.0;      ///< spin for which the cutoff is enough
  double halo = 0.0;         ///< of ghosts whose neighbors matter; in the units of the run
  double seconds = 0.0;      ///< in the first model on this rank; for compute pair
  deepmd_lmp::Messages messages = deepmd_lmp::Messages::automatic;
  bool unfolded = false;     ///< virials of atoms are for the heat flux
  bool skip_checked = false;
  bool virial_noted = false;
  long long overflow = 0;  ///< of all ranks, after a run
  long long most_neighbors = 0;
};

}  // namespace LAMMPS_NS
