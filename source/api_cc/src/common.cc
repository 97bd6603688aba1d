// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/common.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "core/error.h"
#include "core/model.h"

namespace deepmd {

namespace {

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

int threads_of(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::max(0, std::atoi(value)) : 0;
}

/** The maps of select_by_type, of the atoms for which `selected(type)`. */
template <typename Selected>
void select(std::vector<int>& fwd_map, std::vector<int>& bkw_map, int& nghost_selected,
            const std::vector<int>& datype, int nghost, const Selected& selected) {
  const int natoms = static_cast<int>(datype.size());
  fwd_map.assign(natoms, -1);
  bkw_map.clear();
  nghost_selected = 0;
  for (int atom = 0; atom < natoms; ++atom) {
    if (selected(datype[atom])) {
      fwd_map[atom] = static_cast<int>(bkw_map.size());
      bkw_map.push_back(atom);
      nghost_selected += atom >= natoms - nghost;
    }
  }
}

}  // namespace

DPBackend get_backend(const std::string& model) {
  static const struct {
    const char* suffix;
    DPBackend backend;
  } known[] = {{".pb", TensorFlow},  {".pth", PyTorch},      {".pt2", PyTorchExportable},
               {".savedmodel", JAX}, {".savedmodeltf", JAX}, {".json", Paddle},
               {".pdmodel", Paddle}};
  for (const auto& entry : known) {
    if (ends_with(model, entry.suffix)) {
      return entry.backend;
    }
  }
  core::fail(model, "Unsupported model file format",
             "freeze or convert the model to a .pth file (dp freeze, dp convert-backend)");
}

std::string backend_name(const DPBackend backend) {
  static const char* const names[] = {"TensorFlow",   "PyTorch", "PyTorch Exportable",
                                      "PaddlePaddle", "JAX",     "Unknown"};
  return names[backend >= TensorFlow && backend <= Unknown ? backend : Unknown];
}

void read_file_to_string(std::string model, std::string& file_content) {
  std::ifstream file(model, std::ios::binary);
  if (!file) {
    core::fail(model, "the file cannot be opened", "check its name and permissions");
  }
  file_content.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  if (file.bad()) {
    core::fail(model, "reading the file failed");
  }
}

void print_summary(const std::string& pre) {
  std::cout << pre << "DeePMD-kit " << DEEPMD_VERSION << ", threads: " << core::number_of_threads()
            << "\n";
  for (const std::string& line : core::describe_backends()) {
    std::cout << pre << line << "\n";
  }
  std::cout.flush();
}

void get_env_nthreads(int& num_intra_nthreads, int& num_inter_nthreads) {
  num_intra_nthreads = threads_of("DP_INTRA_OP_PARALLELISM_THREADS");
  num_inter_nthreads = threads_of("DP_INTER_OP_PARALLELISM_THREADS");
}

bool model_compatable(std::string& model_version) {
  return model_version == "1.0" || model_version == "1.1";
}

void load_op_library() {}
void load_op_library(DPBackend) {}

void convert_pbtxt_to_pb(std::string fn_pb_txt, std::string) {
  core::fail(fn_pb_txt, "text graphs are not converted by the C++ library",
             "run: dp convert-from pbtxt -i " + fn_pb_txt);
}

void convert_nlist(InputNlist& to, std::vector<std::vector<int>>& from) {
  to.inum = static_cast<int>(from.size());
  for (int i = 0; i < to.inum; ++i) {
    to.ilist[i] = i;
    to.numneigh[i] = static_cast<int>(from[i].size());
    to.firstneigh[i] = from[i].data();
  }
}

int max_numneigh(const InputNlist& list) {
  return list.inum > 0 ? *std::max_element(list.numneigh, list.numneigh + list.inum) : 0;
}

template <typename VALUETYPE>
void select_by_type(std::vector<int>& fwd_map, std::vector<int>& bkw_map, int& nghost_real,
                    const std::vector<VALUETYPE>&, const std::vector<int>& datype,
                    const int& nghost, const std::vector<int>& sel_type) {
  select(fwd_map, bkw_map, nghost_real, datype, nghost, [&](int type) {
    return std::find(sel_type.begin(), sel_type.end(), type) != sel_type.end();
  });
}

template <typename VALUETYPE>
void select_real_atoms(std::vector<int>& fwd_map, std::vector<int>& bkw_map, int& nghost_real,
                       const std::vector<VALUETYPE>&, const std::vector<int>& datype,
                       const int& nghost, const int& ntypes) {
  select(fwd_map, bkw_map, nghost_real, datype, nghost,
         [&](int type) { return type >= 0 && type < ntypes; });
}

template <typename VALUETYPE>
void select_real_atoms_coord(std::vector<VALUETYPE>& dcoord, std::vector<int>& datype,
                             std::vector<VALUETYPE>& aparam, int& nghost_real,
                             std::vector<int>& fwd_map, std::vector<int>& bkw_map, int& nall_real,
                             int& nloc_real, const std::vector<VALUETYPE>& dcoord_,
                             const std::vector<int>& datype_, const std::vector<VALUETYPE>& aparam_,
                             const int& nghost, const int& ntypes, const int& nframes,
                             const int& daparam, const int& nall, const bool aparam_nall) {
  select_real_atoms(fwd_map, bkw_map, nghost_real, dcoord_, datype_, nghost, ntypes);
  nall_real = static_cast<int>(bkw_map.size());
  nloc_real = nall_real - nghost_real;
  dcoord.resize(static_cast<size_t>(nframes) * nall_real * 3);
  datype.resize(nall_real);
  select_map(dcoord, dcoord_, fwd_map, 3, nframes, nall, nall_real);
  select_map(datype, datype_, fwd_map, 1);
  if (daparam > 0) {
    const int rows = aparam_nall ? nall : nall - nghost;
    const int real = aparam_nall ? nall_real : nloc_real;
    const std::vector<int> map(fwd_map.begin(), fwd_map.begin() + rows);
    aparam.resize(static_cast<size_t>(nframes) * real * daparam);
    select_map(aparam, aparam_, map, daparam, nframes, rows, real);
  }
}

template <typename VT>
void select_map(typename std::vector<VT>::iterator out,
                const typename std::vector<VT>::const_iterator in, const std::vector<int>& fwd_map,
                const int& stride, const int& nframes, const int& nall1, const int& nall2) {
  for (int frame = 0; frame < nframes; ++frame) {
    for (size_t row = 0; row < fwd_map.size(); ++row) {
      if (fwd_map[row] >= 0) {
        const auto from = in + (static_cast<ptrdiff_t>(frame) * nall1 + row) * stride;
        std::copy(from, from + stride,
                  out + (static_cast<ptrdiff_t>(frame) * nall2 + fwd_map[row]) * stride);
      }
    }
  }
}

template <typename VT>
void select_map(std::vector<VT>& out, const std::vector<VT>& in, const std::vector<int>& fwd_map,
                const int& stride, const int& nframes, const int& nall1, const int& nall2) {
  select_map<VT>(out.begin(), in.begin(), fwd_map, stride, nframes, nall1, nall2);
}

template <typename VT>
void select_map_inv(typename std::vector<VT>::iterator out,
                    const typename std::vector<VT>::const_iterator in,
                    const std::vector<int>& fwd_map, const int& stride) {
  for (size_t row = 0; row < fwd_map.size(); ++row) {
    if (fwd_map[row] >= 0) {
      const auto from = in + static_cast<ptrdiff_t>(fwd_map[row]) * stride;
      std::copy(from, from + stride, out + static_cast<ptrdiff_t>(row) * stride);
    }
  }
}

template <typename VT>
void select_map_inv(std::vector<VT>& out, const std::vector<VT>& in,
                    const std::vector<int>& fwd_map, const int& stride) {
  select_map_inv<VT>(out.begin(), in.begin(), fwd_map, stride);
}

template <typename VT>
void fold_back(std::vector<VT>& out, const std::vector<VT>& in, const std::vector<int>& mapping,
               const int nloc, const int nall, const int ndim, const int nframes) {
  out.assign(static_cast<size_t>(nframes) * nloc * ndim, VT(0));
  for (int frame = 0; frame < nframes; ++frame) {
    for (int atom = 0; atom < nall; ++atom) {
      const size_t to = static_cast<size_t>(frame) * nloc + (atom < nloc ? atom : mapping[atom]);
      const size_t from = static_cast<size_t>(frame) * nall + atom;
      for (int d = 0; d < ndim; ++d) {
        out[to * ndim + d] += in[from * ndim + d];
      }
    }
  }
}

#define DEEPMD_SELECT_ATOMS(T)                                                                     \
  template void select_by_type<T>(std::vector<int>&, std::vector<int>&, int&,                      \
                                  const std::vector<T>&, const std::vector<int>&, const int&,      \
                                  const std::vector<int>&);                                        \
  template void select_real_atoms<T>(std::vector<int>&, std::vector<int>&, int&,                   \
                                     const std::vector<T>&, const std::vector<int>&, const int&,   \
                                     const int&);                                                  \
  template void select_real_atoms_coord<T>(std::vector<T>&, std::vector<int>&, std::vector<T>&,    \
                                           int&, std::vector<int>&, std::vector<int>&, int&, int&, \
                                           const std::vector<T>&, const std::vector<int>&,         \
                                           const std::vector<T>&, const int&, const int&,          \
                                           const int&, const int&, const int&, const bool);        \
  template void fold_back<T>(std::vector<T>&, const std::vector<T>&, const std::vector<int>&,      \
                             const int, const int, const int, const int);
DEEPMD_SELECT_ATOMS(double)
DEEPMD_SELECT_ATOMS(float)

#define DEEPMD_SELECT_MAP(T)                                                                       \
  template void select_map<T>(std::vector<T>&, const std::vector<T>&, const std::vector<int>&,     \
                              const int&, const int&, const int&, const int&);                     \
  template void select_map<T>(std::vector<T>::iterator, const std::vector<T>::const_iterator,      \
                              const std::vector<int>&, const int&, const int&, const int&,         \
                              const int&);                                                         \
  template void select_map_inv<T>(std::vector<T>&, const std::vector<T>&, const std::vector<int>&, \
                                  const int&);                                                     \
  template void select_map_inv<T>(std::vector<T>::iterator, const std::vector<T>::const_iterator,  \
                                  const std::vector<int>&, const int&);
DEEPMD_SELECT_MAP(double)
DEEPMD_SELECT_MAP(float)
DEEPMD_SELECT_MAP(int)

}  // namespace deepmd
