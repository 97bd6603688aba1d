// SPDX-License-Identifier: LGPL-3.0-or-later
/** Neighbor lists, errors, and what the classes of deepmd.hpp share. */
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../c_api.h"

namespace deepmd {
namespace hpp {

/** Anything that goes wrong: the message says what, where, and how to mend it. */
struct deepmd_exception : public std::runtime_error {
  deepmd_exception() : std::runtime_error("DeePMD-kit C API Error!") {}
  explicit deepmd_exception(const std::string& message) : std::runtime_error(message) {}
};

namespace detail {

/** A text of the C interface, which is freed. */
inline std::string take(const char* text) {
  const std::string copy(text ? text : "");
  DP_DeleteChar(text);
  return copy;
}

/** Throw what a ...CheckOK returned, if anything. */
inline void check(const char* message) {
  const std::string text = take(message);
  if (!text.empty()) {
    throw deepmd_exception(text);
  }
}

inline void check_size(const std::string& name, size_t size, size_t wanted) {
  if (size != wanted) {
    throw deepmd_exception("DeePMD-kit Error: " + name + " has " + std::to_string(size) +
                           " numbers, but " + std::to_string(wanted) + " are needed");
  }
}

template <typename T>
const T* data_or_null(const std::vector<T>& x) {
  return x.empty() ? nullptr : x.data();
}

/** A parameter for every frame: empty, or given per frame, or once for all. */
template <typename T>
std::vector<T> per_frame(const std::string& name, const std::vector<T>& x, size_t dim,
                         size_t nframes) {
  if (x.size() != dim || nframes == 1) {
    if (!x.empty()) {
      check_size(name, x.size(), nframes * dim);
    }
    return x;
  }
  std::vector<T> tiled;
  for (size_t k = 0; k < nframes; ++k) {
    tiled.insert(tiled.end(), x.begin(), x.end());
  }
  return tiled;
}

/** Parameters of the atoms, which may be given once for all of them. */
template <typename T>
std::vector<T> per_atom(const std::vector<T>& x, size_t dim, size_t nloc, size_t nframes) {
  std::vector<T> tiled = x;
  if (!x.empty() && x.size() == dim && nloc > 1) {
    tiled.clear();
    for (size_t atom = 0; atom < nloc; ++atom) {
      tiled.insert(tiled.end(), x.begin(), x.end());
    }
  }
  return per_frame("aparam", tiled, nloc * dim, nframes);
}

inline void set_energy(double& out, std::vector<double>& energy) {
  if (energy.size() != 1) {
    throw deepmd_exception("DeePMD-kit Error: there are " + std::to_string(energy.size()) +
                           " frames; pass one, or take the energies in a std::vector<double>");
  }
  out = energy.front();
}
inline void set_energy(std::vector<double>& out, std::vector<double>& energy) { out.swap(energy); }

struct Dims {
  int fparam, aparam, charge_spin;
};

/** What `compute` was given, checked, as the C interface takes it. */
template <typename T>
struct Given {
  Given(const Dims& dims, const std::vector<T>& coord_, const std::vector<T>* spin_,
        const std::vector<int>& atype_, const std::vector<T>& box, const std::vector<T>& fparam_,
        const std::vector<T>& aparam_, const std::vector<T>& charge_spin_, int mixed_frames = -1,
        int nghost_ = 0, const DP_Nlist* list_ = nullptr, int ago_ = 0)
      : mixed(mixed_frames >= 0), nghost(nghost_), ago(ago_), list(list_) {
    const size_t atoms = mixed ? atype_.size() / std::max(mixed_frames, 1) : atype_.size();
    const size_t frames = mixed       ? mixed_frames
                          : atoms > 0 ? std::max<size_t>(coord_.size() / (3 * atoms), 1)
                                      : std::max<size_t>(box.size() / 9, 1);
    check_size("coord", coord_.size(), frames * atoms * 3);
    check_size("atype", atype_.size(), mixed ? frames * atoms : atoms);
    if (spin_) {
      check_size("spin", spin_->size(), frames * atoms * 3);
    }
    if (!box.empty()) {
      check_size("box", box.size(), frames * 9);
    }
    nframes = static_cast<int>(frames);
    natoms = static_cast<int>(atoms);
    coord = coord_.data();
    spin = spin_ ? spin_->data() : nullptr;
    atype = atype_.data();
    cell = box.empty() ? nullptr : box.data();
    fparam = per_frame("fparam", fparam_, dims.fparam, frames);
    aparam = per_atom(aparam_, dims.aparam, atoms - nghost, frames);
    charge_spin = per_frame("charge_spin", charge_spin_, dims.charge_spin, frames);
  }

