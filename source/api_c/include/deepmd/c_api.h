/* SPDX-License-Identifier: LGPL-3.0-or-later */
/**
 * The C interface of DeePMD: potentials, model deviation, tensors.
 *
 * Units: coordinates and cells in Angstrom, energies and virials in eV, forces in eV/Angstrom,
 * parameters as in training. Arrays are dense, C order, and belong to the caller; n_all = natoms
 * counts ghosts (the last `nghost` atoms).
 *
 * Programs include this one file, so it is longer than others: 170 functions with their manual.
 *
 * No function stops the program: after creating or using a handle, ask its ...CheckOK for what was
 * wrong in the last call that did something, "" if nothing. Free every returned `const char*` with
 * DP_DeleteChar. An output pointer that is NULL is not filled; `cell` NULL is an open system;
 * `fparam`, `aparam` and `charge_spin` NULL mean the model's defaults, or none. Several threads may
 * compute with one handle, but they share its message.
 */
#ifndef DEEPMD_C_API_H
#define DEEPMD_C_API_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/** Version of this interface; it grows when functions are added. */
#define DP_C_API_VERSION 29

/* ---- Handles ---------------------------------------------------------------------------------
 * DP_DeepPot* and DP_DeepSpin* may be cast to DP_DeepBaseModel*, and the two model deviations to
 * DP_DeepBaseModelDevi*. */
typedef struct DP_Nlist DP_Nlist;
typedef struct DP_DeepBaseModel DP_DeepBaseModel;
typedef struct DP_DeepBaseModelDevi DP_DeepBaseModelDevi;
typedef struct DP_DeepPot DP_DeepPot;
typedef struct DP_DeepPotModelDevi DP_DeepPotModelDevi;
typedef struct DP_DeepSpin DP_DeepSpin;
typedef struct DP_DeepSpinModelDevi DP_DeepSpinModelDevi;
typedef struct DP_DeepTensor DP_DeepTensor;
typedef struct DP_DipoleChargeModifier DP_DipoleChargeModifier;

/* ---- Neighbor list --------------------------------------------------------------------------
 * inum centers ilist[inum] with numneigh[inum] neighbors firstneigh[inum][...], indices of atoms
 * (ghosts included); a full list: each pair from both ends. numneigh[k] and firstneigh[k] are those
 * of the center ilist[k], not of atom k (LAMMPS has them by atom). The arrays are not copied and
 * must live as long as the handle. Of every entry only the bits of the mask are the index (default:
 * all). The mapping (n_all) names the local atom of every atom: models that pass messages need it
 * where periodic images are ghosts. The remaining arguments of DP_NewNlist_comm describe how ghosts
 * are sent between nprocs ranks: nswap exchanges, the numbers of atoms sent and received, where
 * those received start, which atoms are sent, the partners, and a pointer to the MPI communicator.
 */
extern DP_Nlist* DP_NewNlist(int inum, int* ilist, int* numneigh, int** firstneigh);
extern DP_Nlist* DP_NewNlist_comm(int inum, int* ilist, int* numneigh, int** firstneigh, int nswap,
                                  int* sendnum, int* recvnum, int* firstrecv, int** sendlist,
                                  int* sendproc, int* recvproc, void* world, int nprocs);
extern void DP_NlistSetMask(DP_Nlist* nl, int mask);
extern void DP_NlistSetMapping(DP_Nlist* nl, int* mapping);
extern const char* DP_NlistCheckOK(DP_Nlist* nl);
extern void DP_DeleteNlist(DP_Nlist* nl);

/* ---- Facts about any potential ---------------------------------------------------------------
 * Cutoff [Angstrom]; number of types and of types with spin; numbers of frame and atom parameters;
 * whether aparam is given for ghosts too; whether fparam may be left out. The type map is one
 * string, names separated by blanks. */
extern double DP_DeepBaseModelGetCutoff(DP_DeepBaseModel* dp);
extern int DP_DeepBaseModelGetNumbTypes(DP_DeepBaseModel* dp);
extern int DP_DeepBaseModelGetNumbTypesSpin(DP_DeepBaseModel* dp);
extern int DP_DeepBaseModelGetDimFParam(DP_DeepBaseModel* dp);
extern int DP_DeepBaseModelGetDimAParam(DP_DeepBaseModel* dp);
extern bool DP_DeepBaseModelIsAParamNAll(DP_DeepBaseModel* dp);
extern bool DP_DeepBaseModelHasDefaultFParam(DP_DeepBaseModel* dp);
extern const char* DP_DeepBaseModelGetTypeMap(DP_DeepBaseModel* dp);
extern const char* DP_DeepBaseModelCheckOK(DP_DeepBaseModel* dp);
extern void DP_DeleteDeepBaseModel(DP_DeepBaseModel* dp);

extern double DP_DeepBaseModelDeviGetCutoff(DP_DeepBaseModelDevi* dp);
extern int DP_DeepBaseModelDeviGetNumbTypes(DP_DeepBaseModelDevi* dp);
extern int DP_DeepBaseModelDeviGetNumbTypesSpin(DP_DeepBaseModelDevi* dp);
extern int DP_DeepBaseModelDeviGetDimFParam(DP_DeepBaseModelDevi* dp);
extern int DP_DeepBaseModelDeviGetDimAParam(DP_DeepBaseModelDevi* dp);
extern bool DP_DeepBaseModelDeviIsAParamNAll(DP_DeepBaseModelDevi* dp);
extern bool DP_DeepBaseModelDeviHasDefaultFParam(DP_DeepBaseModelDevi* dp);
extern const char* DP_DeepBaseModelDeviCheckOK(DP_DeepBaseModelDevi* dp);
extern void DP_DeleteDeepBaseModelDevi(DP_DeepBaseModelDevi* dp);

