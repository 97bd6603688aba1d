// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The interface between the DeePMD library and one framework (PyTorch, TensorFlow, ...).
 *
 * A framework lives in a shared library of its own, `libdeepmd_backend_<name>.so`, which exports
 * the single function `deepmd_backend`. The DeePMD library opens it with dlopen when a model file
 * with a suitable suffix is opened. Nothing but plain C crosses this border, so that frameworks,
 * compilers and C++ ABIs do not mix; every structure starts with its size, so that fields can be
 * appended: a reader looks at a field only if the size says that it is there.
 *
 * Units: Angstrom, eV. Arrays are dense, C order. All memory that is passed belongs to the caller,
 * except what `query` returns, which belongs to the model and lives until `close`.
 *
 * Functions return 0, or another number after writing a message of what is wrong, where, and how to
 * mend it into `error` (at most `error_size` bytes with the closing zero). No C++ exception leaves.
 * `evaluate` may be called from several threads at once on the same model.
 */
#ifndef DEEPMD_BACKEND_H
#define DEEPMD_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this interface. A library and a backend of different versions do not work together.
 */
#define DEEPMD_BACKEND_VERSION 1

/** How a part of a model reads its neighbours: see deepmd_packing. */
enum deepmd_layout {
  DEEPMD_TYPED = 0,      /**< one table (n, K) per neighbour type */
  DEEPMD_MIXED = 1,      /**< one table (n, K) of all neighbours */
  DEEPMD_FLAT = 2,       /**< the numbers (n_kept) of the edges that are kept */
  DEEPMD_ANGLES = 3,     /**< two arrays (n_angles): pairs of positions in a flat list */
  DEEPMD_CENTRES = 4,    /**< per type the atoms (n) of that type */
  DEEPMD_FIRST_TYPE = 5, /**< for every atom the type of the first atom of its frame */
};

/**
 * One request for tables of edge numbers ("slots"). -1 marks an empty place.
 *
 * Edges beyond `rcut` are dropped; of each centre the nearest `nearest` (0: the sum of `sel`) are
 * kept, then (typed) the nearest `sel[t]` of each type t; then pairs of excluded types are dropped.
 * K is the largest count found, at least 1. With `by_centre`, each type of centres comes as its
 * atom numbers (n), followed by its tables.
 */
typedef struct deepmd_packing {
  size_t struct_size;
  int32_t layout;
  int32_t by_centre;
  double rcut;
  int64_t nearest;
  const int64_t* sel;
  int32_t n_sel;
  int32_t n_exclude;
  const int32_t* exclude; /**< (n_exclude, 2) */
  double edge_rcut;       /**< of angles: the flat list whose positions are numbered */
  int64_t edge_sel;
} deepmd_packing;

/** One thing a model predicts for every atom. */
typedef struct deepmd_output {
  size_t struct_size;
  const char* name;       /**< "energy", "dipole", "polar", "dos", "property", ... */
  int64_t size;           /**< components per atom */
  int32_t differentiable; /**< whether there is a gradient by edge vectors */
  int32_t intensive;      /**< whether the value of a frame is a mean rather than a sum */
} deepmd_output;

/** A small frame with results that travels in a model file, to be checked when it is opened. */
typedef struct deepmd_probe {
  size_t struct_size;
  int64_t natoms;
  const double* coord;  /**< (natoms, 3) */
  const int32_t* atype; /**< (natoms), -1 for virtual atoms */
  const double* cell;   /**< (9), or NULL for an open system */
  const double* fparam; /**< (dim_fparam + dim_chg_spin), or NULL */
  const double* aparam; /**< (natoms, dim_aparam), or NULL */
  const double* value;  /**< (size): the first output, of the frame */
  const double* force;  /**< (size, natoms, 3), or NULL */
  const double* virial; /**< (size, 9), or NULL */
} deepmd_probe;

/** The ways in which a model file can be evaluated. */
enum deepmd_entry {
  DEEPMD_EDGES = 1,    /**< evaluate: edge vectors and tables */
  DEEPMD_EXTENDED = 2, /**< evaluate_extended: coordinates with ghosts and a neighbour list */
};

/** What is in a model file. */
typedef struct deepmd_info {
  size_t struct_size;
  uint32_t entries; /**< bits of deepmd_entry */
  int32_t ntypes;
  const char* const* type_map; /**< (ntypes) */
  double rcut;
  const int64_t* sel; /**< largest numbers of neighbours, one per type or one in all */
  int32_t n_sel;
  int32_t n_packings;
  const deepmd_packing* packings; /**< in the order of the slots; EDGES only */
  const deepmd_output* outputs;
  int32_t n_outputs;
  int32_t dim_fparam;
  int32_t dim_aparam;
  int32_t dim_chg_spin;
  int32_t has_default_fparam;
  int32_t has_default_chg_spin;
  const double* default_fparam;   /**< (dim_fparam), or NULL if there is none or nobody knows it */
  const double* default_chg_spin; /**< (dim_chg_spin), or NULL */
  int32_t message_passing; /**< whether atoms beyond the cutoff matter: neighbours must be owners */
  int32_t mixed_types;     /**< EXTENDED: whether the list is one of all types */
  int32_t has_spin;        /**< whether atoms carry spins; EXTENDED only, see spin_scale */
  int32_t single_precision; /**< whether networks are float32: a coarser probe check */
  const int32_t* sel_type;  /**< types that are predicted; n_sel_type 0: all */
  int32_t n_sel_type;
  int32_t n_probes;
  const deepmd_probe* probes;
  const char* framework; /**< "PyTorch 2.13.0", for messages */
  /** Edges that a call should have where a model may be evaluated in parts; 0: as many as suit the
      caches of a processor. For accelerators, which want more, and calls one after the other. */
  int64_t chunk_edges;
  /** With has_spin: which types carry spins (ntypes), and how far a spin of length 1 reaches beyond
      its atom (ntypes) [Angstrom]: neighbours matter up to the cutoff and the longest such reach,
      twice it with message_passing. */
  const int32_t* use_spin;
  const double* spin_scale;
  /** (ntypes): whether atoms of a type count in means, for intensive outputs; NULL: all do. */
  const int32_t* counted;
} deepmd_info;

