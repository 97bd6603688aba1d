// SPDX-License-Identifier: LGPL-3.0-or-later
#include "model.h"

#include <mpi.h>

#include <algorithm>
#include <climits>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "frame.h"
#include "message_exchange.h"

namespace deepmd_lmp {

std::string take(const char* text) {
  std::string copy = text ? text : "";
  DP_DeleteChar(text);
  return copy;
}

std::vector<std::string> split(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

int node_rank(MPI_Comm world) {
  int rank = 0;
#if MPI_VERSION >= 3
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &rank);
  MPI_Comm_free(&node);
#else
  MPI_Comm_rank(world, &rank);  // LAMMPS without MPI
#endif
  return rank;
}

namespace {

/** Send a text of rank `root` to all. */
void broadcast(MPI_Comm world, std::string& text, int root) {
  long long size = static_cast<long long>(text.size());
  MPI_Bcast(&size, 1, MPI_LONG_LONG, root, world);
  text.resize(static_cast<size_t>(size));
  constexpr long long chunk = 1LL << 30;  // counts of MPI are int
  for (long long done = 0; done < size; done += chunk) {
    const int count = static_cast<int>(std::min(chunk, size - done));
    MPI_Bcast(text.data() + done, count, MPI_CHAR, root, world);
  }
}

/** Content of a file; empty for a folder or where it does not fit into the C interface. */
std::string read(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::exists(path, code)) {
    throw Failure(path + ": there is no such model file (folder of the run: " +
                  std::filesystem::current_path(code).string() + ")");
  }
  if (std::filesystem::is_directory(path, code)) return "";
  if (std::filesystem::file_size(path, code) > INT_MAX) return "";
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file || content.str().empty()) throw Failure(path + ": cannot be read, or is empty");
  return content.str();
}

}  // namespace

void agree(MPI_Comm world, const std::string& message) {
  int me = 0, size = 1;
  MPI_Comm_rank(world, &me);
  MPI_Comm_size(world, &size);
  int mine = message.empty() ? size : me;
  int first = size;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == size) return;
  std::string text = message;
  broadcast(world, text, first);
  throw Failure(text);
}

std::vector<std::unique_ptr<Model>> open_models(MPI_Comm world, const Settings& settings,
                                                bool spins) {
  int me = 0;
  MPI_Comm_rank(world, &me);
  const int gpu_rank = node_rank(world);
  std::vector<std::unique_ptr<Model>> models;
  for (const std::string& path : settings.models) {
    std::string content, message;
    try {
      if (me == 0) content = read(path);
    } catch (const Failure& failure) {
      message = failure.what();
    }
    agree(world, message);
    broadcast(world, content, 0);
    try {
      models.push_back(std::make_unique<Model>(path, content, gpu_rank, settings, spins));
    } catch (const Failure& failure) {
      message = failure.what();
    }
    agree(world, message);
  }
  return models;
}

Model::Model(const std::string& file, const std::string& content, int gpu_rank,
             const Settings& settings, bool with_spins)
    : path(file), spins(with_spins) {
  const int before = DP_CheckProbes(settings.check_probes);
  const char* chosen = settings.engine.c_str();
  const int size = static_cast<int>(content.size());
  if (spins) {
    handle_.reset(reinterpret_cast<DP_DeepBaseModel*>(
        DP_NewDeepSpinWithParam3(path.c_str(), gpu_rank, content.data(), size, chosen)));
  } else {
    handle_.reset(reinterpret_cast<DP_DeepBaseModel*>(
        DP_NewDeepPotWithParam3(path.c_str(), gpu_rank, content.data(), size, chosen)));
  }
  DP_CheckProbes(before);
  check();
  DP_DeepBaseModel* dp = handle_.get();
  engine = take(DP_DeepBaseModelGetEngine(dp));
  cutoff = DP_DeepBaseModelGetCutoff(dp);
  type_map = split(take(DP_DeepBaseModelGetTypeMap(dp)));
  dim_fparam = DP_DeepBaseModelGetDimFParam(dp);
  dim_aparam = DP_DeepBaseModelGetDimAParam(dp);
  dim_chg_spin = spins ? DP_DeepSpinGetDimChgSpin(spin()) : DP_DeepPotGetDimChgSpin(pot());
  has_default_fparam = DP_DeepBaseModelHasDefaultFParam(dp);
  message_passing = DP_DeepBaseModelHasMessagePassing(dp);
  has_exchange = DP_DeepBaseModelHasExchange(dp);
  aparam_of_ghosts = DP_DeepBaseModelIsAParamNAll(dp);
  check();
}