/* ---- Potential: DP_DeepPot -------------------------------------------------------------------
 * gpu_rank: which GPU, modulo their number. content: of the model file (size bytes; without a size
 * it ends at the first zero byte), or NULL or "" to read the path; the name still tells the format.
 * engine: "auto", "native" or "framework", see DeepPot::init in deepmd/DeepPot.h; NULL: "auto".
 * A constructor always returns a handle: ask DP_DeepPotCheckOK. */
extern DP_DeepPot* DP_NewDeepPot(const char* model);
extern DP_DeepPot* DP_NewDeepPotWithParam(const char* model, const int gpu_rank,
                                          const char* content);
extern DP_DeepPot* DP_NewDeepPotWithParam2(const char* model, const int gpu_rank,
                                           const char* content, const int size);
extern DP_DeepPot* DP_NewDeepPotWithParam3(const char* model, const int gpu_rank,
                                           const char* content, const int size, const char* engine);
extern void DP_DeleteDeepPot(DP_DeepPot* dp);
extern double DP_DeepPotGetCutoff(DP_DeepPot* dp);
extern int DP_DeepPotGetNumbTypes(DP_DeepPot* dp);
extern int DP_DeepPotGetNumbTypesSpin(DP_DeepPot* dp);
extern int DP_DeepPotGetDimFParam(DP_DeepPot* dp);
extern int DP_DeepPotGetDimAParam(DP_DeepPot* dp);
extern int DP_DeepPotGetDimChgSpin(DP_DeepPot* dp);
extern bool DP_DeepPotIsAParamNAll(DP_DeepPot* dp);
extern bool DP_DeepPotHasDefaultFParam(DP_DeepPot* dp);
extern const char* DP_DeepPotGetTypeMap(DP_DeepPot* dp);
extern const char* DP_DeepPotCheckOK(DP_DeepPot* dp);

/* Charge and spin of the whole system for all calls that follow (numb_chg_spin = GetDimChgSpin
 * values); an explicit charge_spin of a call comes first. */
extern void DP_DeepPotSetChargeSpin(DP_DeepPot* dp, const double* charge_spin,
                                    const int numb_chg_spin);

/* Energy (nframes), force (nframes, natoms, 3), virial (nframes, 9), atomic_energy (nframes,
 * natoms), atomic_virial (nframes, natoms, 9) of coord (nframes, natoms, 3), atype (natoms) and
 * cell (nframes, 9, rows are the vectors); nframes is 1 where it is not an argument.
 * Atoms of type -1 are ignored and get zeros. fparam (nframes, dim_fparam), aparam (nframes,
 * natoms - nghost or natoms if IsAParamNAll, dim_aparam), charge_spin (nframes, dim_chg_spin).
 * With a neighbor list, coord holds the ghosts, cell is not used, and `ago` is the number of
 * calls since the list was built anew (0: anew).
 * Version 2 takes parameters, version 3 charge and spin; f: arrays are float, energy is double. */
extern void DP_DeepPotCompute(DP_DeepPot* dp, const int natoms, const double* coord,
                              const int* atype, const double* cell, double* energy, double* force,
                              double* virial, double* atomic_energy, double* atomic_virial);
extern void DP_DeepPotComputef(DP_DeepPot* dp, const int natoms, const float* coord,
                               const int* atype, const float* cell, double* energy, float* force,
                               float* virial, float* atomic_energy, float* atomic_virial);
extern void DP_DeepPotComputeNList(DP_DeepPot* dp, const int natoms, const double* coord,
                                   const int* atype, const double* cell, const int nghost,
                                   const DP_Nlist* nlist, const int ago, double* energy,
                                   double* force, double* virial, double* atomic_energy,
                                   double* atomic_virial);
extern void DP_DeepPotComputeNListf(DP_DeepPot* dp, const int natoms, const float* coord,
                                    const int* atype, const float* cell, const int nghost,
                                    const DP_Nlist* nlist, const int ago, double* energy,
                                    float* force, float* virial, float* atomic_energy,
                                    float* atomic_virial);
extern void DP_DeepPotCompute2(DP_DeepPot* dp, const int nframes, const int natoms,
                               const double* coord, const int* atype, const double* cell,
                               const double* fparam, const double* aparam, double* energy,
                               double* force, double* virial, double* atomic_energy,
                               double* atomic_virial);
extern void DP_DeepPotComputef2(DP_DeepPot* dp, const int nframes, const int natoms,
                                const float* coord, const int* atype, const float* cell,
                                const float* fparam, const float* aparam, double* energy,
                                float* force, float* virial, float* atomic_energy,
                                float* atomic_virial);
extern void DP_DeepPotComputeNList2(DP_DeepPot* dp, const int nframes, const int natoms,
                                    const double* coord, const int* atype, const double* cell,
                                    const int nghost, const DP_Nlist* nlist, const int ago,
                                    const double* fparam, const double* aparam, double* energy,
                                    double* force, double* virial, double* atomic_energy,
                                    double* atomic_virial);
