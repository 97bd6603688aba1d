// SPDX-License-Identifier: LGPL-3.0-or-later
// Models for callers in other languages: all results of frames of any sizes in one call.
#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "model.h"

namespace {

using deepmd::core::Frame;
using deepmd::core::Info;
using deepmd::core::Prediction;

/** An open model; texts belong to it. */
struct Opened {
  std::shared_ptr<deepmd::core::Model> model;
  std::string engine;
};

/** Run `action`; return null, or what it throws, which lives until this thread calls again. */
template <class Action>
const char* message_of(const Action& action) {
  static thread_local std::string message;
  try {
    action();
    return nullptr;
  } catch (const std::bad_alloc&) {
    message = "out of memory; evaluate fewer atoms at a time";
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}

/** Copy (size, n, width) to (n, size, width), if it is wanted. */
void copy_rows(const std::vector<double>& from, int64_t size, int64_t n, int64_t width,
               double* to) {
  if (!to) return;
  for (int64_t c = 0; c < size; ++c) {
    for (int64_t a = 0; a < n; ++a) {
      std::copy_n(from.data() + (c * n + a) * width, width, to + (a * size + c) * width);
    }
  }
}

}  // namespace

extern "C" {

/** Frames, one after the other; atoms of all frames on one axis. */
struct DP_Frames {
  int64_t n_frames;
  const int64_t* natoms;      ///< (n_frames)
  const double* coord;        ///< (n_atoms, 3) [Å]
  const double* cell;         ///< (n_frames, 9) [Å]; zero for an open system
  const int32_t* atype;       ///< (n_atoms)
  const double* fparam;       ///< (n_frames, size), or null: the default
  const double* aparam;       ///< (n_atoms, size), or null
  const double* charge_spin;  ///< (n_frames, 2), or null: the default
  const double* spin;         ///< (n_atoms, 3), of models with spins; else null
};

/** Where results go, of the first output of a model, of `size` numbers; null: not wanted. */
struct DP_Results {
  double* value;        ///< (n_frames, size)
  double* atom_value;   ///< (n_atoms, size)
  double* force;        ///< (n_atoms, size, 3)
  double* virial;       ///< (n_frames, size, 9)
  double* atom_virial;  ///< (n_atoms, size, 9)
  double* force_mag;    ///< (n_atoms, size, 3), of models with spins
  double* last_layer;   ///< (n_atoms, width), see DP_LastLayerOfModel
};

/**
 * Open a model as deepmd::core::Model::open does.
 *
 * @param content of the file (size bytes), or null to read the path
 * @param engine "auto", "native" or "framework"
 * @param[out] model to be closed with DP_CloseModel
 * @return null, or a message of what is wrong, valid until this thread calls again
 */
const char* DP_OpenModel(const char* path, const char* content, int64_t size, const char* engine,
                         int32_t check_probes, void** model) {
  *model = nullptr;
  return message_of([&] {
    deepmd::core::OpenOptions options;
    options.engine = engine;
    if (content) options.content.assign(content, static_cast<size_t>(size));
    options.check_probes = check_probes != 0;
    auto opened = std::make_unique<Opened>();
    opened->model = deepmd::core::Model::open(path, options);
    opened->engine = opened->model->info().framework;
    *model = opened.release();
  });
}

void DP_CloseModel(void* model) { delete static_cast<Opened*>(model); }

/** Who evaluates the model: "native (avx2)". */
const char* DP_EngineOfModel(const void* model) {
  return static_cast<const Opened*>(model)->engine.c_str();
}

/** Width of the last hidden layer, if it is given; or 0. */
int64_t DP_LastLayerOfModel(const void* model) {
  return static_cast<const Opened*>(model)->model->info().uncertainty.last_layer;
}

/** Evaluate frames; the message is as that of DP_OpenModel. `overflow`: see Model::overflow. */
const char* DP_EvaluateModel(void* model, const DP_Frames* frames, const DP_Results* results,
                             int64_t* overflow) {
  return message_of([&] {
    deepmd::core::Model& evaluated = *static_cast<Opened*>(model)->model;
    const Info& info = evaluated.info();
    const int64_t size = info.outputs.front().size;
    const int64_t sizes[3] = {info.size_of("fparam"), info.size_of("aparam"),
                              info.size_of("charge_spin")};
    deepmd::core::Wanted wanted;
    wanted.derivatives = results->force || results->virial || results->atom_virial;
    wanted.atom_virial = results->atom_virial != nullptr;
    wanted.last_layer = results->last_layer != nullptr;
    int64_t first = 0;
    for (int64_t k = 0; k < frames->n_frames; ++k) {
      Frame frame;
      const int64_t n = frame.nall = frames->natoms[k];
      frame.coord = frames->coord + 3 * first;
      frame.atype = frames->atype + first;
      frame.cell = frames->cell + 9 * k;
      if (frames->fparam) frame.fparam = frames->fparam + k * sizes[0];
      if (frames->aparam) frame.aparam = frames->aparam + first * sizes[1];
      if (frames->charge_spin) frame.chg_spin = frames->charge_spin + k * sizes[2];
      if (frames->spin) frame.spin = frames->spin + 3 * first;
      const Prediction p = std::move(evaluated.evaluate(frame, wanted).front());
      std::copy(p.value.begin(), p.value.end(), results->value + k * size);
      std::copy(p.atom_value.begin(), p.atom_value.end(), results->atom_value + first * size);
      const auto rows = [&](double* all, int64_t width) {
        return all ? all + first * size * width : nullptr;
      };
      copy_rows(p.force, size, n, 3, rows(results->force, 3));
      if (info.has_spin) copy_rows(p.force_mag, size, n, 3, rows(results->force_mag, 3));
      copy_rows(p.atom_virial, size, n, 9, rows(results->atom_virial, 9));
      if (results->last_layer) {
        std::copy(p.last_layer.begin(), p.last_layer.end(),
                  results->last_layer + first * info.uncertainty.last_layer);
      }
      if (results->virial) {
        std::copy(p.virial.begin(), p.virial.end(), results->virial + k * size * 9);
      }
      first += n;
    }
    *overflow = evaluated.overflow();
  });
}

}  // extern "C"
