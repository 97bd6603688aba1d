// SPDX-License-Identifier: LGPL-3.0-or-later
/** Potentials, model deviation and neighbor lists of the C interface. */
#include <tuple>
#include <type_traits>

#include "handles.h"

using namespace deepmd::c;

namespace {

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

/** Where results go; NULL is not filled. */
template <typename T>
struct Results {
  double* energy;
  T* force;
  T* virial;
  T* atomic_energy;
  T* atomic_virial;
  T* force_mag = nullptr;

  bool atomic() const { return atomic_energy || atomic_virial; }
};

template <typename Handle, typename T>
void compute(Handle* dp, const Call<T>& call, const Results<T>& out) {
  constexpr bool spins =
      std::is_same_v<Handle, DP_DeepSpin> || std::is_same_v<Handle, DP_DeepSpinModelDevi>;
  constexpr bool ensemble =
      std::is_same_v<Handle, DP_DeepPotModelDevi> || std::is_same_v<Handle, DP_DeepSpinModelDevi>;
  using Array = std::conditional_t<ensemble, std::vector<std::vector<T>>, std::vector<T>>;
  perform(dp, [&] {
    auto& model = dp->model;
    if (spins && !call.spin && call.natoms > 0) {
      throw deepmd::deepmd_exception("the spins of the atoms are missing: spin is NULL");
    }
    const Vectors<T> in(call, model);
    std::vector<double> energy;
    Array force, force_mag, virial, atom_energy, atom_virial;
    // The arguments, in groups that are there or not.
    const auto results = [&] {
      if constexpr (spins) {
        return std::tie(energy, force, force_mag, virial);
      } else {
        return std::tie(energy, force, virial);
      }
    }();
    const auto atomic = std::tie(atom_energy, atom_virial);
    const auto given = [&] {
      if constexpr (spins) {
        return std::tie(in.coord, in.spin, in.atype, in.box);
      } else {
        return std::tie(in.coord, in.atype, in.box);
      }
    }();
    const auto parameters = std::tie(in.fparam, in.aparam, in.charge_spin);
    const auto run = [&](const auto&... groups) {
      std::apply([&](auto&... arguments) { model.compute(arguments...); },
                 std::tuple_cat(groups...));
    };
    if (call.with_list) {
      const auto list = std::tie(call.nghost, list_of(call.nlist), call.ago);
      out.atomic() ? run(results, atomic, given, list, parameters)
                   : run(results, given, list, parameters);
    } else if (call.mixed) {
      if constexpr (std::is_same_v<Handle, DP_DeepPot>) {
        model.compute_mixed_type(energy, force, virial, atom_energy, atom_virial, call.nframes,
                                 in.coord, in.atype, in.box, in.fparam, in.aparam);
      }
    } else {
      out.atomic() ? run(results, atomic, given, parameters) : run(results, given, parameters);
    }
    copy_out(energy, out.energy);
    copy_out(force, out.force);
    copy_out(force_mag, out.force_mag);
    copy_out(virial, out.virial);
    copy_out(atom_energy, out.atomic_energy);
    copy_out(atom_virial, out.atomic_virial);
  });
}

/** The contents of model files; none if they are to be read. */
std::vector<std::string> contents_of(const char** contents, int n, const int* sizes) {
  std::vector<std::string> texts;
  for (int k = 0; k < n; ++k) {
    texts.emplace_back(contents[k], sizes[k]);
  }
  return texts;
}

std::string content_of(const char* content, int size) {
  return content && size > 0 ? std::string(content, size) : "";
}

std::vector<std::string> names_of(const char** models, int n) { return {models, models + n}; }

template <typename Handle>
void set_charge_spin(Handle* dp, const double* charge_spin, int size) {
  perform(dp, [&] { dp->model.set_charge_spin(array(charge_spin, size)); });
}

}  // namespace

const deepmd::InputNlist& deepmd::c::list_of(const DP_Nlist* nlist) {
  if (!nlist) {
    throw deepmd_exception("the neighbor list is NULL; make one with DP_NewNlist");
  }
  return nlist->nl;
}