extern void DP_DeepPotComputeNListf2(DP_DeepPot* dp, const int nframes, const int natoms,
                                     const float* coord, const int* atype, const float* cell,
                                     const int nghost, const DP_Nlist* nlist, const int ago,
                                     const float* fparam, const float* aparam, double* energy,
                                     float* force, float* virial, float* atomic_energy,
                                     float* atomic_virial);
extern void DP_DeepPotCompute3(DP_DeepPot* dp, const int nframes, const int natoms,
                               const double* coord, const int* atype, const double* cell,
                               const double* fparam, const double* aparam,
                               const double* charge_spin, double* energy, double* force,
                               double* virial, double* atomic_energy, double* atomic_virial);
extern void DP_DeepPotComputef3(DP_DeepPot* dp, const int nframes, const int natoms,
                                const float* coord, const int* atype, const float* cell,
                                const float* fparam, const float* aparam, const float* charge_spin,
                                double* energy, float* force, float* virial, float* atomic_energy,
                                float* atomic_virial);
extern void DP_DeepPotComputeNList3(DP_DeepPot* dp, const int nframes, const int natoms,
                                    const double* coord, const int* atype, const double* cell,
                                    const int nghost, const DP_Nlist* nlist, const int ago,
                                    const double* fparam, const double* aparam,
                                    const double* charge_spin, double* energy, double* force,
                                    double* virial, double* atomic_energy, double* atomic_virial);
extern void DP_DeepPotComputeNListf3(DP_DeepPot* dp, const int nframes, const int natoms,
                                     const float* coord, const int* atype, const float* cell,
                                     const int nghost, const DP_Nlist* nlist, const int ago,
                                     const float* fparam, const float* aparam,
                                     const float* charge_spin, double* energy, float* force,
                                     float* virial, float* atomic_energy, float* atomic_virial);

/* Frames whose types differ: atype (nframes, natoms), padded with -1. */
extern void DP_DeepPotComputeMixedType(DP_DeepPot* dp, const int nframes, const int natoms,
                                       const double* coord, const int* atype, const double* cell,
                                       const double* fparam, const double* aparam, double* energy,
                                       double* force, double* virial, double* atomic_energy,
                                       double* atomic_virial);
extern void DP_DeepPotComputeMixedTypef(DP_DeepPot* dp, const int nframes, const int natoms,
                                        const float* coord, const int* atype, const float* cell,
                                        const float* fparam, const float* aparam, double* energy,
                                        float* force, float* virial, float* atomic_energy,
                                        float* atomic_virial);

/* ---- Model deviation of potentials -----------------------------------------------------------
 * contents[n_file_contents] with sizes replace reading (0 or n_models of them). Outputs are those
 * of DP_DeepPot, model after model: energy (n_models), force (n_models, natoms, 3), ... of one
 * frame: nframes must be 1. */
extern DP_DeepPotModelDevi* DP_NewDeepPotModelDevi(const char** models, const int n_models);
extern DP_DeepPotModelDevi* DP_NewDeepPotModelDeviWithParam(const char** models, const int n_models,
                                                            const int gpu_rank,
                                                            const char** contents,
                                                            const int n_file_contents,
                                                            const int* sizes);
extern DP_DeepPotModelDevi* DP_NewDeepPotModelDeviWithParam2(const char** models,
                                                             const int n_models, const int gpu_rank,
                                                             const char** contents,
                                                             const int n_file_contents,
                                                             const int* sizes, const char* engine);
extern void DP_DeleteDeepPotModelDevi(DP_DeepPotModelDevi* dp);
extern double DP_DeepPotModelDeviGetCutoff(DP_DeepPotModelDevi* dp);
extern int DP_DeepPotModelDeviGetNumbTypes(DP_DeepPotModelDevi* dp);
extern int DP_DeepPotModelDeviGetNumbTypesSpin(DP_DeepPotModelDevi* dp);
extern int DP_DeepPotModelDeviGetDimFParam(DP_DeepPotModelDevi* dp);
extern int DP_DeepPotModelDeviGetDimAParam(DP_DeepPotModelDevi* dp);
extern int DP_DeepPotModelDeviGetDimChgSpin(DP_DeepPotModelDevi* dp);
extern bool DP_DeepPotModelDeviIsAParamNAll(DP_DeepPotModelDevi* dp);
extern bool DP_DeepPotModelDeviHasDefaultFParam(DP_DeepPotModelDevi* dp);
extern const char* DP_DeepPotModelDeviCheckOK(DP_DeepPotModelDevi* dp);
extern void DP_DeepPotModelDeviSetChargeSpin(DP_DeepPotModelDevi* dp, const double* charge_spin,
                                             const int numb_chg_spin);
extern void DP_DeepPotModelDeviCompute(DP_DeepPotModelDevi* dp, const int natoms,
                                       const double* coord, const int* atype, const double* cell,
                                       double* energy, double* force, double* virial,
                                       double* atomic_energy, double* atomic_virial);
extern void DP_DeepPotModelDeviComputef(DP_DeepPotModelDevi* dp, const int natoms,
                                        const float* coord, const int* atype, const float* cell,
                                        double* energy, float* force, float* virial,
                                        float* atomic_energy, float* atomic_virial);
extern void DP_DeepPotModelDeviComputeNList(DP_DeepPotModelDevi* dp, const int natoms,
                                            const double* coord, const int* atype,
                                            const double* cell, const int nghost,
                                            const DP_Nlist* nlist, const int ago, double* energy,
                                            double* force, double* virial, double* atomic_energy,
                                            double* atomic_virial);
