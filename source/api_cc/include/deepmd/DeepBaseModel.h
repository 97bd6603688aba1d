// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deepmd/common.h"

namespace deepmd {

struct Session;  // an open model, and what was set for it

/**
 * What all potentials have in common. Copies share the model.
 *
 * Every function throws deepmd_exception if no model was opened.
 */
class DeepBaseModel {
 public:
  DeepBaseModel();
  virtual ~DeepBaseModel();

  /** Print the summary of this installation and of the model, every line with a prefix. */
  void print_summary(const std::string& pre) const;

  double cutoff() const;  ///< [Å]
  int numb_types() const;
  int numb_types_spin() const;  ///< types that carry spins
  int dim_fparam() const;       ///< numbers per frame that the model takes
  int dim_aparam() const;       ///< numbers per atom that the model takes
  bool is_aparam_nall() const;  ///< whether aparam is given for ghosts, too: never
  bool has_default_fparam() const;

  /** Names of the types, separated by blanks. */
  void get_type_map(std::string& type_map);

  /** Whether the energy of an atom depends on atoms beyond the cutoff, through its neighbors. */
  bool has_message_passing() const;

  /**
   * How far ghosts must be known around the atoms of a rank [Å] where several ranks share the
   * system: beyond the cutoff for models that pass messages, see InputNlist::set_halo.
   *
   * @param longest_spin of any atom, for models with spins
   */
  double halo(double longest_spin = 0.0) const;

  /** Whether ranks can exchange messages in place of a halo, see InputNlist::set_exchange. */
  bool has_exchange() const;

  /** Who evaluates the model: "native (avx2)", "PyTorch 2.13.0 (CPU)". */
  std::string engine() const;

  /** Centers so far that had more neighbors than the model keeps. */
  long long sel_overflow() const;
  /** The largest number of neighbors within the cutoff so far. */
  long long most_neighbors() const;

 protected:
  std::shared_ptr<Session> session_;
};

/** What all ensembles of potentials have in common. */
class DeepBaseModelDevi {
 public:
  DeepBaseModelDevi();
  virtual ~DeepBaseModelDevi();

  double cutoff() const;  ///< the largest one [Å]
  int numb_types() const;
  int numb_types_spin() const;
  int dim_fparam() const;
  int dim_aparam() const;
  bool is_aparam_nall() const;
  bool has_default_fparam() const;

  /** Summed over the models. */
  long long sel_overflow() const;
  /** The largest one of all models. */
  long long most_neighbors() const;

  /** Mean over models of a scalar. */
  template <typename VALUETYPE>
  void compute_avg(VALUETYPE& dener, const std::vector<VALUETYPE>& all_energy);

  /** Mean over models of arrays. */
  template <typename VALUETYPE>
  void compute_avg(std::vector<VALUETYPE>& avg, const std::vector<std::vector<VALUETYPE>>& xx);

  /**
   * Standard deviation over models, the norm over each `stride` numbers:
   * sqrt(mean over models of sum over components of (x - avg)^2).
   */
  template <typename VALUETYPE>
  void compute_std(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                   const std::vector<std::vector<VALUETYPE>>& xx, const int& stride);

  /** Of energies per atom: stride 1. */
  template <typename VALUETYPE>
  void compute_std_e(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                     const std::vector<std::vector<VALUETYPE>>& xx);

  /** Of forces: stride 3. */
  template <typename VALUETYPE>
  void compute_std_f(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                     const std::vector<std::vector<VALUETYPE>>& xx);

  /** Divide by |avg| + eps, with the norm of avg over each `stride` numbers. */
  template <typename VALUETYPE>
  void compute_relative_std(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                            const VALUETYPE eps, const int& stride);

  /** Of forces: stride 3. */
  template <typename VALUETYPE>
  void compute_relative_std_f(std::vector<VALUETYPE>& deviation, const std::vector<VALUETYPE>& avg,
                              const VALUETYPE eps);

 protected:
  std::vector<std::shared_ptr<Session>> sessions_;
};

}  // namespace deepmd