extern "C" {

DP_Nlist* DP_NewNlist(int inum, int* ilist, int* numneigh, int** firstneigh) {
  DP_Nlist* const nlist = new DP_Nlist;
  nlist->nl = deepmd::InputNlist(inum, ilist, numneigh, firstneigh);
  return nlist;
}

DP_Nlist* DP_NewNlist_comm(int inum, int* ilist, int* numneigh, int** firstneigh, int nswap,
                           int* sendnum, int* recvnum, int* firstrecv, int** sendlist,
                           int* sendproc, int* recvproc, void* world, int nprocs) {
  DP_Nlist* const nlist = new DP_Nlist;
  nlist->nl = deepmd::InputNlist(inum, ilist, numneigh, firstneigh, nswap, sendnum, recvnum,
                                 firstrecv, sendlist, sendproc, recvproc, world, nprocs);
  return nlist;
}

void DP_NlistSetMask(DP_Nlist* nl, int mask) { nl->nl.set_mask(mask); }
void DP_NlistSetMapping(DP_Nlist* nl, int* mapping) { nl->nl.set_mapping(mapping); }
void DP_NlistSetHalo(DP_Nlist* nl, double halo) { nl->nl.set_halo(halo); }
void DP_NlistSetExchange(DP_Nlist* nl, DP_ExchangeFunction to_ghosts, DP_ExchangeFunction to_owners,
                         void* context) {
  nl->nl.set_exchange(to_ghosts, to_owners, context);
}
void DP_NlistSetUnfolded(DP_Nlist* nl, int unfolded) { nl->nl.set_unfolded(unfolded != 0); }
const char* DP_NlistCheckOK(DP_Nlist* nl) { return to_char(nl->message.get()); }
void DP_DeleteNlist(DP_Nlist* nl) { delete nl; }

/* Facts that all handles give; T: the part of the name. */
#define DEEPMD_FACTS(T)                                                                            \
  double DP_##T##GetCutoff(DP_##T* dp) {                                                           \
    return fact(dp, 0.0, [&] { return dp->base().cutoff(); });                                     \
  }                                                                                                \
  int DP_##T##GetNumbTypes(DP_##T* dp) {                                                           \
    return fact(dp, 0, [&] { return dp->base().numb_types(); });                                   \
  }                                                                                                \
  int DP_##T##GetNumbTypesSpin(DP_##T* dp) {                                                       \
    return fact(dp, 0, [&] { return dp->base().numb_types_spin(); });                              \
  }                                                                                                \
  int DP_##T##GetDimFParam(DP_##T* dp) {                                                           \
    return fact(dp, 0, [&] { return dp->base().dim_fparam(); });                                   \
  }                                                                                                \
  int DP_##T##GetDimAParam(DP_##T* dp) {                                                           \
    return fact(dp, 0, [&] { return dp->base().dim_aparam(); });                                   \
  }                                                                                                \
  bool DP_##T##IsAParamNAll(DP_##T* dp) {                                                          \
    return fact(dp, false, [&] { return dp->base().is_aparam_nall(); });                           \
  }                                                                                                \
  bool DP_##T##HasDefaultFParam(DP_##T* dp) {                                                      \
    return fact(dp, false, [&] { return dp->base().has_default_fparam(); });                       \
  }                                                                                                \
  const char* DP_##T##CheckOK(DP_##T* dp) { return to_char(dp->message.get()); }                   \
  void DP_Delete##T(DP_##T* dp) { delete dp; }

/* ... single models */
#define DEEPMD_TYPE_MAP(T)                                                                         \
  const char* DP_##T##GetTypeMap(DP_##T* dp) {                                                     \
    return to_char(fact(dp, std::string(), [&] {                                                   \
      std::string names;                                                                           \
      dp->base().get_type_map(names);                                                              \
      return names;                                                                                \
    }));                                                                                           \
  }

/* ... those that take charge and spin */
#define DEEPMD_CHARGE_SPIN(T)                                                                      \
  int DP_##T##GetDimChgSpin(DP_##T* dp) {                                                          \
    return fact(dp, 0, [&] { return dp->model.dim_chg_spin(); });                                  \
  }                                                                                                \
  void DP_##T##SetChargeSpin(DP_##T* dp, const double* charge_spin, const int numb_chg_spin) {     \
    set_charge_spin(dp, charge_spin, numb_chg_spin);                                               \
  }

/* ... how many neighbors there were */
#define DEEPMD_NEIGHBORS(T)                                                                        \
  long long DP_##T##GetSelOverflow(DP_##T* dp) {                                                   \
    return fact(dp, -1LL, [&] { return dp->base().sel_overflow(); });                              \
  }                                                                                                \
  long long DP_##T##GetMostNeighbors(DP_##T* dp) {                                                 \
    return fact(dp, -1LL, [&] { return dp->base().most_neighbors(); });                            \
  }