void Model::check() const {
  std::string message = take(DP_DeepBaseModelCheckOK(handle_.get()));
  if (message.empty()) return;
  if (message.find(path) == std::string::npos) message = path + ": " + message;
  throw Failure(message);
}

double Model::reach(double longest_spin) const {
  return spins ? DP_DeepSpinGetReach(spin(), longest_spin) : cutoff;
}

double Model::halo(double longest_spin) const {
  return message_passing ? DP_DeepBaseModelGetHalo(handle_.get(), longest_spin) : 0.0;
}

/** Fill what is not null. */
void Model::compute(const Frame& frame, const Inputs& inputs, int ago, double* energy,
                    double* force, double* force_mag, double* virial, double* atom_energy,
                    double* atom_virial) {
  if (spins) {
    DP_DeepSpinComputeNList3(spin(), 1, frame.nall(), frame.coord(), frame.spin(), frame.atype(),
                             frame.cell(), frame.nghost(), frame.list(), ago, inputs.fparam,
                             inputs.aparam, inputs.charge_spin, energy, force, force_mag, virial,
                             atom_energy, atom_virial);
  } else {
    DP_DeepPotComputeNList3(pot(), 1, frame.nall(), frame.coord(), frame.atype(), frame.cell(),
                            frame.nghost(), frame.list(), ago, inputs.fparam, inputs.aparam,
                            inputs.charge_spin, energy, force, virial, atom_energy, atom_virial);
  }
  if (frame.exchange() && !frame.exchange()->stopped().empty()) {
    throw Agreed(frame.exchange()->stopped());
  }
  check();
}

/** Arrays of the right sizes, all zero. */
void Model::clear(const Frame& frame, bool atom_energy, bool atom_virial, Results& results) const {
  const size_t nall = frame.nall();
  results.energy = 0.0;
  results.virial.assign(9, 0.0);
  results.force.assign(3 * nall, 0.0);
  results.force_mag.assign(spins ? 3 * nall : 0, 0.0);
  results.atom_energy.assign(atom_energy ? nall : 0, 0.0);
  results.atom_virial.assign(atom_virial ? 9 * nall : 0, 0.0);
}

void Model::evaluate(const Frame& frame, const Inputs& inputs, int ago, bool atom_energy,
                     bool atom_virial, Results& results) {
  clear(frame, atom_energy, atom_virial, results);
  // A rank without atoms takes part in exchanges.
  if (frame.nlocal() == 0 && !frame.exchange()) return;
  compute(frame, inputs, ago, &results.energy, results.force.data(), results.force_mag.data(),
          results.virial.data(), atom_energy ? results.atom_energy.data() : nullptr,
          atom_virial ? results.atom_virial.data() : nullptr);
}

std::string Model::uncertainty_missing() const {
  return spins ? "has spins, for which there is no uncertainty"
               : take(DP_DeepPotUncertaintyMissing(pot()));
}

void Model::evaluate_deviations(const Frame& frame, const Inputs& inputs, bool atom_energy,
                                bool atom_virial, Results& results) {
  clear(frame, atom_energy, atom_virial, results);
  results.atom_energy_std.assign(frame.nall(), 0.0);
  results.force_std.assign(frame.nall(), 0.0);
  results.features.assign(DP_DeepPotGetNumbFeatures(pot()), 0.0);
  if (frame.nlocal() == 0) return;
  DP_DeepPotComputeNListDeviations(
      pot(), frame.nall(), frame.coord(), frame.atype(), frame.cell(), frame.nghost(), frame.list(),
      inputs.fparam, inputs.aparam, inputs.charge_spin, &results.energy, results.force.data(),
      results.virial.data(), atom_energy ? results.atom_energy.data() : nullptr,
      atom_virial ? results.atom_virial.data() : nullptr, results.atom_energy_std.data(),
      results.force_std.data(), results.features.data());
  check();
}

double Model::energy_deviation(const std::vector<double>& features) const {
  return DP_DeepPotEnergyDeviation(pot(), features.data());
}

double Model::energy(const Frame& frame, const Inputs& inputs) {
  double energy = 0.0;
  if (frame.nlocal() > 0 || frame.exchange()) {
    compute(frame, inputs, 1, &energy, nullptr, nullptr, nullptr, nullptr, nullptr);
  }
  return energy;
}

long long Model::overflow() const { return DP_DeepBaseModelGetSelOverflow(handle_.get()); }

long long Model::most_neighbors() const { return DP_DeepBaseModelGetMostNeighbors(handle_.get()); }

}  // namespace deepmd_lmp
