// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The interface between the DeePMD library and one framework (PyTorch, TensorFlow, ...).
 *
 * A framework lives in a shared library of its own, `libdeepmd_backend_<name>.so`, which exports
 * the single function `deepmd_backend`. The DeePMD library opens it with dlopen when a model file
 * with one of its suffixes is opened. Nothing but plain C crosses this border, so that frameworks,
 * compilers and C++ ABIs do not mix.
 *
 * Structures grow: every one (except deepmd_array) starts with its size in the release that its
 * writer was built with, and fields are only ever appended. A reader copies a structure with
 * deepmd_read before it looks at it: what the writer does not know is zero, which always means the
 * default, and what the reader does not know is left out. In an array of structures, the size of
 * the first is the distance between them.
 *
 * Units: Angstrom, eV. All memory that is passed belongs to the caller, except what `query`
 * returns, which belongs to the model and lives until `close`. Strings are UTF-8, closed by zero.
 *
 * Functions return 0, or another number after writing a message of what is wrong, where, and how to
 * mend it into `error` (at most `error_size` bytes with the closing zero). No C++ exception leaves.
 * `evaluate` may be called from several threads at once on the same model.
 */
#ifndef DEEPMD_BACKEND_H
#define DEEPMD_BACKEND_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Version of this interface. A library and a backend of different versions do not work together;
 * the library says so in one line.
 *
 * 2: structures copied by size, arrays with device and type, inputs by name.
 * 3: the description of a model and its probes are JSON; results carry the names of outputs.
 */
#define DEEPMD_BACKEND_VERSION 3

/** Copy a structure of any release into one of this release, of `size` bytes. */
static inline void deepmd_read(void* to, size_t size, const void* from) {
  size_t given;
  memcpy(&given, from, sizeof(given));
  memset(to, 0, size);
  memcpy(to, from, given < size ? given : size);
}

/* -- arrays ------------------------------------------------------------------------------------ */

/** Where an array lies; the numbers are those of DLPack. */
enum deepmd_device { DEEPMD_CPU = 1, DEEPMD_CUDA = 2, DEEPMD_ROCM = 10 };

/** Type of the numbers of an array. */
enum deepmd_dtype { DEEPMD_FLOAT64 = 1, DEEPMD_INT64 = 2, DEEPMD_FLOAT32 = 3, DEEPMD_INT32 = 4 };

#define DEEPMD_MAX_DIMS 4

/**
 * Dense array in C order. Its layout is the same in all releases of this version.
 *
 * So far the library gives arrays on the CPU only, of the type that each field names; a backend
 * refuses others with a message. Inputs are not written to.
 */
typedef struct deepmd_array {
  void* data; /**< NULL: not given or, of a result, not wanted */
  int64_t shape[DEEPMD_MAX_DIMS];
  int32_t n_dims;
  int32_t dtype;        /**< one of deepmd_dtype */
  int32_t device;       /**< one of deepmd_device */
  int32_t device_index; /**< which of several devices */
  void* stream; /**< on a device: in whose order it is read and written (cudaStream_t), or NULL */
} deepmd_array;

/* -- what is in a model file ------------------------------------------------------------------- */

/** The ways in which a model file can be evaluated. */
enum deepmd_entry {
  DEEPMD_EDGES = 1,      /**< evaluate: edge vectors and tables */
  DEEPMD_EXTENDED = 2,   /**< evaluate_extended: coordinates with ghosts and a neighbor list */
  DEEPMD_COTANGENTS = 4, /**< these entries read deepmd_result::cotangent */
  DEEPMD_EXCHANGES = 8,  /**< the EDGES entry calls deepmd_exchange where n_owned is given */
};

