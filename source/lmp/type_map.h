// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The elements that pair_coeff gives to the atom types of LAMMPS. docs/lammps.md has the table.
 */
#pragma once

#include <string>
#include <vector>

namespace deepmd_lmp {

struct TypeMap {
  TypeMap() = default;

  /**
   * @param names the words after "pair_coeff * *"; none: the types of the model in their order
   * @param ntypes atom types of LAMMPS
   * @param known types of the model
   * @param path of the model, for messages
   * @throws Failure for unknown names, or more names than types
   */
  TypeMap(const std::vector<std::string>& names, int ntypes, const std::vector<std::string>& known,
          const std::string& path);

  std::vector<int> model_type;  ///< (ntypes + 1): the model's type of LAMMPS's, -1: ignored
  std::vector<int> unnamed;     ///< types at the end for which names are missing
  std::string note;             ///< a warning, or empty
};

}  // namespace deepmd_lmp