DEEPMD_FACTS(DeepBaseModel)
DEEPMD_TYPE_MAP(DeepBaseModel)
DEEPMD_NEIGHBORS(DeepBaseModel)
const char* DP_DeepBaseModelGetEngine(DP_DeepBaseModel* dp) {
  return to_char(fact(dp, std::string(), [&] { return dp->base().engine(); }));
}
bool DP_DeepBaseModelHasMessagePassing(DP_DeepBaseModel* dp) {
  return fact(dp, false, [&] { return dp->base().has_message_passing(); });
}
double DP_DeepBaseModelGetHalo(DP_DeepBaseModel* dp, double longest_spin) {
  return fact(dp, 0.0, [&] { return dp->base().halo(longest_spin); });
}
bool DP_DeepBaseModelHasExchange(DP_DeepBaseModel* dp) {
  return fact(dp, false, [&] { return dp->base().has_exchange(); });
}
DEEPMD_FACTS(DeepBaseModelDevi)
DEEPMD_NEIGHBORS(DeepBaseModelDevi)
DEEPMD_FACTS(DeepPot)
DEEPMD_TYPE_MAP(DeepPot)
DEEPMD_CHARGE_SPIN(DeepPot)
DEEPMD_FACTS(DeepPotModelDevi)
DEEPMD_CHARGE_SPIN(DeepPotModelDevi)
DEEPMD_FACTS(DeepSpin)
DEEPMD_TYPE_MAP(DeepSpin)
DEEPMD_CHARGE_SPIN(DeepSpin)
DEEPMD_FACTS(DeepSpinModelDevi)
DEEPMD_CHARGE_SPIN(DeepSpinModelDevi)

DP_DeepPot* DP_NewDeepPot(const char* model) { return DP_NewDeepPotWithParam(model, 0, nullptr); }

DP_DeepPot* DP_NewDeepPotWithParam(const char* model, const int gpu_rank, const char* content) {
  const int size = content ? static_cast<int>(std::strlen(content)) : 0;
  return DP_NewDeepPotWithParam2(model, gpu_rank, content, size);
}

DP_DeepPot* DP_NewDeepPotWithParam2(const char* model, const int gpu_rank, const char* content,
                                    const int size) {
  return DP_NewDeepPotWithParam3(model, gpu_rank, content, size, nullptr);
}

DP_DeepPot* DP_NewDeepPotWithParam3(const char* model, const int gpu_rank, const char* content,
                                    const int size, const char* engine) {
  return opened<DP_DeepPot>([&](DP_DeepPot& dp) {
    dp.model.init(model, gpu_rank, content_of(content, size), engine_of(engine));
  });
}

DP_DeepSpin* DP_NewDeepSpin(const char* model) {
  return DP_NewDeepSpinWithParam2(model, 0, nullptr, 0);
}

DP_DeepSpin* DP_NewDeepSpinWithParam2(const char* model, const int gpu_rank, const char* content,
                                      const int size) {
  return DP_NewDeepSpinWithParam3(model, gpu_rank, content, size, nullptr);
}

DP_DeepSpin* DP_NewDeepSpinWithParam3(const char* model, const int gpu_rank, const char* content,
                                      const int size, const char* engine) {
  return opened<DP_DeepSpin>([&](DP_DeepSpin& dp) {
    dp.model.init(model, gpu_rank, content_of(content, size), engine_of(engine));
  });
}

/* Ensembles. */
#define DEEPMD_ENSEMBLE(T)                                                                         \
  DP_##T* DP_New##T(const char** models, const int n_models) {                                     \
    return DP_New##T##WithParam(models, n_models, 0, nullptr, 0, nullptr);                         \
  }                                                                                                \
  DP_##T* DP_New##T##WithParam(const char** models, const int n_models, const int gpu_rank,        \
                               const char** contents, const int n_file_contents,                   \
                               const int* sizes) {                                                 \
    return DP_New##T##WithParam2(models, n_models, gpu_rank, contents, n_file_contents, sizes,     \
                                 nullptr);                                                         \
  }                                                                                                \
  DP_##T* DP_New##T##WithParam2(const char** models, const int n_models, const int gpu_rank,       \
                                const char** contents, const int n_file_contents,                  \
                                const int* sizes, const char* engine) {                            \
    return opened<DP_##T>([&](DP_##T& dp) {                                                        \
      dp.model.init(names_of(models, n_models), gpu_rank,                                          \
                    contents_of(contents, n_file_contents, sizes), engine_of(engine));             \
    });                                                                                            \
  }
DEEPMD_ENSEMBLE(DeepPotModelDevi)
DEEPMD_ENSEMBLE(DeepSpinModelDevi)