/**
 * Contents of a model file.
 *
 * `description` is the ModelInfo that every file written by this project holds as `metadata`; a
 * backend passes its text on as it is, and writes one for files of other origin. It is a JSON
 * object with
 *
 *   schema              1
 *   type_map            names of the types
 *   rcut                cutoff [Angstrom]
 *   interaction_range   beyond it atoms do not influence each other [Angstrom]; null: infinite
 *   message_range       up to it the neighbors of other atoms matter [Angstrom]; 0 without
 * messages, may be missing sel                 largest numbers of neighbors, one per type or one in
 * all inputs              list of {name, level: "frame" or "atom", size, default: list or null}
 *   outputs             list of {name, level: "atom", size, differentiable, intensive, magnetic};
 *                       differentiable: there is a gradient by edge vectors; intensive: the value
 *                       of a frame is a mean; magnetic: there is a derivative by spins
 *   packings            tables of the EDGES entry, in the order of the slots; see below
 *   core_types          number of types that the EDGES entry knows
 *   contributing_types  (core_types): whether atoms of a type count in means
 *   selected_types      types that are predicted; []: all
 *   use_spin            (ntypes): which types carry spins; []: no spins. The EDGES entry then gets
 *                       atoms and virtual partners, of types ntypes + t, at r + s * spin_scale[t];
 *                       core_types counts both, and partners have no value of their own
 *   spin_scale          (ntypes): how far a spin of length 1 reaches beyond its atom [Angstrom].
 *                       Neighbors matter up to the cutoff and the longest such reach, twice it with
 *                       message_passing
 *   precision           lowest one of its arrays: "float64", or a coarser check of the probes
 *   message_passing     whether atoms beyond the cutoff matter: neighbors must be owners
 *   mixed_types         EXTENDED: whether the neighbor list is one of all types
 *
 * and others, which the library does not look at. A packing, a request for tables of edge numbers
 * ("slots", -1 marks an empty place), is {layout, ntypes, rcut, sel, by_centre, exclude, nearest,
 * edge_rcut, edge_sel} with these layouts:
 *
 *   typed       one table (n, K) per neighbor type
 *   mixed       one table (n, K) of all neighbors
 *   flat        the numbers (n_kept) of the edges that are kept
 *   angles      two arrays (n_angles): pairs of positions in a flat list, that of edge_rcut,
 *               edge_sel
 *   centres     per type the atoms (n) of that type
 *   first_type  for every atom the type of the first atom of its frame
 *
 * Edges beyond `rcut` are dropped; of each center the nearest `nearest` (0: the sum of `sel`) are
 * kept, then (typed) the nearest sel[t] of each type t; then pairs of excluded types are dropped.
 * K is the largest count found, at least 1. With `by_centre`, each type of centers comes as its
 * atom numbers (n), followed by its tables.
 *
 * `probes` are small frames with results, to be checked when the file is opened: a JSON list of
 * objects with coord (natoms, 3), atype (natoms; -1: virtual), cell (3, 3) unless open, the first
 * output of the frame as value (size), force (size, natoms, 3) and virial (size, 9) if known, and
 * inputs by their names; arrays are lists, nested or flat.
 */
typedef struct deepmd_info {
  size_t struct_size;
  const char* description; /**< JSON, see above */
  uint32_t entries;        /**< bits of deepmd_entry */
  uint32_t reserved;
  const char* framework; /**< "PyTorch 2.13.0", for messages; NULL: the name of the backend */
  const char* probes;    /**< JSON, see above; NULL: none */
  /** Edges that a call should have where a model may be evaluated in parts; 0: as many as suit the
      caches of a processor. For accelerators, which want more, and calls one after the other. */
  int64_t chunk_edges;
  /** Edges that are worth a call of their own, so that a small system is divided among threads; 0:
      calls should be as large as they may. */
  int64_t least_edges;
} deepmd_info;

/* -- evaluation -------------------------------------------------------------------------------- */

/** What an input belongs to. */
enum deepmd_level { DEEPMD_FRAME = 0, DEEPMD_ATOM = 1 };

/** Value of one input of a model beside coordinates, cells and types. */
typedef struct deepmd_input {
  size_t struct_size;
  const char* name; /**< "fparam", "charge_spin", "aparam", ... */
  int32_t level;    /**< one of deepmd_level */
  int32_t reserved;
  deepmd_array data; /**< float64: (frames or atoms, size) */
} deepmd_input;

/** Where one output goes: float64 arrays, without data if not wanted or not differentiable. */
typedef struct deepmd_result {
  size_t struct_size;
  const char* name;         /**< of the output: "energy", "dipole", "polar", "dos", ... */
  deepmd_array value;       /**< (n_atoms or nloc, size) */
  deepmd_array gradient;    /**< EDGES: (n_edges, size, 3) */
  deepmd_array force;       /**< EXTENDED: (size, nall, 3) */
  deepmd_array virial;      /**< EXTENDED: (size, 9) */
  deepmd_array atom_virial; /**< EXTENDED: (size, nall, 9) */
  deepmd_array force_mag; /**< EXTENDED with spins: (size, nall, 3), minus the derivative by them */
  /**
   * (n_atoms or nloc, size), or no data. With it, the derivatives above are those of one number,
   * the sum over atoms and components of cotangent times value: a vector-Jacobian product. `size`
   * is then 1 in their shapes. Given only to models whose entries say DEEPMD_COTANGENTS.
   */
  deepmd_array cotangent;
} deepmd_result;

/**
 * Exchange of values of atoms between ranks, for models that pass messages and are evaluated by
 * several ranks. All ranks call it equally often, in the same order, once or more in an evaluation,
 * from the thread that evaluates. A number other than 0 ends the evaluation with the message.
 *
 * Where the library gives none, `mapping`, or j in the edges, names the owner of every ghost, or
 * ghosts are evaluated, too.
 */
