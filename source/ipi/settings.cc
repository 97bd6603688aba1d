// SPDX-License-Identifier: LGPL-3.0-or-later
#include "settings.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "error.h"

namespace deepmd::ipi {
namespace {

using nlohmann::json;

constexpr const char* KEYS = "verbose, use_unix, port, host, graph_file, coord_file, atom_type";

[[noreturn]] void wrong(const std::string& path, const std::string& key, const std::string& text) {
  throw Error(path + ": " + key + ": " + text);
}

/** Take the value of a key; what has another type than the default is an error. */
template <typename T>
void take(const std::string& path, const std::string& key, const json& value, T& target,
          const char* expected) {
  try {
    target = value.get<T>();
  } catch (const json::exception&) {
    wrong(path, key, "expected " + std::string(expected) + ", got " + value.dump());
  }
}

void take_types(const std::string& path, const json& value, std::map<std::string, int>& types) {
  constexpr const char* expected = "an object of names and numbers from 0";
  if (!value.is_object()) {
    wrong(path, "atom_type", "expected " + std::string(expected) + ", got " + value.dump());
  }
  for (const auto& [name, number] : value.items()) {
    if (!number.is_number_integer() || number.get<int>() < 0) {
      wrong(path, "atom_type/" + name, "expected a number from 0, got " + number.dump());
    }
    types[name] = number.get<int>();
  }
}

void take_item(const std::string& path, const std::string& key, const json& value, Settings& s) {
  if (key == "verbose") {
    take(path, key, value, s.verbose, "true or false");
  } else if (key == "use_unix") {
    take(path, key, value, s.use_unix, "true or false");
  } else if (key == "port") {
    take(path, key, value, s.port, "a number");
    if (!value.is_number_integer() || s.port < 1 || s.port > 65535) {
      wrong(path, key, "expected a number from 1 to 65535, got " + value.dump());
    }
  } else if (key == "host") {
    take(path, key, value, s.host, "a name");
  } else if (key == "graph_file") {
    take(path, key, value, s.graph_file, "the name of a model file");
  } else if (key == "coord_file") {
    take(path, key, value, s.coord_file, "the name of an XYZ file");
  } else if (key == "atom_type") {
    take_types(path, value, s.atom_type);
  } else if (key.empty() || key[0] != '_') {  // _comment
    wrong(path, key, "unknown key; known are " + std::string(KEYS));
  }
}

}  // namespace

Settings read_settings(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    throw Error(path + ": cannot be read; give the JSON input file: dp_ipi INPUT.json");
  }
  json data;
  try {
    data = json::parse(file, nullptr, true, /*ignore_comments=*/true);
  } catch (const json::parse_error& error) {
    throw Error(path + ": is not JSON: " + error.what());
  }
  if (!data.is_object()) {
    throw Error(path + ": expected an object with the keys " + KEYS);
  }
  Settings settings;
  for (const auto& [key, value] : data.items()) {
    take_item(path, key, value, settings);
  }
  for (const auto& [key, value] : {std::pair("graph_file", settings.graph_file),
                                   std::pair("coord_file", settings.coord_file)}) {
    if (value.empty()) {
      wrong(path, key,
            "is missing; it names the " +
                std::string(key[0] == 'g' ? "model file" : "XYZ file with the atoms"));
    }
  }
  return settings;
}

std::vector<std::string> read_names(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    throw Error(path +
                ": cannot be read; coord_file is an XYZ file with the atoms in i-PI's order");
  }
  std::string line;
  std::getline(file, line);
  long natoms = 0;
  if (!(std::istringstream(line) >> natoms) || natoms < 1) {
    throw Error(path + ": the first line of an XYZ file is the number of atoms, not \"" + line +
                "\"");
  }
  std::getline(file, line);  // the comment
  std::vector<std::string> names;
  std::string name;
  while (static_cast<long>(names.size()) < natoms && std::getline(file, line)) {
    if (!(std::istringstream(line) >> name)) {
      break;
    }
    names.push_back(name);
  }
  if (static_cast<long>(names.size()) < natoms) {
    throw Error(path + ": has " + std::to_string(names.size()) + " of " + std::to_string(natoms) +
                " atoms");
  }
  return names;
}

}  // namespace deepmd::ipi