extern void DP_DeepPotModelDeviComputeNListf(DP_DeepPotModelDevi* dp, const int natoms,
                                             const float* coord, const int* atype,
                                             const float* cell, const int nghost,
                                             const DP_Nlist* nlist, const int ago, double* energy,
                                             float* force, float* virial, float* atomic_energy,
                                             float* atomic_virial);
extern void DP_DeepPotModelDeviCompute2(DP_DeepPotModelDevi* dp, const int nframes,
                                        const int natoms, const double* coord, const int* atype,
                                        const double* cell, const double* fparam,
                                        const double* aparam, double* energy, double* force,
                                        double* virial, double* atomic_energy,
                                        double* atomic_virial);
extern void DP_DeepPotModelDeviComputef2(DP_DeepPotModelDevi* dp, const int nframes,
                                         const int natoms, const float* coord, const int* atype,
                                         const float* cell, const float* fparam,
                                         const float* aparam, double* energy, float* force,
                                         float* virial, float* atomic_energy, float* atomic_virial);
extern void DP_DeepPotModelDeviComputeNList2(DP_DeepPotModelDevi* dp, const int nframes,
                                             const int natoms, const double* coord,
                                             const int* atype, const double* cell, const int nghost,
                                             const DP_Nlist* nlist, const int ago,
                                             const double* fparam, const double* aparam,
                                             double* energy, double* force, double* virial,
                                             double* atomic_energy, double* atomic_virial);
extern void DP_DeepPotModelDeviComputeNListf2(DP_DeepPotModelDevi* dp, const int nframes,
                                              const int natoms, const float* coord,
                                              const int* atype, const float* cell, const int nghost,
                                              const DP_Nlist* nlist, const int ago,
                                              const float* fparam, const float* aparam,
                                              double* energy, float* force, float* virial,
                                              float* atomic_energy, float* atomic_virial);
extern void DP_DeepPotModelDeviCompute3(DP_DeepPotModelDevi* dp, const int nframes,
                                        const int natoms, const double* coord, const int* atype,
                                        const double* cell, const double* fparam,
                                        const double* aparam, const double* charge_spin,
                                        double* energy, double* force, double* virial,
                                        double* atomic_energy, double* atomic_virial);
extern void DP_DeepPotModelDeviComputef3(DP_DeepPotModelDevi* dp, const int nframes,
                                         const int natoms, const float* coord, const int* atype,
                                         const float* cell, const float* fparam,
                                         const float* aparam, const float* charge_spin,
                                         double* energy, float* force, float* virial,
                                         float* atomic_energy, float* atomic_virial);
extern void DP_DeepPotModelDeviComputeNList3(
    DP_DeepPotModelDevi* dp, const int nframes, const int natoms, const double* coord,
    const int* atype, const double* cell, const int nghost, const DP_Nlist* nlist, const int ago,
    const double* fparam, const double* aparam, const double* charge_spin, double* energy,
    double* force, double* virial, double* atomic_energy, double* atomic_virial);
extern void DP_DeepPotModelDeviComputeNListf3(
    DP_DeepPotModelDevi* dp, const int nframes, const int natoms, const float* coord,
    const int* atype, const float* cell, const int nghost, const DP_Nlist* nlist, const int ago,
    const float* fparam, const float* aparam, const float* charge_spin, double* energy,
    float* force, float* virial, float* atomic_energy, float* atomic_virial);

/* ---- Potential with spins: DP_DeepSpin -------------------------------------------------------
 * As DP_DeepPot, with spin (nframes, natoms, 3) after coord and force_mag, minus the derivative by
 * the spins (nframes, natoms, 3), after force. A neighbor list must hold the atoms within
 * DP_DeepSpinGetReach [Angstrom] of the longest spin: more than the cutoff. */
extern DP_DeepSpin* DP_NewDeepSpin(const char* model);
extern DP_DeepSpin* DP_NewDeepSpinWithParam2(const char* model, const int gpu_rank,
                                             const char* content, const int size);
extern DP_DeepSpin* DP_NewDeepSpinWithParam3(const char* model, const int gpu_rank,
                                             const char* content, const int size,
                                             const char* engine);
extern void DP_DeleteDeepSpin(DP_DeepSpin* dp);
extern double DP_DeepSpinGetCutoff(DP_DeepSpin* dp);
extern int DP_DeepSpinGetNumbTypes(DP_DeepSpin* dp);
extern int DP_DeepSpinGetNumbTypesSpin(DP_DeepSpin* dp);
extern int DP_DeepSpinGetDimFParam(DP_DeepSpin* dp);
extern int DP_DeepSpinGetDimAParam(DP_DeepSpin* dp);
extern int DP_DeepSpinGetDimChgSpin(DP_DeepSpin* dp);
extern bool DP_DeepSpinIsAParamNAll(DP_DeepSpin* dp);
extern bool DP_DeepSpinHasDefaultFParam(DP_DeepSpin* dp);
extern const char* DP_DeepSpinGetTypeMap(DP_DeepSpin* dp);
extern const char* DP_DeepSpinCheckOK(DP_DeepSpin* dp);
extern double DP_DeepSpinGetReach(DP_DeepSpin* dp, const double longest_spin);
extern bool DP_DeepSpinUsesNativeSpinScheme(DP_DeepSpin* dp);
extern void DP_DeepSpinSetChargeSpin(DP_DeepSpin* dp, const double* charge_spin,
                                     const int numb_chg_spin);
