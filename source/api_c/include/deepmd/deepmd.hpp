// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The C++ face of the C interface (C++11, headers only): link with -ldeepmd_c.
 *
 * Classes, methods and array shapes are those of the C++ library (deepmd/DeepPot.h ...), in the
 * namespace deepmd::hpp. Errors are thrown as deepmd::hpp::deepmd_exception. Objects can be copied;
 * copies share the model.
 */
#pragma once

#include <type_traits>

#include "hpp/deviation.hpp"
#include "hpp/potential.hpp"
#include "hpp/tensor.hpp"

/** Where energies of `nframes` frames go; wrappers for other languages call it by this name. */
inline double* _DP_Get_Energy_Pointer(std::vector<double>& energies, const int nframes) {
  energies.resize(nframes);
  return energies.data();
}
inline double* _DP_Get_Energy_Pointer(double& energy, const int) { return &energy; }

namespace deepmd {
namespace hpp {

/** The content of a file. */
inline void read_file_to_string(std::string model, std::string& file_content) {
  int size = 0;
  const char* const text = DP_ReadFileToChar2(model.c_str(), &size);
  const std::string content(text, std::abs(size));
  DP_DeleteChar(text);
  if (size < 0) {
    throw deepmd_exception(content);
  }
  file_content = content;
}

/** Throws, as text graphs of TensorFlow are converted by `dp convert-from pbtxt`. */
inline void convert_pbtxt_to_pb(std::string fn_pb_txt, std::string) {
  throw deepmd_exception("DeePMD-kit Error: " + fn_pb_txt +
                         ": run dp convert-from pbtxt to convert it");
}

/** Atoms of some types: maps to them (-1: not selected) and back. */
template <typename VALUETYPE>
void select_by_type(std::vector<int>& fwd_map, std::vector<int>& bkw_map, int& nghost_real,
                    const std::vector<VALUETYPE>&, const std::vector<int>& datype_,
                    const int& nghost, const std::vector<int>& sel_type_) {
  int nreal = 0;
  fwd_map.resize(datype_.size());
  bkw_map.resize(datype_.size());
  DP_SelectByType(static_cast<int>(datype_.size()), datype_.data(), nghost,
                  static_cast<int>(sel_type_.size()), sel_type_.data(), fwd_map.data(), &nreal,
                  bkw_map.data(), &nghost_real);
  bkw_map.resize(nreal);
}

/** Rows of `stride` numbers to where `fwd_map` sends them. */
template <typename VT>
void select_map(std::vector<VT>& out, const std::vector<VT>& in, const std::vector<int>& fwd_map,
                const int& stride) {
  static_assert(std::is_same<VT, int>::value, "select_map is there for int only");
  DP_SelectMapInt(in.data(), fwd_map.data(), stride, static_cast<int>(in.size() / stride),
                  static_cast<int>(out.size() / stride), out.data());
}

}  // namespace hpp
}  // namespace deepmd