/* Computations; H: the handle's name without DP_, T: double or float, f: nothing or f. */
#define DEEPMD_ARGS(T) const int natoms, const T *coord, const int *atype, const T *cell
#define DEEPMD_LIST const int nghost, const DP_Nlist *nlist, const int ago
#define DEEPMD_OUT(T) double *energy, T *force, T *virial, T *atomic_energy, T *atomic_virial
#define DEEPMD_RESULTS(T)                                                                          \
  Results<T> { energy, force, virial, atomic_energy, atomic_virial }
#define DEEPMD_COMPUTE(H, T, f)                                                                    \
  void DP_##H##Compute##f(DP_##H* dp, DEEPMD_ARGS(T), DEEPMD_OUT(T)) {                             \
    compute(dp, Call<T>{natoms, coord, atype, cell}, DEEPMD_RESULTS(T));                           \
  }                                                                                                \
  void DP_##H##ComputeNList##f(DP_##H* dp, DEEPMD_ARGS(T), DEEPMD_LIST, DEEPMD_OUT(T)) {           \
    DP_##H##ComputeNList##f##3(dp, 1, natoms, coord, atype, cell, nghost, nlist, ago, nullptr,     \
                               nullptr, nullptr, energy, force, virial, atomic_energy,             \
                               atomic_virial);                                                     \
  }                                                                                                \
  void DP_##H##Compute##f##2(DP_##H * dp, const int nframes, DEEPMD_ARGS(T), const T* fparam,      \
                             const T* aparam, DEEPMD_OUT(T)) {                                     \
    compute(dp, Call<T>{natoms, coord, atype, cell, nframes, fparam, aparam}, DEEPMD_RESULTS(T));  \
  }                                                                                                \
  void DP_##H##ComputeNList##f##2(DP_##H * dp, const int nframes, DEEPMD_ARGS(T), DEEPMD_LIST,     \
                                  const T* fparam, const T* aparam, DEEPMD_OUT(T)) {               \
    DP_##H##ComputeNList##f##3(dp, nframes, natoms, coord, atype, cell, nghost, nlist, ago,        \
                               fparam, aparam, nullptr, energy, force, virial, atomic_energy,      \
                               atomic_virial);                                                     \
  }                                                                                                \
  void DP_##H##Compute##f##3(DP_##H * dp, const int nframes, DEEPMD_ARGS(T), const T* fparam,      \
                             const T* aparam, const T* charge_spin, DEEPMD_OUT(T)) {               \
    compute(dp, Call<T>{natoms, coord, atype, cell, nframes, fparam, aparam, charge_spin},         \
            DEEPMD_RESULTS(T));                                                                    \
  }                                                                                                \
  void DP_##H##ComputeNList##f##3(DP_##H * dp, const int nframes, DEEPMD_ARGS(T), DEEPMD_LIST,     \
                                  const T* fparam, const T* aparam, const T* charge_spin,          \
                                  DEEPMD_OUT(T)) {                                                 \
    compute(dp,                                                                                    \
            Call<T>{natoms, coord, atype, cell, nframes, fparam, aparam, charge_spin, nghost,      \
                    nlist, true, ago},                                                             \
            DEEPMD_RESULTS(T));                                                                    \
  }
DEEPMD_COMPUTE(DeepPot, double, )
DEEPMD_COMPUTE(DeepPot, float, f)
DEEPMD_COMPUTE(DeepPotModelDevi, double, )
DEEPMD_COMPUTE(DeepPotModelDevi, float, f)

#define DEEPMD_MIXED(T, f)                                                                         \
  void DP_DeepPotComputeMixedType##f(DP_DeepPot* dp, const int nframes, DEEPMD_ARGS(T),            \
                                     const T* fparam, const T* aparam, DEEPMD_OUT(T)) {            \
    Call<T> call{natoms, coord, atype, cell, nframes, fparam, aparam};                             \
    call.mixed = true;                                                                             \
    compute(dp, call, DEEPMD_RESULTS(T));                                                          \
  }
DEEPMD_MIXED(double, )
DEEPMD_MIXED(float, f)

/* Spins: force_mag comes after force, spin after coord. */
#define DEEPMD_SPIN_ARGS(T)                                                                        \
  const int nframes, const int natoms, const T *coord, const T *spin, const int *atype,            \
      const T *cell
#define DEEPMD_SPIN_OUT(T)                                                                         \
  double *energy, T *force, T *force_mag, T *virial, T *atomic_energy, T *atomic_virial