extern void DP_DeepSpinCompute2(DP_DeepSpin* dp, const int nframes, const int natoms,
                                const double* coord, const double* spin, const int* atype,
                                const double* cell, const double* fparam, const double* aparam,
                                double* energy, double* force, double* force_mag, double* virial,
                                double* atomic_energy, double* atomic_virial);
extern void DP_DeepSpinComputef2(DP_DeepSpin* dp, const int nframes, const int natoms,
                                 const float* coord, const float* spin, const int* atype,
                                 const float* cell, const float* fparam, const float* aparam,
                                 double* energy, float* force, float* force_mag, float* virial,
                                 float* atomic_energy, float* atomic_virial);
extern void DP_DeepSpinComputeNList2(DP_DeepSpin* dp, const int nframes, const int natoms,
                                     const double* coord, const double* spin, const int* atype,
                                     const double* cell, const int nghost, const DP_Nlist* nlist,
                                     const int ago, const double* fparam, const double* aparam,
                                     double* energy, double* force, double* force_mag,
                                     double* virial, double* atomic_energy, double* atomic_virial);
extern void DP_DeepSpinComputeNListf2(DP_DeepSpin* dp, const int nframes, const int natoms,
                                      const float* coord, const float* spin, const int* atype,
                                      const float* cell, const int nghost, const DP_Nlist* nlist,
                                      const int ago, const float* fparam, const float* aparam,
                                      double* energy, float* force, float* force_mag, float* virial,
                                      float* atomic_energy, float* atomic_virial);
extern void DP_DeepSpinCompute3(DP_DeepSpin* dp, const int nframes, const int natoms,
                                const double* coord, const double* spin, const int* atype,
                                const double* cell, const double* fparam, const double* aparam,
                                const double* charge_spin, double* energy, double* force,
                                double* force_mag, double* virial, double* atomic_energy,
                                double* atomic_virial);
extern void DP_DeepSpinComputef3(DP_DeepSpin* dp, const int nframes, const int natoms,
                                 const float* coord, const float* spin, const int* atype,
                                 const float* cell, const float* fparam, const float* aparam,
                                 const float* charge_spin, double* energy, float* force,
                                 float* force_mag, float* virial, float* atomic_energy,
                                 float* atomic_virial);
extern void DP_DeepSpinComputeNList3(DP_DeepSpin* dp, const int nframes, const int natoms,
                                     const double* coord, const double* spin, const int* atype,
                                     const double* cell, const int nghost, const DP_Nlist* nlist,
                                     const int ago, const double* fparam, const double* aparam,
                                     const double* charge_spin, double* energy, double* force,
                                     double* force_mag, double* virial, double* atomic_energy,
                                     double* atomic_virial);
extern void DP_DeepSpinComputeNListf3(DP_DeepSpin* dp, const int nframes, const int natoms,
                                      const float* coord, const float* spin, const int* atype,
                                      const float* cell, const int nghost, const DP_Nlist* nlist,
                                      const int ago, const float* fparam, const float* aparam,
                                      const float* charge_spin, double* energy, float* force,
                                      float* force_mag, float* virial, float* atomic_energy,
                                      float* atomic_virial);

/* Model deviation of potentials with spins. */
extern DP_DeepSpinModelDevi* DP_NewDeepSpinModelDevi(const char** models, const int n_models);
extern DP_DeepSpinModelDevi* DP_NewDeepSpinModelDeviWithParam(
    const char** models, const int n_models, const int gpu_rank, const char** contents,
    const int n_file_contents, const int* sizes);
extern DP_DeepSpinModelDevi* DP_NewDeepSpinModelDeviWithParam2(
    const char** models, const int n_models, const int gpu_rank, const char** contents,
    const int n_file_contents, const int* sizes, const char* engine);
extern void DP_DeleteDeepSpinModelDevi(DP_DeepSpinModelDevi* dp);
extern double DP_DeepSpinModelDeviGetCutoff(DP_DeepSpinModelDevi* dp);
extern int DP_DeepSpinModelDeviGetNumbTypes(DP_DeepSpinModelDevi* dp);
extern int DP_DeepSpinModelDeviGetNumbTypesSpin(DP_DeepSpinModelDevi* dp);
extern int DP_DeepSpinModelDeviGetDimFParam(DP_DeepSpinModelDevi* dp);
extern int DP_DeepSpinModelDeviGetDimAParam(DP_DeepSpinModelDevi* dp);
extern int DP_DeepSpinModelDeviGetDimChgSpin(DP_DeepSpinModelDevi* dp);
extern bool DP_DeepSpinModelDeviIsAParamNAll(DP_DeepSpinModelDevi* dp);
extern bool DP_DeepSpinModelDeviHasDefaultFParam(DP_DeepSpinModelDevi* dp);
extern const char* DP_DeepSpinModelDeviCheckOK(DP_DeepSpinModelDevi* dp);
extern void DP_DeepSpinModelDeviSetChargeSpin(DP_DeepSpinModelDevi* dp, const double* charge_spin,
                                              const int numb_chg_spin);
