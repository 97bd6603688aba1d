// SPDX-License-Identifier: LGPL-3.0-or-later
/** From what clients pass, flat arrays of several frames, to the frames of the core, and back. */
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/model.h"
#include "deepmd/neighbor_list.h"

namespace deepmd {

/** An open model, and what was set for it. */
struct Session {
  std::shared_ptr<core::Model> model;
  std::vector<double> charge_spin;  ///< of all calls that name none; empty: the model's default
  std::vector<int> sel_types;       ///< types with predictions
};

/** What a client opens a model as. */
enum class Kind { potential, spin, tensor };

/** Open a model; throws if it is of another kind. `engine`: see DeepPot::init. */
std::shared_ptr<Session> open_session(const std::string& path, int gpu_rank,
                                      const std::string& content, const std::string& engine,
                                      Kind kind = Kind::potential, const std::string& scope = "");

/** The session, or an error that says that there is none. */
Session& opened(const std::shared_ptr<Session>& session, const char* what);

/** Names of the types, separated by blanks. */
std::string type_names(const core::Info& info);

/** Print the summary of the installation and of a model, every line with a prefix. */
void print_summary(const std::string& pre, const core::Info& info);

/** What a client asks for, in double precision. Sizes are those of DeepPot::compute. */
struct Request {
  const std::vector<double>& coord;
  const std::vector<int>& atype;
  const std::vector<double>& box;
  const std::vector<double>& fparam;
  const std::vector<double>& aparam;
  const std::vector<double>& charge_spin;
  int mixed_frames = -1;  ///< number of frames with types of their own; -1: all have the same
  int nghost = 0;
  const InputNlist* list = nullptr;
  const std::vector<double>* spin = nullptr;  ///< as coord
};

/** Evaluate all frames: the main output of each. */
std::vector<core::Prediction> evaluate(Session& session, const Request& request,
                                       const core::Wanted& wanted);

/** Set the charge and spin of all calls that name none. */
void set_charge_spin(Session& session, const std::vector<double>& charge_spin);

/** Arrays of doubles as they are, arrays of floats converted. */
inline const std::vector<double>& doubles(const std::vector<double>& x) { return x; }
const std::vector<double>& doubles(std::vector<double>&&) = delete;  // would not live on
inline std::vector<double> doubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

/** The same array of all frames, one after the other. */
template <typename T>
void gather(std::vector<T>& out, const std::vector<core::Prediction>& frames,
            std::vector<double> core::Prediction::* array) {
  out.clear();
  for (const core::Prediction& frame : frames) {
    out.insert(out.end(), (frame.*array).begin(), (frame.*array).end());
  }
}

}  // namespace deepmd
