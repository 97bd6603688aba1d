// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * A model, whatever framework runs it: neighbors in, energies, forces and virials out.
 *
 * This is the one place where edges are found, packed and evaluated, and gradients by edge vectors
 * become forces and virials. The C++ and C interfaces are shells around it.
 */
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "packing.h"

namespace deepmd::core {

/** One quantity a model predicts for every atom. */
struct Output {
  std::string name;
  int64_t size = 1;  ///< components per atom
  bool differentiable = false;
  bool intensive = false;  ///< the value of a frame is a mean over atoms
};

/** One input of a model beside coordinates, cells and types. */
struct Input {
  std::string name;  ///< "fparam", "charge_spin", "aparam"
  bool per_atom = false;
  int64_t size = 0;                   ///< numbers per frame or atom
  std::vector<double> default_value;  ///< empty: required
};

/** Gaussian charges of a long-range model, whose dipole model this is. */
struct Electrostatics {
  std::vector<double> atoms;      ///< (ntypes) [e]; NaN: not known
  std::vector<double> centroids;  ///< [e] of the Wannier centroids of the selected types
  double beta = 0.0;              ///< width [1/Å]; 0: there are none, or not known
};

/** Facts about a model that do not change, parsed once (description.h); all getters ask here. */
struct Info {
  std::string path;
  std::string framework;  ///< "PyTorch 2.13.0"
  std::vector<std::string> type_map;
  double rcut = 0.0;  ///< cutoff [Å]
  /** Distance up to which the neighbors of other atoms matter [Å]; 0 without messages. */
  double message_range = 0.0;
  std::vector<int64_t> sel;
  std::vector<Output> outputs;    ///< the first one is the main one
  std::vector<int> sel_type;      ///< types with predictions; empty: all
  std::vector<Input> inputs;      ///< beside coordinates, cells and types
  std::vector<Packing> packings;  ///< tables of the evaluation by edges
  bool message_passing = false;
  bool exchanges = false;    ///< whether ranks may exchange messages, see NeighborList::exchange
  bool mixed_types = false;  ///< whether lists of neighbors are one of all types
  bool has_spin = false;
  std::vector<bool> use_spin;      ///< (ntypes) with has_spin: types that carry spins
  std::vector<double> spin_scale;  ///< (ntypes) with has_spin: see Info::reach [Å]
  std::vector<bool> contributing;  ///< (ntypes): types that count in means
  bool single_precision = false;
  Electrostatics electrostatics;
  /** Whether "aparam" are regions: the file has two models, of which Fragments makes a sum. */
  bool regions = false;
  std::vector<double> region_bias;  ///< (ntypes) with regions, by the native engine: of every atom

  /** The input of a name; null: the model does not take it. */
  const Input* input(const std::string& name) const {
    const auto found = std::find_if(inputs.begin(), inputs.end(),
                                    [&](const Input& one) { return one.name == name; });
    return found == inputs.end() ? nullptr : &*found;
  }
  /** Numbers of an input per frame or atom; 0: the model does not take it. */
  int size_of(const std::string& name) const {
    const Input* found = input(name);
    return found ? static_cast<int>(found->size) : 0;
  }

  /** How far neighbors matter [Å]: beyond the cutoff if spins reach `farthest` from atoms. */
  double reach(double farthest) const { return rcut + farthest * (message_passing ? 2.0 : 1.0); }
  /** The same for spins of any type up to a length. */
  double reach_of_spins(double longest) const { return reach(longest * largest_scale()); }
  /** How far around the atoms of a rank its ghosts must be known, see NeighborList::halo [Å]. */
  double halo_of_spins(double longest) const { return message_range + reach_of_spins(longest); }
  /** Numbers of an output that have derivatives: every component, or one weighted sum. */
  int64_t derivatives_of(size_t output, bool weighted) const {
    if (!outputs[output].differentiable) return 0;
    if (!weighted) return outputs[output].size;
    return output == 0 ? 1 : 0;
  }