typedef struct deepmd_exchange {
  size_t struct_size;
  void* context; /**< first argument of the functions */
  /** Copy the rows of owners to their ghosts; float64 (nall, width). */
  int (*to_ghosts)(void* context, const deepmd_array* values, char* error, size_t error_size);
  /** Add the rows of ghosts to their owners, for the derivatives; the same shape. */
  int (*to_owners)(void* context, const deepmd_array* values, char* error, size_t error_size);
} deepmd_exchange;

/**
 * Evaluation by edge vectors.
 *
 * vec = r_j - r_i with periodic images resolved; edges are sorted by their center i. Atoms are
 * sorted by frame. An atom may stand for all neighbors of one type: it then has no edges.
 */
typedef struct deepmd_edges_request {
  size_t struct_size;
  int64_t n_edges;
  int64_t n_atoms;
  int64_t n_frames;
  deepmd_array vec;           /**< float64 (n_edges, 3) */
  deepmd_array i;             /**< int64 (n_edges) */
  deepmd_array j;             /**< int64 (n_edges) */
  deepmd_array atype;         /**< int64 (n_atoms) */
  deepmd_array frame;         /**< int64 (n_atoms) */
  const deepmd_input* inputs; /**< all inputs of the model, in its order */
  const deepmd_array* slots;  /**< int64 (n) or (n, K) */
  int32_t n_inputs;
  int32_t n_slots;
  const deepmd_result* results; /**< in the order of the outputs */
  int32_t n_results;
  int32_t threads;                 /**< to be used inside of this call; 0: as the framework likes */
  const deepmd_exchange* exchange; /**< NULL: there is one rank */
  /**
   * With an exchange, for models whose entries say DEEPMD_EXCHANGES: atoms of this rank, at least 1,
   * which come first and are the centers of all edges. Rows of the others are had by the exchange,
   * and their results are zero. 0: without an exchange.
   */
  int64_t n_owned;
} deepmd_edges_request;

/** Evaluation by extended coordinates, of one frame; for files without the edges entry. */
typedef struct deepmd_extended_request {
  size_t struct_size;
  int64_t nloc; /**< local atoms come first */
  int64_t nall;
  int64_t nnei;       /**< width of the list */
  deepmd_array coord; /**< float64 (nall, 3) */
  deepmd_array atype; /**< int64 (nall) */
  /** int64 (nloc, nnei): the nearest first, cut to `sel` per type; -1: none. With spins: all that
      matter, see spin_scale; the model counts partners and cuts to `sel` by itself. */
  deepmd_array nlist;
  /** int64 (nall): local atom of every atom, or no data; -1: of it only the type matters. */
  deepmd_array mapping;
  deepmd_array spin; /**< float64 (nall, 3), for models with spins */
  const deepmd_input*
      inputs; /**< all inputs of the model, in its order; those of atoms (nloc, size) */
  const deepmd_result* results; /**< in the order of the outputs */
  int32_t n_inputs;
  int32_t n_results;
  int32_t threads;
  int32_t reserved;
  const deepmd_exchange* exchange; /**< NULL: there is one rank */
} deepmd_extended_request;

/** What to open: a path, or the content of a file. */
typedef struct deepmd_source {
  size_t struct_size;
  const char* path;    /**< named in messages even when the content is given */
  const void* content; /**< NULL: read the path */
  size_t content_size;
  int32_t gpu_rank; /**< which GPU, modulo their number; ignored without GPUs */
  /** "dipole_charge": where the model has a modifier of that kind, the model of it; else, or NULL
     or empty: the model of the file. */
  const char* scope;
} deepmd_source;

typedef struct deepmd_backend_model deepmd_backend_model;

/** What a backend library offers. */
typedef struct deepmd_backend_functions {
  size_t struct_size;
  uint32_t version;     /**< DEEPMD_BACKEND_VERSION it was built with */
  const char* name;     /**< "PyTorch" */
  const char* suffixes; /**< of the files it opens, separated by spaces: ".pth" */
  int (*open)(const deepmd_source* source, deepmd_backend_model** model, char* error,
              size_t error_size);
  int (*query)(deepmd_backend_model* model, const deepmd_info** info, char* error,
               size_t error_size);
  int (*evaluate)(deepmd_backend_model* model, const deepmd_edges_request* request, char* error,
                  size_t error_size);
  void (*close)(deepmd_backend_model* model);
  /** NULL where no file has that entry. */
  int (*evaluate_extended)(deepmd_backend_model* model, const deepmd_extended_request* request,
                           char* error, size_t error_size);
  const char* (*framework)(void); /**< "PyTorch 2.13.0 (CPU)", for the summary; or NULL */
} deepmd_backend_functions;

/** The only symbol of a backend library. */
typedef const deepmd_backend_functions* (*deepmd_backend_entry)(void);
#define DEEPMD_BACKEND_ENTRY "deepmd_backend"

#ifdef __cplusplus
}
#endif

#endif
