// SPDX-License-Identifier: LGPL-3.0-or-later
/** Tensors, the dipole charge modifier and utilities of the C interface. */
#include <climits>
#include <iostream>

#include "handles.h"

using namespace deepmd::c;

namespace {

/** The arguments of a computation of one frame. */
template <typename T>
struct Call {
  int natoms;
  const T* coord;
  const int* atype;
  const T* cell;
  int nghost = 0;
  const DP_Nlist* nlist = nullptr;
  bool with_list = false;
};

/** The same as vectors. */
template <typename T>
struct Vectors {
  explicit Vectors(const Call<T>& call) {
    if (call.natoms < 0 || call.nghost < 0 || call.nghost > call.natoms) {
      throw deepmd::deepmd_exception("there are " + std::to_string(call.natoms) +
                                     " atoms, of which " + std::to_string(call.nghost) +
                                     " are ghosts; ghosts are counted among the atoms");
    }
    const size_t natoms = call.natoms;
    coord = array(call.coord, 3 * natoms);
    atype = array(call.atype, natoms);
    box = array(call.cell, 9);
  }

  std::vector<T> coord, box;
  std::vector<int> atype;
};

template <typename T>
void compute(DP_DeepTensor* dt, const Call<T>& call, T** tensor, int* size) {
  *tensor = nullptr;
  *size = 0;
  perform(dt, [&] {
    const Vectors<T> in(call);
    std::vector<T> value;
    if (call.with_list) {
      dt->model.compute(value, in.coord, in.atype, in.box, call.nghost, list_of(call.nlist));
    } else {
      dt->model.compute(value, in.coord, in.atype, in.box);
    }
    *tensor = allocated(value, size);
  });
}

template <typename T>
void compute(DP_DeepTensor* dt, const Call<T>& call, T* global_tensor, T* force, T* virial,
             T** atomic_tensor, T* atomic_virial, int* size_at) {
  if (atomic_tensor) {
    *atomic_tensor = nullptr;
    *size_at = 0;
  }
  perform(dt, [&] {
    const Vectors<T> in(call);
    std::vector<T> global, forces, virials, atom, atom_virials;
    if (call.with_list) {
      dt->model.compute(global, forces, virials, atom, atom_virials, in.coord, in.atype, in.box,
                        call.nghost, list_of(call.nlist));
    } else {
      dt->model.compute(global, forces, virials, atom, atom_virials, in.coord, in.atype, in.box);
    }
    copy_out(global, global_tensor);
    copy_out(forces, force);
    copy_out(virials, virial);
    copy_out(atom_virials, atomic_virial);
    if (atomic_tensor) {
      *atomic_tensor = allocated(atom, size_at);
    }
  });
}

template <typename T>
void correct(DP_DipoleChargeModifier* dcm, const Call<T>& call, const int* pairs, int npairs,
             const T* delef, T* dfcorr, T* dvcorr) {
  perform(dcm, [&] {
    const Vectors<T> in(call);
    std::vector<std::pair<int, int>> hosts;
    for (int k = 0; k < npairs; ++k) {
      hosts.emplace_back(pairs[2 * k], pairs[2 * k + 1]);
    }
    const auto field = array(delef, 3 * static_cast<size_t>(call.natoms - call.nghost));
    std::vector<T> force, virial;
    dcm->model.compute(force, virial, in.coord, in.atype, in.box, hosts, field, call.nghost,
                       list_of(call.nlist));
    copy_out(force, dfcorr);
    copy_out(virial, dvcorr);
  });
}

/** Where the types are that a model selects. */
template <typename Handle>
int* selected(Handle* handle) {
  return fact(handle, static_cast<int*>(nullptr),
              [&] { return const_cast<int*>(handle->model.sel_types().data()); });
}

}  // namespace