extern void DP_DeepSpinModelDeviCompute2(DP_DeepSpinModelDevi* dp, const int nframes,
                                         const int natoms, const double* coord, const double* spin,
                                         const int* atype, const double* cell, const double* fparam,
                                         const double* aparam, double* energy, double* force,
                                         double* force_mag, double* virial, double* atomic_energy,
                                         double* atomic_virial);
extern void DP_DeepSpinModelDeviComputef2(DP_DeepSpinModelDevi* dp, const int nframes,
                                          const int natoms, const float* coord, const float* spin,
                                          const int* atype, const float* cell, const float* fparam,
                                          const float* aparam, double* energy, float* force,
                                          float* force_mag, float* virial, float* atomic_energy,
                                          float* atomic_virial);
extern void DP_DeepSpinModelDeviComputeNList2(
    DP_DeepSpinModelDevi* dp, const int nframes, const int natoms, const double* coord,
    const double* spin, const int* atype, const double* cell, const int nghost,
    const DP_Nlist* nlist, const int ago, const double* fparam, const double* aparam,
    double* energy, double* force, double* force_mag, double* virial, double* atomic_energy,
    double* atomic_virial);
extern void DP_DeepSpinModelDeviComputeNListf2(
    DP_DeepSpinModelDevi* dp, const int nframes, const int natoms, const float* coord,
    const float* spin, const int* atype, const float* cell, const int nghost, const DP_Nlist* nlist,
    const int ago, const float* fparam, const float* aparam, double* energy, float* force,
    float* force_mag, float* virial, float* atomic_energy, float* atomic_virial);
extern void DP_DeepSpinModelDeviCompute3(DP_DeepSpinModelDevi* dp, const int nframes,
                                         const int natoms, const double* coord, const double* spin,
                                         const int* atype, const double* cell, const double* fparam,
                                         const double* aparam, const double* charge_spin,
                                         double* energy, double* force, double* force_mag,
                                         double* virial, double* atomic_energy,
                                         double* atomic_virial);
extern void DP_DeepSpinModelDeviComputef3(DP_DeepSpinModelDevi* dp, const int nframes,
                                          const int natoms, const float* coord, const float* spin,
                                          const int* atype, const float* cell, const float* fparam,
                                          const float* aparam, const float* charge_spin,
                                          double* energy, float* force, float* force_mag,
                                          float* virial, float* atomic_energy,
                                          float* atomic_virial);
extern void DP_DeepSpinModelDeviComputeNList3(
    DP_DeepSpinModelDevi* dp, const int nframes, const int natoms, const double* coord,
    const double* spin, const int* atype, const double* cell, const int nghost,
    const DP_Nlist* nlist, const int ago, const double* fparam, const double* aparam,
    const double* charge_spin, double* energy, double* force, double* force_mag, double* virial,
    double* atomic_energy, double* atomic_virial);
extern void DP_DeepSpinModelDeviComputeNListf3(
    DP_DeepSpinModelDevi* dp, const int nframes, const int natoms, const float* coord,
    const float* spin, const int* atype, const float* cell, const int nghost, const DP_Nlist* nlist,
    const int ago, const float* fparam, const float* aparam, const float* charge_spin,
    double* energy, float* force, float* force_mag, float* virial, float* atomic_energy,
    float* atomic_virial);

/* ---- Tensors: dipole, polarizability, density of states, properties ---------------------------
 * Of one frame. ComputeTensor: values of the selected atoms (those whose type is among
 * GetSelTypes), in the order of atoms, (n_selected, GetOutputDim). Compute: their sum (odim), force
 * (odim, natoms, 3) = minus the derivative of every component, virial (odim, 9), values of the
 * selected atoms, atomic_virial (odim, natoms, 9). `tensor` and `atomic_tensor` are allocated
 * here, with *size numbers: release them with free(). name_scope is not used.
 * GetSelTypes belongs to the handle. */
extern DP_DeepTensor* DP_NewDeepTensor(const char* model);
extern DP_DeepTensor* DP_NewDeepTensorWithParam(const char* model, const int gpu_rank,
                                                const char* name_scope);
extern DP_DeepTensor* DP_NewDeepTensorWithParam2(const char* model, const int gpu_rank,
                                                 const char* name_scope, const char* engine);
extern void DP_DeleteDeepTensor(DP_DeepTensor* dt);
extern double DP_DeepTensorGetCutoff(DP_DeepTensor* dt);
extern int DP_DeepTensorGetNumbTypes(DP_DeepTensor* dt);
/** As DP_DeepBaseModelGetHalo; 0 for models that pass no messages. */
extern double DP_DeepTensorGetHalo(DP_DeepTensor* dt);
extern int DP_DeepTensorGetOutputDim(DP_DeepTensor* dt);
extern int* DP_DeepTensorGetSelTypes(DP_DeepTensor* dt);
extern int DP_DeepTensorGetNumbSelTypes(DP_DeepTensor* dt);
extern const char* DP_DeepTensorGetTypeMap(DP_DeepTensor* dt);
extern const char* DP_DeepTensorCheckOK(DP_DeepTensor* dt);
extern void DP_DeepTensorComputeTensor(DP_DeepTensor* dt, const int natoms, const double* coord,
                                       const int* atype, const double* cell, double** tensor,
                                       int* size);
extern void DP_DeepTensorCompute(DP_DeepTensor* dt, const int natoms, const double* coord,
                                 const int* atype, const double* cell, double* global_tensor,
                                 double* force, double* virial, double** atomic_tensor,
                                 double* atomic_virial, int* size_at);