/** An index array: (rows) if `columns` is negative, otherwise (rows, columns). */
typedef struct deepmd_slot {
  const int64_t* data;
  int64_t rows;
  int64_t columns;
} deepmd_slot;

/** Where one output goes. */
typedef struct deepmd_result {
  double* value;    /**< (n_atoms, size) */
  double* gradient; /**< (n_edges, size, 3), or NULL if not wanted or not differentiable */
} deepmd_result;

/**
 * Evaluation by edge vectors.
 *
 * vec = r_j - r_i with periodic images resolved; edges are sorted by their centre i. Atoms are
 * sorted by frame. An atom may stand for all neighbours of one type: it then has no edges.
 */
typedef struct deepmd_edges_request {
  size_t struct_size;
  int64_t n_edges;
  int64_t n_atoms;
  int64_t n_frames;
  const double* vec;    /**< (n_edges, 3) */
  const int64_t* i;     /**< (n_edges) */
  const int64_t* j;     /**< (n_edges) */
  const int64_t* atype; /**< (n_atoms) */
  const int64_t* frame; /**< (n_atoms) */
  const double* fparam; /**< (n_frames, dim_fparam + dim_chg_spin) */
  const double* aparam; /**< (n_atoms, dim_aparam) */
  const deepmd_slot* slots;
  int32_t n_slots;
  int32_t threads;              /**< to be used inside of this call; 0: as the framework likes */
  const deepmd_result* results; /**< in the order of info.outputs */
} deepmd_edges_request;

/** Evaluation by extended coordinates, of one frame; for files without the edges entry. */
typedef struct deepmd_extended_request {
  size_t struct_size;
  int64_t nloc; /**< local atoms come first */
  int64_t nall;
  int64_t nnei;         /**< width of the list */
  const double* coord;  /**< (nall, 3) */
  const int64_t* atype; /**< (nall) */
  /** (nloc, nnei): the nearest first, cut to `sel` per type; -1: none. With spins: all that matter,
      see spin_scale; the model counts partners and cuts to `sel` by itself. */
  const int64_t* nlist;
  const int64_t* mapping; /**< (nall): local atom of every atom, or NULL */
  const double* fparam;   /**< (dim_fparam), or NULL */
  const double* aparam;   /**< (nloc, dim_aparam), or NULL */
  const double* chg_spin; /**< (dim_chg_spin), or NULL */
  int32_t threads;
  double* const* value;       /**< per output: (nloc, size) */
  double* const* force;       /**< per output: (size, nall, 3), or NULL */
  double* const* virial;      /**< per output: (size, 9), or NULL */
  double* const* atom_virial; /**< per output: (size, nall, 9), or NULL if not wanted */
  const double* spin;         /**< (nall, 3), with has_spin */
  double* const* force_mag;   /**< per output: (size, nall, 3), minus the derivative by spins */
} deepmd_extended_request;

/** What to open: a path, or the content of a file. */
typedef struct deepmd_source {
  size_t struct_size;
  const char* path;    /**< named in messages even when the content is given */
  const void* content; /**< NULL: read the path */
  size_t content_size;
  int32_t gpu_rank; /**< which GPU, modulo their number; ignored without GPUs */
} deepmd_source;

typedef struct deepmd_backend_model deepmd_backend_model;

/** What a backend library offers. */
typedef struct deepmd_backend_functions {
  size_t struct_size;
  uint32_t version;     /**< DEEPMD_BACKEND_VERSION it was built with */
  const char* name;     /**< "PyTorch" */
  const char* suffixes; /**< separated by spaces: ".pth .pt2" */
  int (*open)(const deepmd_source* source, deepmd_backend_model** model, char* error,
              size_t error_size);
  int (*query)(deepmd_backend_model* model, const deepmd_info** info, char* error,
               size_t error_size);
  int (*evaluate)(deepmd_backend_model* model, const deepmd_edges_request* request, char* error,
                  size_t error_size);
  int (*evaluate_extended)(deepmd_backend_model* model, const deepmd_extended_request* request,
                           char* error, size_t error_size);
  void (*close)(deepmd_backend_model* model);
  const char* (*framework)(void); /**< "PyTorch 2.13.0 (CPU)", for the summary */
} deepmd_backend_functions;

/** The only symbol of a backend library. */
typedef const deepmd_backend_functions* (*deepmd_backend_entry)(void);
#define DEEPMD_BACKEND_ENTRY "deepmd_backend"

#ifdef __cplusplus
}
#endif

#endif