extern "C" {

DP_DeepTensor* DP_NewDeepTensor(const char* model) {
  return DP_NewDeepTensorWithParam(model, 0, nullptr);
}

DP_DeepTensor* DP_NewDeepTensorWithParam(const char* model, const int gpu_rank,
                                         const char* name_scope) {
  return DP_NewDeepTensorWithParam2(model, gpu_rank, name_scope, nullptr);
}

DP_DeepTensor* DP_NewDeepTensorWithParam2(const char* model, const int gpu_rank,
                                          const char* name_scope, const char* engine) {
  return opened<DP_DeepTensor>([&](DP_DeepTensor& dt) {
    dt.model.init(model, gpu_rank, name_scope ? name_scope : "", engine_of(engine));
  });
}

DP_DipoleChargeModifier* DP_NewDipoleChargeModifier(const char* model) {
  return DP_NewDipoleChargeModifierWithParam(model, 0, nullptr);
}

DP_DipoleChargeModifier* DP_NewDipoleChargeModifierWithParam(const char* model, const int gpu_rank,
                                                             const char* name_scope) {
  return DP_NewDipoleChargeModifierWithParam2(model, gpu_rank, name_scope, nullptr);
}

DP_DipoleChargeModifier* DP_NewDipoleChargeModifierWithParam2(const char* model, const int gpu_rank,
                                                              const char* name_scope,
                                                              const char* engine) {
  return opened<DP_DipoleChargeModifier>([&](DP_DipoleChargeModifier& dcm) {
    dcm.model.init(model, gpu_rank, name_scope ? name_scope : "", engine_of(engine));
  });
}

#define DEEPMD_FACTS(T)                                                                            \
  double DP_##T##GetCutoff(DP_##T* handle) {                                                       \
    return fact(handle, 0.0, [&] { return handle->model.cutoff(); });                              \
  }                                                                                                \
  int DP_##T##GetNumbTypes(DP_##T* handle) {                                                       \
    return fact(handle, 0, [&] { return handle->model.numb_types(); });                            \
  }                                                                                                \
  int* DP_##T##GetSelTypes(DP_##T* handle) { return selected(handle); }                            \
  int DP_##T##GetNumbSelTypes(DP_##T* handle) {                                                    \
    return fact(handle, 0, [&] { return static_cast<int>(handle->model.sel_types().size()); });    \
  }                                                                                                \
  const char* DP_##T##CheckOK(DP_##T* handle) { return to_char(handle->message.get()); }           \
  void DP_Delete##T(DP_##T* handle) { delete handle; }
DEEPMD_FACTS(DeepTensor)
DEEPMD_FACTS(DipoleChargeModifier)

double DP_DipoleChargeModifierGetEwaldBeta(DP_DipoleChargeModifier* dcm) {
  return fact(dcm, 0.0, [&] { return dcm->model.ewald_beta(); });
}

const double* DP_DipoleChargeModifierGetAtomCharges(DP_DipoleChargeModifier* dcm) {
  return fact(dcm, static_cast<const double*>(nullptr), [&] {
    const std::vector<double>& known = dcm->model.atom_charges();
    return known.empty() ? nullptr : known.data();
  });
}

const double* DP_DipoleChargeModifierGetCentroidCharges(DP_DipoleChargeModifier* dcm) {
  return fact(dcm, static_cast<const double*>(nullptr), [&] {
    const std::vector<double>& known = dcm->model.centroid_charges();
    return known.empty() ? nullptr : known.data();
  });
}

double DP_DeepTensorGetHalo(DP_DeepTensor* dt) {
  return fact(dt, 0.0, [&] { return dt->model.halo(); });
}

int DP_DeepTensorGetOutputDim(DP_DeepTensor* dt) {
  return fact(dt, 0, [&] { return dt->model.output_dim(); });
}

const char* DP_DeepTensorGetTypeMap(DP_DeepTensor* dt) {
  return to_char(fact(dt, std::string(), [&] {
    std::string names;
    dt->model.get_type_map(names);
    return names;
  }));
}

#define DEEPMD_ARGS(T) const int natoms, const T *coord, const int *atype, const T *cell
#define DEEPMD_OUT(T)                                                                              \
  T *global_tensor, T *force, T *virial, T **atomic_tensor, T *atomic_virial, int *size_at