extern void DP_DeepTensorComputeTensorf(DP_DeepTensor* dt, const int natoms, const float* coord,
                                        const int* atype, const float* cell, float** tensor,
                                        int* size);
extern void DP_DeepTensorComputef(DP_DeepTensor* dt, const int natoms, const float* coord,
                                  const int* atype, const float* cell, float* global_tensor,
                                  float* force, float* virial, float** atomic_tensor,
                                  float* atomic_virial, int* size_at);
extern void DP_DeepTensorComputeTensorNList(DP_DeepTensor* dt, const int natoms,
                                            const double* coord, const int* atype,
                                            const double* cell, const int nghost,
                                            const DP_Nlist* nlist, double** tensor, int* size);
extern void DP_DeepTensorComputeNList(DP_DeepTensor* dt, const int natoms, const double* coord,
                                      const int* atype, const double* cell, const int nghost,
                                      const DP_Nlist* nlist, double* global_tensor, double* force,
                                      double* virial, double** atomic_tensor, double* atomic_virial,
                                      int* size_at);
extern void DP_DeepTensorComputeTensorNListf(DP_DeepTensor* dt, const int natoms,
                                             const float* coord, const int* atype,
                                             const float* cell, const int nghost,
                                             const DP_Nlist* nlist, float** tensor, int* size);
extern void DP_DeepTensorComputeNListf(DP_DeepTensor* dt, const int natoms, const float* coord,
                                       const int* atype, const float* cell, const int nghost,
                                       const DP_Nlist* nlist, float* global_tensor, float* force,
                                       float* virial, float** atomic_tensor, float* atomic_virial,
                                       int* size_at);

/* ---- Long-range electrostatics: forces of Wannier centroids ------------------------------------
 * pairs (npairs, 2): atom and its Wannier centroid; delef (natoms - nghost, 3): electrostatic force
 * on every site; dfcorr (natoms, 3) and dvcorr (9): what real atoms get, see
 * deepmd/DataModifier.h. */
extern DP_DipoleChargeModifier* DP_NewDipoleChargeModifier(const char* model);
extern DP_DipoleChargeModifier* DP_NewDipoleChargeModifierWithParam(const char* model,
                                                                    const int gpu_rank,
                                                                    const char* name_scope);
extern void DP_DeleteDipoleChargeModifier(DP_DipoleChargeModifier* dcm);
extern double DP_DipoleChargeModifierGetCutoff(DP_DipoleChargeModifier* dcm);
extern int DP_DipoleChargeModifierGetNumbTypes(DP_DipoleChargeModifier* dcm);
extern int* DP_DipoleChargeModifierGetSelTypes(DP_DipoleChargeModifier* dcm);
extern int DP_DipoleChargeModifierGetNumbSelTypes(DP_DipoleChargeModifier* dcm);
/**
 * Width of the charges [1/Angstrom] of the long-range model in the file (0: it holds the dipole
 * model alone), and charges [e]: of atoms by type (NaN: not known), of the centroids of SelTypes.
 * NULL without them; they belong to the handle.
 */
extern double DP_DipoleChargeModifierGetEwaldBeta(DP_DipoleChargeModifier* dcm);
extern const double* DP_DipoleChargeModifierGetAtomCharges(DP_DipoleChargeModifier* dcm);
extern const double* DP_DipoleChargeModifierGetCentroidCharges(DP_DipoleChargeModifier* dcm);
extern const char* DP_DipoleChargeModifierCheckOK(DP_DipoleChargeModifier* dcm);
extern void DP_DipoleChargeModifierComputeNList(DP_DipoleChargeModifier* dcm, const int natoms,
                                                const double* coord, const int* atype,
                                                const double* cell, const int* pairs,
                                                const int npairs, const double* delef,
                                                const int nghost, const DP_Nlist* nlist,
                                                double* dfcorr, double* dvcorr);
extern void DP_DipoleChargeModifierComputeNListf(DP_DipoleChargeModifier* dcm, const int natoms,
                                                 const float* coord, const int* atype,
                                                 const float* cell, const int* pairs,
                                                 const int npairs, const float* delef,
                                                 const int nghost, const DP_Nlist* nlist,
                                                 float* dfcorr, float* dvcorr);

/* ---- Graphs that live on a GPU ---------------------------------------------------------------
 * Asked for by clients that keep their atoms on a GPU. The questions are answered with false; the
 * functions, whose pointers d_... would be device memory, leave an error. */
extern bool DP_DeepPotSupportsDeviceEdgeInference(DP_DeepPot* dp);
extern bool DP_DeepPotUsesFP32EdgeVectors(DP_DeepPot* dp);
extern bool DP_DeepPotUsesCanonicalGraphInference(DP_DeepPot* dp);
extern bool DP_DeepSpinUsesCanonicalGraphInference(DP_DeepSpin* dp);
extern void DP_DeepPotComputeEdgesGPU(DP_DeepPot* dp, double* d_atom_energy, double* d_force,
                                      double* d_atom_virial, const double* d_coord,
                                      const int* d_atype, const int* d_edge_index,
                                      const double* d_edge_vec, int nloc, int nedge,
                                      const double* fparam, int64_t fparam_size,
                                      const double* aparam, int64_t aparam_size, int nall_nodes,
                                      const DP_Nlist* comm_nlist);
