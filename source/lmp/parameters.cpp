// SPDX-License-Identifier: LGPL-3.0-or-later
#include "parameters.h"

#include "atom.h"
#include "compute.h"
#include "fix.h"
#include "modify.h"
#include "update.h"

namespace deepmd_lmp {
namespace {

std::string counted(size_t count) {
  return std::to_string(count) + (count == 1 ? " value" : " values");
}

void check_count(const std::string& name, const std::vector<double>& given, int dim,
                 const std::string& path) {
  if (given.empty() || given.size() == static_cast<size_t>(dim)) return;
  throw Failure(name + ": " + counted(given.size()) + " given, but " + path + " takes " +
                (dim ? counted(dim) : "none"));
}

}  // namespace

Parameters::Parameters(LAMMPS_NS::LAMMPS* lmp, const Settings& settings, const Model& model)
    : lmp_(lmp),
      settings_(settings),
      dim_fparam_(model.dim_fparam),
      dim_aparam_(model.dim_aparam),
      aparam_of_ghosts_(model.aparam_of_ghosts),
      fparam_(settings.fparam) {
  check_count("fparam", settings.fparam, model.dim_fparam, model.path);
  check_count("aparam", settings.aparam, model.dim_aparam, model.path);
  check_count("charge_spin", settings.charge_spin, model.dim_chg_spin, model.path);
  const bool is_ttm = !settings.ttm.empty();
  if (is_ttm && dim_aparam_ != 1 && (dim_aparam_ != 0 || dim_fparam_ != 1)) {
    throw Failure("ttm: " + model.path + " takes " + counted(dim_aparam_) + " of aparam and " +
                  counted(dim_fparam_) + " of fparam; one temperature must be one of them");
  }
  bool has_fparam =
      !fparam_.empty() || !settings.fparam_compute.empty() || !settings.fparam_fix.empty();
  bool has_aparam = !settings.aparam.empty() || !settings.aparam_compute.empty();
  if (is_ttm) {
    if (has_fparam && dim_aparam_ == 0) {
      throw Failure("ttm is the source of fparam here; leave the other one out");
    }
    ttm_.emplace(lmp, settings.ttm);
    (dim_aparam_ == 0 ? has_fparam : has_aparam) = true;
  }
  if (has_fparam && dim_fparam_ == 0) throw Failure(model.path + " takes no fparam");
  if (has_aparam && dim_aparam_ == 0) throw Failure(model.path + " takes no aparam");
  if (!has_fparam && dim_fparam_ > 0 && !model.has_default_fparam) {
    throw Failure(model.path + " needs fparam (" + counted(dim_fparam_) +
                  "); add fparam, fparam_from_compute or fparam_from_fix");
  }
  if (!has_aparam && dim_aparam_ > 0) {
    throw Failure(model.path + " needs aparam (" + counted(dim_aparam_) +
                  " per atom); add aparam or aparam_from_compute");
  }
  if (!settings.aparam_compute.empty() && aparam_of_ghosts_) {
    throw Failure(model.path + " wants aparam of ghosts, which aparam_from_compute does not give");
  }
}

void Parameters::init() {
  if (ttm_) ttm_->init();
  const LAMMPS_NS::Modify* modify = lmp_->modify;
  const auto find = [&](const std::string& keyword, const std::string& id) {
    LAMMPS_NS::Compute* compute = id.empty() ? nullptr : modify->get_compute_by_id(id);
    if (!id.empty() && !compute) throw Failure(keyword + ": there is no compute " + id);
    return compute;
  };
  fparam_compute_ = find("fparam_from_compute", settings_.fparam_compute);
  aparam_compute_ = find("aparam_from_compute", settings_.aparam_compute);
  if (fparam_compute_) {
    const bool scalar = dim_fparam_ == 1 && fparam_compute_->scalar_flag;
    const size_t size = fparam_compute_->vector_flag ? fparam_compute_->size_vector : 0;
    if (!scalar && size != dim_fparam_) {
      throw Failure("fparam_from_compute: compute " + settings_.fparam_compute +
                    " does not give the " + counted(dim_fparam_) + " that the model takes");
    }
  }
  if (aparam_compute_) {
    const LAMMPS_NS::Compute& c = *aparam_compute_;
    const size_t columns = !c.peratom_flag ? 0 : c.size_peratom_cols ? c.size_peratom_cols : 1;
    if (columns != dim_aparam_) {
      throw Failure("aparam_from_compute: compute " + settings_.aparam_compute + " gives " +
                    counted(columns) + " per atom, but the model takes " +
                    std::to_string(dim_aparam_));
    }
  }
  fparam_fix_ = nullptr;
  if (!settings_.fparam_fix.empty()) {
    fparam_fix_ = modify->get_fix_by_id(settings_.fparam_fix);
    if (!fparam_fix_) throw Failure("fparam_from_fix: there is no fix " + settings_.fparam_fix);
    const size_t first = settings_.fparam_fix_index;
    const bool scalar = first == 0 && dim_fparam_ == 1 && fparam_fix_->scalar_flag;
    const size_t size = fparam_fix_->vector_flag ? fparam_fix_->size_vector : 0;
    if (!scalar && (first == 0 || first - 1 + dim_fparam_ > size)) {
      throw Failure("fparam_from_fix: fix " + settings_.fparam_fix + " does not give the " +
                    counted(dim_fparam_) + " that the model takes; of a vector, give the index");
    }
  }
}

Inputs Parameters::values() {
  if (ttm_) ttm_->read();
  read_fparam();
  read_aparam();
  Inputs inputs;
  if (!fparam_.empty()) inputs.fparam = fparam_.data();
  if (!aparam_.empty()) inputs.aparam = aparam_.data();
  if (!settings_.charge_spin.empty()) inputs.charge_spin = settings_.charge_spin.data();
  return inputs;
}

void Parameters::read_fparam() {
  if (ttm_ && dim_aparam_ == 0) {
    fparam_.assign(1, ttm_->mean());
  } else if (fparam_compute_) {
    LAMMPS_NS::Compute* c = fparam_compute_;
    if (dim_fparam_ == 1 && c->scalar_flag) {
      fparam_.assign(1, c->compute_scalar());
    } else {
      c->compute_vector();
      fparam_.assign(c->vector, c->vector + dim_fparam_);
    }
    lmp_->modify->addstep_compute(lmp_->update->ntimestep + 1);
  } else if (fparam_fix_) {
    fparam_.resize(dim_fparam_);
    const int first = settings_.fparam_fix_index;
    for (size_t k = 0; k < dim_fparam_; ++k) {
      fparam_[k] = first == 0 ? fparam_fix_->compute_scalar()
                              : fparam_fix_->compute_vector(first - 1 + static_cast<int>(k));
    }
  }
}

void Parameters::read_aparam() {
  const size_t nlocal = lmp_->atom->nlocal;
  const size_t natoms = nlocal + (aparam_of_ghosts_ ? lmp_->atom->nghost : 0);
  if (ttm_ && dim_aparam_ == 1) {
    aparam_.resize(natoms);
    for (size_t i = 0; i < natoms; ++i) aparam_[i] = ttm_->at(lmp_->atom->x[i]);
  } else if (aparam_compute_) {
    LAMMPS_NS::Compute* c = aparam_compute_;
    c->compute_peratom();
    aparam_.resize(natoms * dim_aparam_);
    for (size_t i = 0; i < nlocal; ++i) {
      for (size_t k = 0; k < dim_aparam_; ++k) {
        aparam_[i * dim_aparam_ + k] =
            c->size_peratom_cols ? c->array_atom[i][k] : c->vector_atom[i];
      }
    }
    lmp_->modify->addstep_compute(lmp_->update->ntimestep + 1);
  } else if (!settings_.aparam.empty()) {
    aparam_.clear();
    for (size_t i = 0; i < natoms; ++i) {
      aparam_.insert(aparam_.end(), settings_.aparam.begin(), settings_.aparam.end());
    }
  }
}

}  // namespace deepmd_lmp
