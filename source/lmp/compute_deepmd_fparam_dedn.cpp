// SPDX-License-Identifier: LGPL-3.0-or-later
#include "compute_deepmd_fparam_dedn.h"

#include <mpi.h>

#include <cstdlib>
#include <cstring>

#include "error.h"
#include "fix.h"
#include "force.h"
#include "input.h"
#include "modify.h"
#include "pair_deepmd.h"
#include "update.h"
#include "variable.h"

using namespace LAMMPS_NS;

static const std::string where = "compute deepmd/fparam/dedn: ";

ComputeDeepmdFparamDedn::ComputeDeepmdFparamDedn(LAMMPS* lmp, int narg, char** arg)
    : Compute(lmp, narg, arg) {
  const std::string source = narg > 3 ? arg[3] : "";
  const std::string kinds = "vcf";
  if (narg < 4 || narg > 5 || source.size() < 3 || source[1] != '_' ||
      kinds.find(source[0]) == std::string::npos) {
    error->all(FLERR, where +
                          "wanted: v_name, c_ID, c_ID[index], f_ID or f_ID[index], and "
                          "possibly the step of the difference");
  }
  kind = source[0];
  const size_t bracket = source.find('[');
  name = source.substr(2, bracket == std::string::npos ? bracket : bracket - 2);
  if (bracket != std::string::npos) index = std::atoi(source.c_str() + bracket + 1);
  if (narg == 5) delta = utils::numeric(FLERR, arg[4], false, lmp);
  if (delta <= 0.0) error->all(FLERR, where + "the step of the difference must be positive");
  scalar_flag = 1;
  extscalar = 1;
}

void ComputeDeepmdFparamDedn::init() {
  pair = dynamic_cast<PairDeepmd*>(force->pair_match("deepmd", 1));
  if (!pair || pair->dim_fparam() != 1) {
    error->all(FLERR, where + "pair_style deepmd with a model of one frame parameter is needed");
  }
  bool found = true;
  if (kind == 'v') {
    source_variable = input->variable->find(name.c_str());
    found = source_variable >= 0 && input->variable->equalstyle(source_variable) && index == 0;
  } else if (kind == 'c') {
    source_compute = modify->get_compute_by_id(name);
    found = source_compute &&
            (index ? source_compute->vector_flag && index <= source_compute->size_vector
                   : source_compute->scalar_flag);
  } else {
    source_fix = modify->get_fix_by_id(name);
    found = source_fix && (index ? source_fix->vector_flag && index <= source_fix->size_vector
                                 : source_fix->scalar_flag);
  }
  if (!found) {
    error->all(FLERR, where + "there is no such " +
                          (kind == 'v'   ? "equal-style variable"
                           : kind == 'c' ? "compute"
                                         : "fix") +
                          " with that value: " + name);
  }
}

double ComputeDeepmdFparamDedn::value() const {
  if (kind == 'v') return input->variable->compute_equal(source_variable);
  if (kind == 'f') {
    return index ? source_fix->compute_vector(index - 1) : source_fix->compute_scalar();
  }
  if (!index) return source_compute->compute_scalar();
  source_compute->compute_vector();
  return source_compute->vector[index - 1];
}

double ComputeDeepmdFparamDedn::compute_scalar() {
  invoked_scalar = update->ntimestep;
  const double center = value();
  double mine = (pair->energy_at(center + delta) - pair->energy_at(center - delta)) / (2.0 * delta);
  MPI_Allreduce(&mine, &scalar, 1, MPI_DOUBLE, MPI_SUM, world);
  return scalar;
}