#define DEEPMD_TENSOR(T, f)                                                                        \
  void DP_DeepTensorComputeTensor##f(DP_DeepTensor* dt, DEEPMD_ARGS(T), T** tensor, int* size) {   \
    compute(dt, Call<T>{natoms, coord, atype, cell}, tensor, size);                                \
  }                                                                                                \
  void DP_DeepTensorComputeTensorNList##f(DP_DeepTensor* dt, DEEPMD_ARGS(T), const int nghost,     \
                                          const DP_Nlist* nlist, T** tensor, int* size) {          \
    compute(dt, Call<T>{natoms, coord, atype, cell, nghost, nlist, true}, tensor, size);           \
  }                                                                                                \
  void DP_DeepTensorCompute##f(DP_DeepTensor* dt, DEEPMD_ARGS(T), DEEPMD_OUT(T)) {                 \
    compute(dt, Call<T>{natoms, coord, atype, cell}, global_tensor, force, virial, atomic_tensor,  \
            atomic_virial, size_at);                                                               \
  }                                                                                                \
  void DP_DeepTensorComputeNList##f(DP_DeepTensor* dt, DEEPMD_ARGS(T), const int nghost,           \
                                    const DP_Nlist* nlist, DEEPMD_OUT(T)) {                        \
    compute(dt, Call<T>{natoms, coord, atype, cell, nghost, nlist, true}, global_tensor, force,    \
            virial, atomic_tensor, atomic_virial, size_at);                                        \
  }                                                                                                \
  void DP_DipoleChargeModifierComputeNList##f(                                                     \
      DP_DipoleChargeModifier* dcm, DEEPMD_ARGS(T), const int* pairs, const int npairs,            \
      const T* delef, const int nghost, const DP_Nlist* nlist, T* dfcorr, T* dvcorr) {             \
    correct(dcm, Call<T>{natoms, coord, atype, cell, nghost, nlist, true}, pairs, npairs, delef,   \
            dfcorr, dvcorr);                                                                       \
  }
DEEPMD_TENSOR(double, )
DEEPMD_TENSOR(float, f)

void DP_ConvertPbtxtToPb(const char* pbtxt, const char* pb) {
  try {
    deepmd::convert_pbtxt_to_pb(pbtxt, pb);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
  }
}

void DP_PrintSummary(const char* pre) {
  try {
    deepmd::print_summary(pre ? pre : "");
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
  }
}

const char* DP_ReadFileToChar(const char* model) {
  int size = 0;
  return DP_ReadFileToChar2(model, &size);
}

const char* DP_ReadFileToChar2(const char* model, int* size) {
  std::string content;
  try {
    deepmd::read_file_to_string(model, content);
    if (content.size() > static_cast<size_t>(INT_MAX)) {
      throw deepmd::deepmd_exception(std::string(model) +
                                     ": larger than 2 GiB; let the model be "
                                     "opened by its name");
    }
    *size = static_cast<int>(content.size());
  } catch (const std::exception& error) {
    content = error.what();
    *size = -static_cast<int>(content.size());
  }
  return to_char(content);
}

void DP_SelectByType(const int natoms, const int* atype, const int nghost, const int nsel_type,
                     const int* sel_type, int* fwd_map, int* nreal, int* bkw_map,
                     int* nghost_real) {
  std::vector<int> forward, backward;
  int ghosts = 0;
  deepmd::select_by_type(forward, backward, ghosts, std::vector<double>(), array(atype, natoms),
                         nghost, array(sel_type, nsel_type));
  copy_out(forward, fwd_map);
  copy_out(backward, bkw_map);
  if (nreal) {
    *nreal = static_cast<int>(backward.size());
  }
  if (nghost_real) {
    *nghost_real = ghosts;
  }
}

void DP_SelectMapInt(const int* in, const int* fwd_map, const int stride, const int nall1,
                     const int nall2, int* out) {
  std::vector<int> mapped(static_cast<size_t>(stride) * nall2);
  deepmd::select_map(mapped, array(in, static_cast<size_t>(stride) * nall1), array(fwd_map, nall1),
                     stride);
  copy_out(mapped, out);
}

void DP_DeleteChar(const char* text) { std::free(const_cast<char*>(text)); }

int DP_CheckProbes(int on) { return deepmd::check_probes(on != 0); }

}  // extern "C"