 private:
  double largest_scale() const {
    double largest = 0.0;
    for (const double scale : spin_scale) largest = std::max(largest, std::abs(scale));
    return largest;
  }
};

/** A neighbor list made elsewhere: pairs may lie beyond the cutoff, in any order. */
struct NeighborList {
  int inum = 0;
  const int* ilist = nullptr;     ///< (inum): local atoms; those left out have no neighbors
  const int* numneigh = nullptr;  ///< (inum)
  const int* const* firstneigh = nullptr;
  int mask = -1;                 ///< bits of an entry that are the atom's number
  const int* mapping = nullptr;  ///< (nall): local atom of every atom, or null
  int nprocs = 1;                ///< ranks that share the system
  /**
   * Distance from local atoms within which all ghosts are there [Å]; 0: not known. Models that pass
   * messages need no mapping where it is large enough, Info::halo_of_spins: they are evaluated for
   * those ghosts, too, whose neighbors matter, and find these neighbors by themselves.
   */
  double halo = 0.0;
  /**
   * Whether the virial of an atom i is -sum_k (r_i - r_k) de_k/dr_i, with which the heat flux is
   * right; for models that pass messages, and with a halo. Else edges give theirs to the neighbor.
   */
  bool unfolded = false;
  /**
   * How values of ghosts are exchanged between ranks, (nall, width); null: not at all. Without a
   * halo, models with Info::exchanges are evaluated for local atoms only, and call it from the thread
   * that called evaluate, equally often on all ranks, those without atoms, too.
   */
  const deepmd_exchange* exchange = nullptr;
};

/** One frame. Atoms of type < 0 or >= ntypes are ignored and get zeros. */
struct Frame {
  int64_t nall = 0;  ///< atoms, ghosts at the end
  int64_t nghost = 0;
  const double* coord = nullptr;       ///< (nall, 3) [Å]
  const int* atype = nullptr;          ///< (nall)
  const double* cell = nullptr;        ///< (9) [Å], null or zero: open; not used with a list
  const NeighborList* list = nullptr;  ///< null: neighbors are found here
  const double* fparam = nullptr;      ///< (size of fparam), null: the default
  const double* aparam = nullptr;      ///< (nall - nghost, size of aparam), null: the default
  const double* chg_spin = nullptr;    ///< (size of charge_spin), null: the default
  const double* spin = nullptr;        ///< (nall, 3); for models with spins, and only for these
};

/** Results of one output of one frame; arrays are resized and zeroed by evaluate. */
struct Prediction {
  std::vector<double> value;        ///< (size): of the frame
  std::vector<double> atom_value;   ///< (nall, size): zero for ghosts
  std::vector<double> force;        ///< (size, nall, 3): ghosts carry their share
  std::vector<double> force_mag;    ///< (size, nall, 3): minus the derivative by spins, if any
  std::vector<double> virial;       ///< (size, 9), row a column b: -sum g_a d_b
  std::vector<double> atom_virial;  ///< (size, nall, 9): belongs to the neighbor; if wanted
};

/** What evaluate shall fill. */
struct Wanted {
  bool derivatives = true;  ///< force and virial
  bool atom_virial = false;
  /**
   * (nall - nghost, size), or null. With it, derivatives are those of one number, the sum over
   * local atoms of cotangent times value of the first output: a vector-Jacobian product. `size` is
   * 1 in their shapes, and other outputs have none.
   */
  const double* cotangent = nullptr;
};

/** How a model is opened. */
struct OpenOptions {
  int gpu_rank = 0;
  std::string content;          ///< of the file; empty: read the path
  bool check_probes = true;     ///< evaluate the frames in the file and compare
  std::string engine = "auto";  ///< auto, native, framework: see Choice in discovery.h
  std::string scope;            ///< see deepmd_source
};

/**
 * An open model. Copies share it. evaluate may be called from several threads.
 */
class Model {
 public:
  /** Throws deepmd::deepmd_exception with what is wrong, where, and how to mend it. */
  static std::shared_ptr<Model> open(const std::string& path, const OpenOptions& options = {});
  virtual ~Model() = default;

  virtual const Info& info() const = 0;

  /**
   * Evaluate one frame: one Prediction per output.
   *
   * Throws deepmd::deepmd_exception for bad input (NaN, no volume, missing parameters or spins,
   * ghosts that do not reach far enough for a model that passes messages).
   */
  virtual std::vector<Prediction> evaluate(const Frame& frame, const Wanted& wanted) = 0;

  /** Centers so far that had more neighbors than `sel`, and the largest number seen. */
  virtual int64_t overflow() const = 0;
  virtual int64_t most_neighbors() const = 0;
};

/** What is known about the backends on this machine, for the summary: one line each. */
std::vector<std::string> describe_backends();

/**
 * Threads that evaluate uses: DP_INTRA_OP_PARALLELISM_THREADS, OMP_NUM_THREADS, else the cores,
 * divided among the ranks on this machine if MPI or Slurm tell how many there are.
 */
int number_of_threads();

}  // namespace deepmd::core
