// SPDX-License-Identifier: LGPL-3.0-or-later
/** What is not a model: selecting atoms, reading files, facts about this installation. */
#pragma once

#include <string>
#include <vector>

#include "deepmd/errors.h"
#include "deepmd/neighbor_list.h"

namespace deepmd {

typedef double ENERGYTYPE;

/** The framework that a model file belongs to. */
enum DPBackend { TensorFlow, PyTorch, PyTorchExportable, Paddle, JAX, Unknown };

/** The framework of a model file, by its suffix; throws for a suffix that no backend reads. */
DPBackend get_backend(const std::string& model);

/** "TensorFlow", "PyTorch", ... */
std::string backend_name(const DPBackend backend);

/** The content of a file. */
void read_file_to_string(std::string model, std::string& file_content);

/** Print the version, the backends and the threads, every line with a prefix. */
void print_summary(const std::string& pre);

/**
 * Whether models that this thread opens from now on evaluate the frames with known results in their
 * file and compare; they do at first. Returns what was set before.
 */
bool check_probes(bool on);

/** Threads within and between operations, of DP_INTRA_ and DP_INTER_OP_PARALLELISM_THREADS. */
void get_env_nthreads(int& num_intra_nthreads, int& num_inter_nthreads);

/** Whether a model file of this format version can be read. */
bool model_compatable(std::string& model_version);

/** Does nothing: backends are loaded when a model is opened. For programs that call it. */
void load_op_library();
void load_op_library(DPBackend backend);

/** Throws: text graphs of TensorFlow are converted by `dp convert-from pbtxt`. */
void convert_pbtxt_to_pb(std::string fn_pb_txt, std::string fn_pb);

/**
 * Atoms whose type is among `sel_type`.
 *
 * @param fwd_map (natoms) position among the selected atoms, -1: not selected
 * @param bkw_map (n_selected) atom of every selected one
 * @param nghost_real number of ghosts (the last `nghost` atoms) that are selected
 */
template <typename VALUETYPE>
void select_by_type(std::vector<int>& fwd_map, std::vector<int>& bkw_map, int& nghost_real,
                    const std::vector<VALUETYPE>& dcoord, const std::vector<int>& datype,
                    const int& nghost, const std::vector<int>& sel_type);

/** Atoms of the types 0 ... ntypes - 1, all others being virtual; arguments of select_by_type. */
template <typename VALUETYPE>
void select_real_atoms(std::vector<int>& fwd_map, std::vector<int>& bkw_map, int& nghost_real,
                       const std::vector<VALUETYPE>& dcoord, const std::vector<int>& datype,
                       const int& nghost, const int& ntypes);

/** select_real_atoms, and what belongs to them: coordinates (nframes, nall, 3), types, aparam. */
template <typename VALUETYPE>
void select_real_atoms_coord(std::vector<VALUETYPE>& dcoord, std::vector<int>& datype,
                             std::vector<VALUETYPE>& aparam, int& nghost_real,
                             std::vector<int>& fwd_map, std::vector<int>& bkw_map, int& nall_real,
                             int& nloc_real, const std::vector<VALUETYPE>& dcoord_,
                             const std::vector<int>& datype_, const std::vector<VALUETYPE>& aparam_,
                             const int& nghost, const int& ntypes, const int& nframes,
                             const int& daparam, const int& nall, const bool aparam_nall = false);

/**
 * Rows of `stride` numbers to where `fwd_map` sends them; rows with -1 are dropped.
 *
 * @param in (nframes, nall1, stride)
 * @param out (nframes, nall2, stride), large enough; of one frame nall1 and nall2 may be left out
 */
template <typename VT>
void select_map(std::vector<VT>& out, const std::vector<VT>& in, const std::vector<int>& fwd_map,
                const int& stride, const int& nframes = 1, const int& nall1 = 0,
                const int& nall2 = 0);
template <typename VT>
void select_map(typename std::vector<VT>::iterator out,
                const typename std::vector<VT>::const_iterator in, const std::vector<int>& fwd_map,
                const int& stride, const int& nframes = 1, const int& nall1 = 0,
                const int& nall2 = 0);

/** The way back: row i of `out` is row fwd_map[i] of `in`; rows with -1 are left alone. */
template <typename VT>
void select_map_inv(std::vector<VT>& out, const std::vector<VT>& in,
                    const std::vector<int>& fwd_map, const int& stride);
template <typename VT>
void select_map_inv(typename std::vector<VT>::iterator out,
                    const typename std::vector<VT>::const_iterator in,
                    const std::vector<int>& fwd_map, const int& stride);

/**
 * Add what ghosts carry to their local atoms.
 *
 * @param out (nframes, nloc, ndim)
 * @param in (nframes, nall, ndim)
 * @param mapping (nall) local atom of every atom
 */
template <typename VT>
void fold_back(std::vector<VT>& out, const std::vector<VT>& in, const std::vector<int>& mapping,
               const int nloc, const int nall, const int ndim, const int nframes = 1);

}  // namespace deepmd
