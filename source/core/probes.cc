// SPDX-License-Identifier: LGPL-3.0-or-later
#include "probes.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "error.h"

namespace deepmd::core {

namespace {

/** Largest difference relative to the largest component that is rounding. */
double tolerance(const Info& info) { return info.single_precision ? 1e-4 : 1e-9; }

void compare(const Info& info, const char* what, const std::vector<double>& expected,
             const std::vector<double>& found) {
  if (expected.empty()) return;
  double largest = 0.0, difference = 0.0;
  for (size_t k = 0; k < expected.size(); ++k) {
    const double here = k < found.size() ? found[k] : std::nan("");
    const double d = std::abs(here - expected[k]);
    largest = std::max(largest, std::abs(expected[k]));
    if (!(d <= difference)) difference = d;  // a NaN stays
    if (std::isnan(d)) break;
  }
  // A value may be a sum of larger ones: below this nothing is known about digits.
  if (difference <= tolerance(info) * std::max(largest, 1.0)) return;
  std::ostringstream text;
  text << "of the frame that is stored in the file, " << what << " differs by " << difference
       << " from what it was when the model was written (largest component " << largest << ")";
  fail(info.path, text.str(),
       "freeze or convert the model again with this release; do not use it as it is");
}

/** Evaluate a frame of the file; what is wrong with it is wrong with the file. */
Prediction evaluate(Model& model, const Frame& frame) {
  try {
    return model.evaluate(frame, {}).front();
  } catch (const deepmd::deepmd_exception& error) {
    const std::string path = model.info().path, text = error.what();
    if (text.find(path) != std::string::npos) throw;
    fail(path,
         "the frame that is stored in the file cannot be evaluated (" +
             text.substr(text.find(": ") + 2) + ")",
         "copy or freeze it again");
  }
}

}  // namespace

void check_probes(Model& model, const std::vector<Probe>& probes) {
  const Info& info = model.info();
  for (const Probe& probe : probes) {
    Frame frame;
    frame.nall = probe.natoms;
    frame.coord = probe.coord.data();
    frame.atype = probe.atype.data();
    frame.cell = probe.cell.empty() ? nullptr : probe.cell.data();
    frame.fparam = probe.input("fparam");
    frame.chg_spin = probe.input("charge_spin");
    frame.aparam = probe.input("aparam");
    if (info.has_spin) frame.spin = probe.input("spin");
    const Prediction found = evaluate(model, frame);
    compare(info, info.outputs.front().name.c_str(), probe.value, found.value);
    compare(info, "the force", probe.force, found.force);
    compare(info, "the virial", probe.virial, found.virial);
  }
}

}  // namespace deepmd::core