#define DEEPMD_SPIN_COMPUTE(T, charge_spin, ...)                                                   \
  compute(dp,                                                                                      \
          Call<T>{natoms, coord, atype, cell, nframes, fparam, aparam, charge_spin, __VA_ARGS__,   \
                  false, spin},                                                                    \
          Results<T>{energy, force, virial, atomic_energy, atomic_virial, force_mag})
#define DEEPMD_SPIN(H, T, f)                                                                       \
  void DP_##H##Compute##f##2(DP_##H * dp, DEEPMD_SPIN_ARGS(T), const T* fparam, const T* aparam,   \
                             DEEPMD_SPIN_OUT(T)) {                                                 \
    DEEPMD_SPIN_COMPUTE(T, nullptr, 0, nullptr, false, 0);                                         \
  }                                                                                                \
  void DP_##H##ComputeNList##f##2(DP_##H * dp, DEEPMD_SPIN_ARGS(T), DEEPMD_LIST, const T* fparam,  \
                                  const T* aparam, DEEPMD_SPIN_OUT(T)) {                           \
    DEEPMD_SPIN_COMPUTE(T, nullptr, nghost, nlist, true, ago);                                     \
  }                                                                                                \
  void DP_##H##Compute##f##3(DP_##H * dp, DEEPMD_SPIN_ARGS(T), const T* fparam, const T* aparam,   \
                             const T* charge_spin, DEEPMD_SPIN_OUT(T)) {                           \
    DEEPMD_SPIN_COMPUTE(T, charge_spin, 0, nullptr, false, 0);                                     \
  }                                                                                                \
  void DP_##H##ComputeNList##f##3(DP_##H * dp, DEEPMD_SPIN_ARGS(T), DEEPMD_LIST, const T* fparam,  \
                                  const T* aparam, const T* charge_spin, DEEPMD_SPIN_OUT(T)) {     \
    DEEPMD_SPIN_COMPUTE(T, charge_spin, nghost, nlist, true, ago);                                 \
  }
DEEPMD_SPIN(DeepSpin, double, )
DEEPMD_SPIN(DeepSpin, float, f)
DEEPMD_SPIN(DeepSpinModelDevi, double, )
DEEPMD_SPIN(DeepSpinModelDevi, float, f)

double DP_DeepSpinGetReach(DP_DeepSpin* dp, const double longest_spin) {
  return fact(dp, 0.0, [&] { return dp->model.reach(longest_spin); });
}

bool DP_DeepSpinUsesNativeSpinScheme(DP_DeepSpin*) { return false; }
bool DP_DeepSpinUsesCanonicalGraphInference(DP_DeepSpin*) { return false; }
bool DP_DeepPotSupportsDeviceEdgeInference(DP_DeepPot*) { return false; }
bool DP_DeepPotUsesFP32EdgeVectors(DP_DeepPot*) { return false; }
bool DP_DeepPotUsesCanonicalGraphInference(DP_DeepPot*) { return false; }

#define DEEPMD_NO_GRAPHS(T, name, ...)                                                             \
  void name(DP_##T* dp, __VA_ARGS__) {                                                             \
    perform(dp, [] {                                                                               \
      throw deepmd::deepmd_exception(#name                                                         \
                                     ": graphs that live on a GPU are not taken; ask "             \
                                     "...SupportsDeviceEdgeInference before, and compute "         \
                                     "with a neighbor list");                                      \
    });                                                                                            \
  }
DEEPMD_NO_GRAPHS(DeepPot, DP_DeepPotComputeEdgesGPU, double*, double*, double*, const double*,
                 const int*, const int*, const double*, int, int, const double*, int64_t,
                 const double*, int64_t, int, const DP_Nlist*)
DEEPMD_NO_GRAPHS(DeepPot, DP_DeepPotComputeEdgesGPUFloat32, double*, double*, double*,
                 const double*, const int*, const int*, const float*, int, int, const double*,
                 int64_t, const double*, int64_t, int, const DP_Nlist*)
DEEPMD_NO_GRAPHS(DeepPot, DP_DeepPotComputeCanonicalGraphGPU, double*, double*, double*,
                 const int64_t*, const uint32_t*, const float*, const int64_t*, const int64_t*,
                 const uint32_t*, int, int, int64_t)
DEEPMD_NO_GRAPHS(DeepSpin, DP_DeepSpinComputeCanonicalGraphGPU, double*, double*, double*, double*,
                 const int64_t*, const uint32_t*, const float*, const int64_t*, const int64_t*,
                 const uint32_t*, const float*, int, int, int64_t)

}  // extern "C"
