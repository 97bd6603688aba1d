// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The calls that AMBER's sander makes for a correction of QM/MM: sander ATOMS MODEL [MODEL ...]
 *
 * ATOMS has the number of atoms, then a line "name x y z" [Angstrom] for each; the names are those
 * of the models' types. Atoms without a correction among them, further away than the cutoff from
 * the quantum region, are left out by the caller. Prints JSON.
 */
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepmd/DeepPot.h"

namespace {

struct Atoms {
  std::vector<std::string> name;
  std::vector<double> coord;
};

struct Result {
  double energy = 0.0;
  std::vector<double> force, virial;
};

Atoms read(const std::string& path) {
  std::ifstream file(path);
  size_t n = 0;
  if (!(file >> n)) throw std::runtime_error(path + " holds no number of atoms");
  Atoms atoms;
  for (size_t i = 0; i < n; ++i) {
    std::string name;
    double r[3];
    if (!(file >> name >> r[0] >> r[1] >> r[2])) throw std::runtime_error(path + " is too short");
    atoms.name.push_back(name);
    atoms.coord.insert(atoms.coord.end(), r, r + 3);
  }
  return atoms;
}

/** Types of the atoms, by the names that a model has. */
std::vector<int> types_of(deepmd::DeepPot& model, const Atoms& atoms) {
  std::string names, word;
  model.get_type_map(names);
  std::istringstream stream(names);
  std::map<std::string, int> types;
  while (stream >> word) types.emplace(word, static_cast<int>(types.size()));
  std::vector<int> found;
  for (const std::string& name : atoms.name) found.push_back(types.at(name));
  return found;
}

bool is_quantum(const std::string& name) { return name.back() != 'W'; }

/** Regions of the atoms, if the model wants them: 0, and a number for every molecule of water. */
std::vector<double> regions_of(const deepmd::DeepPot& model, const Atoms& atoms) {
  std::vector<double> found;
  int molecule = 0;
  for (const std::string& name : atoms.name) {
    if (name == "OW") ++molecule;
    found.push_back(is_quantum(name) ? 0 : molecule);
  }
  if (model.dim_aparam() == 0) found.clear();
  return found;
}

/** Neighbors within the cutoff; pairs of which no atom is of the quantum region are left out. */
std::vector<std::vector<int>> neighbors(const Atoms& atoms, double cutoff) {
  const int n = static_cast<int>(atoms.name.size());
  const auto quantum = [&](int i) { return is_quantum(atoms.name[i]); };
  std::vector<std::vector<int>> rows(n);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      double r2 = 0.0;
      for (int d = 0; d < 3; ++d) {
        const double x = atoms.coord[3 * i + d] - atoms.coord[3 * j + d];
        r2 += x * x;
      }
      if (i != j && r2 < cutoff * cutoff && (quantum(i) || quantum(j))) rows[i].push_back(j);
    }
  }
  return rows;
}

void print(const char* name, const std::vector<double>& values) {
  std::printf("\"%s\": [", name);
  for (size_t k = 0; k < values.size(); ++k) std::printf("%s%.17g", k ? ", " : "", values[k]);
  std::printf("]");
}

void print(const char* name, const Result& result) {
  std::printf("\"%s\": {\"energy\": %.17g, ", name, result.energy);
  print("force", result.force);
  std::printf(", ");
  print("virial", result.virial);
  std::printf("},\n");
}

/** Largest standard deviation of the force on an atom among the models. */
double deviation(const std::vector<std::string>& files, const Atoms& atoms,
                 const std::vector<int>& types, const std::vector<double>& regions,
                 deepmd::InputNlist& list) {
  deepmd::DeepPotModelDevi models(files);
  std::vector<double> energies, mean, spread;
  std::vector<std::vector<double>> forces, virials;
  models.compute(energies, forces, virials, atoms.coord, types, {}, 0, list, 0, {}, regions);
  models.compute_avg(mean, forces);
  models.compute_std_f(spread, mean, forces);
  return *std::max_element(spread.begin(), spread.end());
}

void run(const std::string& path, const std::vector<std::string>& files) {
  const Atoms atoms = read(path);
  deepmd::DeepPot model(files[0]);
  const std::vector<int> types = types_of(model, atoms);
  const std::vector<double> regions = regions_of(model, atoms);
  std::printf("{\"cutoff\": %.17g,\n", model.cutoff());

  Result plain;
  model.compute(plain.energy, plain.force, plain.virial, atoms.coord, types, {}, {}, regions);
  print("plain", plain);

  // The list of the caller, without ghosts.
  const auto rows = neighbors(atoms, model.cutoff());
  deepmd::InputNlist list;
  std::vector<int> ilist(rows.size()), count(rows.size());
  std::vector<int*> first(rows.size());
  list =
      deepmd::InputNlist(static_cast<int>(rows.size()), ilist.data(), count.data(), first.data());
  auto kept = rows;
  deepmd::convert_nlist(list, kept);
  Result listed;
  model.compute(listed.energy, listed.force, listed.virial, atoms.coord, types, {}, 0, list, 0, {},
                regions);
  print("list", listed);

  // A list that is not made anew: ago counts the calls since then.
  Result later;
  model.compute(later.energy, later.force, later.virial, atoms.coord, types, {}, 0, list, 1, {},
                regions);
  print("local", later);

  std::printf("\"deviation\": %.17g}\n", deviation(files, atoms, types, regions, list));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: sander ATOMS MODEL [MODEL ...]\n";
    return 1;
  }
  try {
    run(argv[1], {argv + 2, argv + argc});
  } catch (const std::exception& error) {
    std::cerr << "sander: " << error.what() << "\n";
    return 1;
  }
}
