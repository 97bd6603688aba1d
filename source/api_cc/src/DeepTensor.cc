// SPDX-License-Identifier: LGPL-3.0-or-later
#include "deepmd/DeepTensor.h"

#include <algorithm>

#include "core/error.h"
#include "session.h"

namespace deepmd {

namespace {

/** Values of the local atoms of the selected types. */
std::vector<double> selected_values(const Session& session, const std::vector<double>& atom_value,
                                    const std::vector<int>& atype, int nghost) {
  const std::vector<int>& selected = session.sel_types;
  const int64_t size = session.model->info().outputs.front().size;
  std::vector<double> values;
  for (size_t atom = 0; atom + nghost < atype.size(); ++atom) {
    if (std::find(selected.begin(), selected.end(), atype[atom]) != selected.end()) {
      const auto row = atom_value.begin() + static_cast<ptrdiff_t>(atom) * size;
      values.insert(values.end(), row, row + size);
    }
  }
  return values;
}

/** Where results go; null: not wanted. */
template <typename VALUETYPE>
struct Outputs {
  std::vector<VALUETYPE>* global = nullptr;
  std::vector<VALUETYPE>* force = nullptr;
  std::vector<VALUETYPE>* virial = nullptr;
  std::vector<VALUETYPE>* atom_value = nullptr;
  std::vector<VALUETYPE>* atom_virial = nullptr;
};

template <typename VALUETYPE>
void assign(std::vector<VALUETYPE>* out, const std::vector<double>& values) {
  if (out) {
    out->assign(values.begin(), values.end());
  }
}

template <typename VALUETYPE>
void tensor(const std::shared_ptr<Session>& session_, const Outputs<VALUETYPE>& outputs,
            const std::vector<VALUETYPE>& coord_, const std::vector<int>& atype,
            const std::vector<VALUETYPE>& box_, int nghost = 0, const InputNlist* list = nullptr) {
  Session& session = opened(session_, "DeepTensor");
  const std::vector<double>& coord = doubles(coord_);
  const std::vector<double>& box = doubles(box_);
  const std::vector<double> none;
  const core::Wanted wanted{outputs.force != nullptr, outputs.atom_virial != nullptr};
  const auto frames =
      evaluate(session, {coord, atype, box, none, none, none, -1, nghost, list}, wanted);
  const core::Info& info = session.model->info();
  if (frames.size() != 1) {
    core::fail(info.path,
               "DeepTensor takes one frame at a time, not " + std::to_string(frames.size()));
  }
  const core::Prediction& frame = frames.front();
  if (outputs.force && !info.outputs.front().differentiable) {
    core::fail(info.path, "\"" + info.outputs.front().name + "\" has no derivatives",
               "ask for the values only");
  }
  assign(outputs.global, frame.value);
  assign(outputs.force, frame.force);
  assign(outputs.virial, frame.virial);
  assign(outputs.atom_virial, frame.atom_virial);
  if (outputs.atom_value) {
    assign(outputs.atom_value, selected_values(session, frame.atom_value, atype, nghost));
  }
}

}  // namespace

DeepTensor::DeepTensor() = default;
DeepTensor::~DeepTensor() = default;

DeepTensor::DeepTensor(const std::string& model, const int& gpu_rank,
                       const std::string& name_scope) {
  init(model, gpu_rank, name_scope, "auto");
}

DeepTensor::DeepTensor(const std::string& model, const int& gpu_rank, const std::string& name_scope,
                       const std::string& engine) {
  init(model, gpu_rank, name_scope, engine);
}

void DeepTensor::init(const std::string& model, const int& gpu_rank,
                      const std::string& name_scope) {
  init(model, gpu_rank, name_scope, "auto");
}

void DeepTensor::init(const std::string& model, const int& gpu_rank, const std::string& name_scope,
                      const std::string& engine) {
  session_ = open_session(model, gpu_rank, "", engine, Kind::tensor, name_scope);
}

void DeepTensor::print_summary(const std::string& pre) const {
  deepmd::print_summary(pre, opened(session_, "DeepTensor").model->info());
}

double DeepTensor::cutoff() const { return opened(session_, "DeepTensor").model->info().rcut; }

int DeepTensor::numb_types() const {
  return static_cast<int>(opened(session_, "DeepTensor").model->info().type_map.size());
}

double DeepTensor::halo() const {
  const core::Info& info = opened(session_, "DeepTensor").model->info();
  return info.message_passing ? info.halo_of_spins(0.0) : 0.0;
}

int DeepTensor::output_dim() const {
  return static_cast<int>(opened(session_, "DeepTensor").model->info().outputs.front().size);
}

const std::vector<int>& DeepTensor::sel_types() const {
  return opened(session_, "DeepTensor").sel_types;
}

void DeepTensor::get_type_map(std::string& type_map) {
  type_map = type_names(opened(session_, "DeepTensor").model->info());
}

template <typename VALUETYPE>
void DeepTensor::compute(std::vector<VALUETYPE>& value, const std::vector<VALUETYPE>& coord,
                         const std::vector<int>& atype, const std::vector<VALUETYPE>& box) {
  tensor<VALUETYPE>(session_, {nullptr, nullptr, nullptr, &value}, coord, atype, box);
}

template <typename VALUETYPE>
void DeepTensor::compute(std::vector<VALUETYPE>& value, const std::vector<VALUETYPE>& coord,
                         const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                         const int nghost, const InputNlist& inlist) {
  tensor<VALUETYPE>(session_, {nullptr, nullptr, nullptr, &value}, coord, atype, box, nghost,
                    &inlist);
}

template <typename VALUETYPE>
void DeepTensor::compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
                         std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
                         const std::vector<int>& atype, const std::vector<VALUETYPE>& box) {
  tensor<VALUETYPE>(session_, {&global_tensor, &force, &virial}, coord, atype, box);
}