  const T* fparam_data() const { return data_or_null(fparam); }
  const T* aparam_data() const { return data_or_null(aparam); }
  const T* charge_spin_data() const { return data_or_null(charge_spin); }

  bool mixed;
  int nframes, natoms, nghost, ago;
  const DP_Nlist* list;
  const T *coord, *spin, *cell;
  const int* atype;
  std::vector<T> fparam, aparam, charge_spin;
};

/** Rows of an array, one vector for each. */
template <typename T>
void split_rows(std::vector<std::vector<T>>& rows, const std::vector<T>& all, size_t n) {
  const size_t size = all.size() / n;
  rows.resize(n);
  for (size_t k = 0; k < n; ++k) {
    rows[k].assign(all.begin() + k * size, all.begin() + (k + 1) * size);
  }
}

/** The results of n models. */
template <typename T>
struct Results {
  Results(const Given<T>& in, int n_models, bool atomic_) : n(n_models), atomic(atomic_) {
    const size_t frames = static_cast<size_t>(n) * in.nframes;
    const size_t atoms = frames * in.natoms;
    energy.resize(frames);
    force.resize(atoms * 3);
    force_mag.resize(in.spin ? atoms * 3 : 0);
    virial.resize(frames * 9);
    atom_energy.resize(atomic ? atoms : 0);
    atom_virial.resize(atomic ? atoms * 9 : 0);
  }

  T* atom_energy_data() { return atomic ? atom_energy.data() : nullptr; }
  T* atom_virial_data() { return atomic ? atom_virial.data() : nullptr; }

  /** To the arrays of the caller, those of one model. */
  template <typename Energy>
  void move(Energy& energy_, std::vector<T>& force_, std::vector<T>* force_mag_,
            std::vector<T>& virial_, std::vector<T>* atom_energy_, std::vector<T>* atom_virial_) {
    set_energy(energy_, energy);
    force_.swap(force);
    virial_.swap(virial);
    if (force_mag_) {
      force_mag_->swap(force_mag);
    }
    if (atomic) {
      atom_energy_->swap(atom_energy);
      atom_virial_->swap(atom_virial);
    }
  }

  /** To the arrays of the caller, one per model. */
  void split(std::vector<double>& energy_, std::vector<std::vector<T>>& force_,
             std::vector<std::vector<T>>* force_mag_, std::vector<std::vector<T>>& virial_,
             std::vector<std::vector<T>>* atom_energy_, std::vector<std::vector<T>>* atom_virial_) {
    energy_.swap(energy);
    split_rows(force_, force, n);
    split_rows(virial_, virial, n);
    if (force_mag_) {
      split_rows(*force_mag_, force_mag, n);
    }
    if (atomic) {
      split_rows(*atom_energy_, atom_energy, n);
      split_rows(*atom_virial_, atom_virial, n);
    }
  }