extern void DP_DeepPotComputeEdgesGPUFloat32(DP_DeepPot* dp, double* d_atom_energy, double* d_force,
                                             double* d_atom_virial, const double* d_coord,
                                             const int* d_atype, const int* d_edge_index,
                                             const float* d_edge_vec, int nloc, int nedge,
                                             const double* fparam, int64_t fparam_size,
                                             const double* aparam, int64_t aparam_size,
                                             int nall_nodes, const DP_Nlist* comm_nlist);
extern void DP_DeepPotComputeCanonicalGraphGPU(
    DP_DeepPot* dp, double* d_atom_energy, double* d_force, double* d_atom_virial,
    const int64_t* d_atype, const uint32_t* d_source, const float* d_edge_vec,
    const int64_t* d_destination_row_ptr, const int64_t* d_source_row_ptr,
    const uint32_t* d_source_order, int nloc, int nall_nodes, int64_t edge_storage);
extern void DP_DeepSpinComputeCanonicalGraphGPU(DP_DeepSpin* dp, double* d_atom_energy,
                                                double* d_force, double* d_force_mag,
                                                double* d_atom_virial, const int64_t* d_atype,
                                                const uint32_t* d_source, const float* d_edge_vec,
                                                const int64_t* d_destination_row_ptr,
                                                const int64_t* d_source_row_ptr,
                                                const uint32_t* d_source_order, const float* d_spin,
                                                int nloc, int nall_nodes, int64_t edge_storage);

/* ---- Utilities -------------------------------------------------------------------------------
 * ReadFileToChar: content of a file; version 2 also gives its size, or minus the length of the
 * error message that it then returns.
 * SelectByType: fwd_map (natoms) from all atoms to the selected ones (-1: not selected), bkw_map
 * (nreal) back, and the number of selected ghosts. SelectMapInt: out[fwd_map[i]] = in[i], rows of
 * `stride` numbers, nall1 in and nall2 out.
 * ConvertPbtxtToPb is left for programs that link it and says what to use instead on stderr. */
extern void DP_ConvertPbtxtToPb(const char* pbtxt, const char* pb);
extern void DP_PrintSummary(const char* pre);
extern const char* DP_ReadFileToChar(const char* model);
extern const char* DP_ReadFileToChar2(const char* model, int* size);
extern void DP_SelectByType(const int natoms, const int* atype, const int nghost,
                            const int nsel_type, const int* sel_type, int* fwd_map, int* nreal,
                            int* bkw_map, int* nghost_real);
extern void DP_SelectMapInt(const int* in, const int* fwd_map, const int stride, const int nall1,
                            const int nall2, int* out);
extern void DP_DeleteChar(const char* text);

/* ---- Ours alone ------------------------------------------------------------------------------
 * DP_CheckProbes: whether models that this thread opens from now on evaluate the frames with known
 * results in their file and compare (default: 1); returns the old setting.
 * SelOverflow: how many centers so far had more neighbors within the cutoff than the model's
 * `sel` keeps; MostNeighbors: the largest number of neighbors so far. -1 for no model.
 * HasMessagePassing: whether the energy of an atom depends on atoms beyond the cutoff, through its
 * neighbors. GetHalo: how far ghosts must be known around the atoms of a rank [Angstrom] where
 * several ranks share the system, with spins up to a length; DP_NlistSetHalo promises that they
 * are: models that pass messages then need no mapping. HasExchange: whether ranks can exchange
 * messages in place of that, by the functions of DP_NlistSetExchange: to_ghosts copies rows of values
 * (nall, width) of local atoms to their ghosts, to_owners adds those of ghosts to their owners; all
 * ranks call them equally often, and a result other than 0 ends the evaluation. GetEngine: who evaluates the model, "native
 * (avx2)" or "PyTorch 2.13.0 (CPU)"; release the text with DP_DeleteChar. */
extern int DP_CheckProbes(int on);
extern const char* DP_DeepBaseModelGetEngine(DP_DeepBaseModel* dp);
extern long long DP_DeepBaseModelGetSelOverflow(DP_DeepBaseModel* dp);
extern long long DP_DeepBaseModelGetMostNeighbors(DP_DeepBaseModel* dp);
extern bool DP_DeepBaseModelHasMessagePassing(DP_DeepBaseModel* dp);
extern double DP_DeepBaseModelGetHalo(DP_DeepBaseModel* dp, double longest_spin);
extern void DP_NlistSetHalo(DP_Nlist* nl, double halo);
extern bool DP_DeepBaseModelHasExchange(DP_DeepBaseModel* dp);
typedef int (*DP_ExchangeFunction)(void* context, double* values, int width);
extern void DP_NlistSetExchange(DP_Nlist* nl, DP_ExchangeFunction to_ghosts,
                                DP_ExchangeFunction to_owners, void* context);
/** Virials of atoms as the heat flux needs them; see InputNlist::set_unfolded. */
extern void DP_NlistSetUnfolded(DP_Nlist* nl, int unfolded);
extern DP_DipoleChargeModifier* DP_NewDipoleChargeModifierWithParam2(const char* model,
                                                                     const int gpu_rank,
                                                                     const char* name_scope,
                                                                     const char* engine);
extern long long DP_DeepBaseModelDeviGetSelOverflow(DP_DeepBaseModelDevi* dp);
extern long long DP_DeepBaseModelDeviGetMostNeighbors(DP_DeepBaseModelDevi* dp);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