template <typename VALUETYPE>
void DeepTensor::compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
                         std::vector<VALUETYPE>& virial, const std::vector<VALUETYPE>& coord,
                         const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                         const int nghost, const InputNlist& inlist) {
  tensor<VALUETYPE>(session_, {&global_tensor, &force, &virial}, coord, atype, box, nghost,
                    &inlist);
}

template <typename VALUETYPE>
void DeepTensor::compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
                         std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_tensor,
                         std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
                         const std::vector<int>& atype, const std::vector<VALUETYPE>& box) {
  tensor<VALUETYPE>(session_, {&global_tensor, &force, &virial, &atom_tensor, &atom_virial}, coord,
                    atype, box);
}

template <typename VALUETYPE>
void DeepTensor::compute(std::vector<VALUETYPE>& global_tensor, std::vector<VALUETYPE>& force,
                         std::vector<VALUETYPE>& virial, std::vector<VALUETYPE>& atom_tensor,
                         std::vector<VALUETYPE>& atom_virial, const std::vector<VALUETYPE>& coord,
                         const std::vector<int>& atype, const std::vector<VALUETYPE>& box,
                         const int nghost, const InputNlist& inlist) {
  tensor<VALUETYPE>(session_, {&global_tensor, &force, &virial, &atom_tensor, &atom_virial}, coord,
                    atype, box, nghost, &inlist);
}

#define DEEPMD_TENSOR(T)                                                                           \
  template void DeepTensor::compute<T>(std::vector<T>&, const std::vector<T>&,                     \
                                       const std::vector<int>&, const std::vector<T>&);            \
  template void DeepTensor::compute<T>(std::vector<T>&, const std::vector<T>&,                     \
                                       const std::vector<int>&, const std::vector<T>&, const int,  \
                                       const InputNlist&);                                         \
  template void DeepTensor::compute<T>(std::vector<T>&, std::vector<T>&, std::vector<T>&,          \
                                       const std::vector<T>&, const std::vector<int>&,             \
                                       const std::vector<T>&);                                     \
  template void DeepTensor::compute<T>(std::vector<T>&, std::vector<T>&, std::vector<T>&,          \
                                       const std::vector<T>&, const std::vector<int>&,             \
                                       const std::vector<T>&, const int, const InputNlist&);       \
  template void DeepTensor::compute<T>(std::vector<T>&, std::vector<T>&, std::vector<T>&,          \
                                       std::vector<T>&, std::vector<T>&, const std::vector<T>&,    \
                                       const std::vector<int>&, const std::vector<T>&);            \
  template void DeepTensor::compute<T>(std::vector<T>&, std::vector<T>&, std::vector<T>&,          \
                                       std::vector<T>&, std::vector<T>&, const std::vector<T>&,    \
                                       const std::vector<int>&, const std::vector<T>&, const int,  \
                                       const InputNlist&);
DEEPMD_TENSOR(double)
DEEPMD_TENSOR(float)

}  // namespace deepmd