  size_t n;
  bool atomic;
  std::vector<double> energy;
  std::vector<T> force, force_mag, virial, atom_energy, atom_virial;
};

/** An array that the C interface allocated. */
template <typename T>
struct Allocated {
  T* data = nullptr;
  int size = 0;
  ~Allocated() { std::free(data); }
  std::vector<T> vector() const { return std::vector<T>(data, data + size); }
};

/** The functions of the C interface for one precision. */
template <typename T>
struct Functions;

template <>
struct Functions<double> {
  static constexpr auto pot = &DP_DeepPotCompute3;
  static constexpr auto pot_list = &DP_DeepPotComputeNList3;
  static constexpr auto pot_mixed = &DP_DeepPotComputeMixedType;
  static constexpr auto pot_devi = &DP_DeepPotModelDeviCompute3;
  static constexpr auto pot_devi_list = &DP_DeepPotModelDeviComputeNList3;
  static constexpr auto spin = &DP_DeepSpinCompute3;
  static constexpr auto spin_list = &DP_DeepSpinComputeNList3;
  static constexpr auto spin_devi = &DP_DeepSpinModelDeviCompute3;
  static constexpr auto spin_devi_list = &DP_DeepSpinModelDeviComputeNList3;
  static constexpr auto values = &DP_DeepTensorComputeTensor;
  static constexpr auto values_list = &DP_DeepTensorComputeTensorNList;
  static constexpr auto tensor = &DP_DeepTensorCompute;
  static constexpr auto tensor_list = &DP_DeepTensorComputeNList;
  static constexpr auto modifier = &DP_DipoleChargeModifierComputeNList;
};

template <>
struct Functions<float> {
  static constexpr auto pot = &DP_DeepPotComputef3;
  static constexpr auto pot_list = &DP_DeepPotComputeNListf3;
  static constexpr auto pot_mixed = &DP_DeepPotComputeMixedTypef;
  static constexpr auto pot_devi = &DP_DeepPotModelDeviComputef3;
  static constexpr auto pot_devi_list = &DP_DeepPotModelDeviComputeNListf3;
  static constexpr auto spin = &DP_DeepSpinComputef3;
  static constexpr auto spin_list = &DP_DeepSpinComputeNListf3;
  static constexpr auto spin_devi = &DP_DeepSpinModelDeviComputef3;
  static constexpr auto spin_devi_list = &DP_DeepSpinModelDeviComputeNListf3;
  static constexpr auto values = &DP_DeepTensorComputeTensorf;
  static constexpr auto values_list = &DP_DeepTensorComputeTensorNListf;
  static constexpr auto tensor = &DP_DeepTensorComputef;
  static constexpr auto tensor_list = &DP_DeepTensorComputeNListf;
  static constexpr auto modifier = &DP_DipoleChargeModifierComputeNListf;
};

}  // namespace detail

/** A neighbor list made elsewhere; the arrays belong to the caller. */
struct InputNlist {
  InputNlist() : InputNlist(0, nullptr, nullptr, nullptr) {}

  InputNlist(int inum_, int* ilist_, int* numneigh_, int** firstneigh_)
      : inum(inum_),
        ilist(ilist_),
        numneigh(numneigh_),
        firstneigh(firstneigh_),
        nl(DP_NewNlist(inum_, ilist_, numneigh_, firstneigh_)),
        owner_(nl, DP_DeleteNlist) {}

  InputNlist(int inum_, int* ilist_, int* numneigh_, int** firstneigh_, int nswap, int* sendnum,
             int* recvnum, int* firstrecv, int** sendlist, int* sendproc, int* recvproc,
             void* world, int nprocs = 1)
      : inum(inum_),
        ilist(ilist_),
        numneigh(numneigh_),
        firstneigh(firstneigh_),
        nl(DP_NewNlist_comm(inum_, ilist_, numneigh_, firstneigh_, nswap, sendnum, recvnum,
                            firstrecv, sendlist, sendproc, recvproc, world, nprocs)),
        owner_(nl, DP_DeleteNlist) {}

  void set_mask(int mask) { DP_NlistSetMask(nl, mask); }
  void set_mapping(int* mapping) { DP_NlistSetMapping(nl, mapping); }
  void set_halo(double halo) { DP_NlistSetHalo(nl, halo); }
  void set_exchange(DP_ExchangeFunction to_ghosts, DP_ExchangeFunction to_owners, void* context) {
    DP_NlistSetExchange(nl, to_ghosts, to_owners, context);
  }
  void set_unfolded(bool unfolded) { DP_NlistSetUnfolded(nl, unfolded); }

  int inum;          ///< number of centers
  int* ilist;        ///< (inum) atoms that are centers
  int* numneigh;     ///< (inum) numbers of their neighbors
  int** firstneigh;  ///< (inum) arrays of atom indices
  DP_Nlist* nl;      ///< the handle

 private:
  std::shared_ptr<DP_Nlist> owner_;
};

/** Let `to`, whose arrays have room for from.size() centers, point to the rows of `from`. */
inline void convert_nlist(InputNlist& to, std::vector<std::vector<int>>& from) {
  const int inum = static_cast<int>(from.size());
  for (int i = 0; i < inum; ++i) {
    to.ilist[i] = i;
    to.numneigh[i] = static_cast<int>(from[i].size());
    to.firstneigh[i] = from[i].data();
  }
  if (to.inum != inum) {
    to = InputNlist(inum, to.ilist, to.numneigh, to.firstneigh);
  }
}

}  // namespace hpp
}  // namespace deepmd
