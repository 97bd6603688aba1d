// SPDX-License-Identifier: LGPL-3.0-or-later
#include "settings.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>

#include "model.h"

namespace deepmd_lmp {
namespace {

using Values = std::vector<std::string>;

/** How a keyword is read: how many values it takes, and what becomes of them. */
struct Keyword {
  size_t least;
  size_t most;
  std::string takes;
  std::function<void(Settings&, const Values&)> read;
};

constexpr size_t any = static_cast<size_t>(-1);

double number(const std::string& word) {
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  if (word.empty() || *end || !std::isfinite(value)) {
    throw Failure("\"" + word + "\" is no number");
  }
  return value;
}

int integer(const std::string& word, int least) {
  char* end = nullptr;
  const long value = std::strtol(word.c_str(), &end, 10);
  if (word.empty() || *end || value > INT_MAX) throw Failure("\"" + word + "\" is no integer");
  if (value < least) throw Failure(word + " is less than " + std::to_string(least));
  return static_cast<int>(value);
}

bool yes(const std::string& word) {
  if (word == "yes" || word == "on" || word == "true") return true;
  if (word == "no" || word == "off" || word == "false") return false;
  throw Failure("\"" + word + "\" is neither yes nor no");
}

std::vector<double> numbers(const Values& words) {
  std::vector<double> values;
  for (const std::string& word : words) values.push_back(number(word));
  return values;
}

double level(const std::string& word) {
  const double value = number(word);
  if (!(value >= 0.0)) throw Failure(word + " is negative");
  return value;
}

bool unfolded(const std::string& word) {
  if (word != "edges" && word != "unfolded") {
    throw Failure("\"" + word + "\" is neither edges nor unfolded");
  }
  return word == "unfolded";
}

Messages messages(const std::string& word) {
  if (word == "auto") return Messages::automatic;
  if (word == "halo") return Messages::halo;
  if (word == "layer") return Messages::layer;
  throw Failure("\"" + word + "\" is neither auto, halo nor layer");
}

const std::map<std::string, Keyword>& keywords() {
  static const std::map<std::string, Keyword> table = {
      {"out_file", {1, 1, "a file name", [](auto& s, auto& v) { s.out_file = v[0]; }}},
      {"out_freq", {1, 1, "an integer", [](auto& s, auto& v) { s.out_freq = integer(v[0], 0); }}},
      {"atomic", {0, 0, "no value", [](auto& s, auto&) { s.atomic = true; }}},
      {"relative", {1, 1, "a number", [](auto& s, auto& v) { s.relative = level(v[0]); }}},
      {"relative_v", {1, 1, "a number", [](auto& s, auto& v) { s.relative_v = level(v[0]); }}},
      {"fparam", {1, any, "numbers", [](auto& s, auto& v) { s.fparam = numbers(v); }}},
      {"fparam_from_compute",
       {1, 1, "the ID of a compute", [](auto& s, auto& v) { s.fparam_compute = v[0]; }}},
      {"fparam_from_fix",
       {1, 2, "the ID of a fix, and an index into its vector",
        [](auto& s, auto& v) {
          s.fparam_fix = v[0];
          s.fparam_fix_index = v.size() > 1 ? integer(v[1], 1) : 0;
        }}},
      {"aparam", {1, any, "numbers", [](auto& s, auto& v) { s.aparam = numbers(v); }}},
      {"aparam_from_compute",
       {1, 1, "the ID of a compute", [](auto& s, auto& v) { s.aparam_compute = v[0]; }}},
      {"charge_spin", {1, any, "numbers", [](auto& s, auto& v) { s.charge_spin = numbers(v); }}},
      {"ttm", {1, 1, "the ID of a fix ttm", [](auto& s, auto& v) { s.ttm = v[0]; }}},
      {"virtual_len", {1, any, "numbers", [](auto&, auto&) {}}},  // of old inputs with spins
      {"spin_norm", {1, any, "numbers", [](auto&, auto&) {}}},
      {"engine", {1, 1, "auto, native or framework", [](auto& s, auto& v) { s.engine = v[0]; }}},
      {"atom_virial",
       {1, 1, "edges or unfolded", [](auto& s, auto& v) { s.unfolded = unfolded(v[0]); }}},
      {"messages",
       {1, 1, "auto, halo or layer", [](auto& s, auto& v) { s.messages = messages(v[0]); }}},
      {"check_probes", {1, 1, "yes or no", [](auto& s, auto& v) { s.check_probes = yes(v[0]); }}},
  };
  return table;
}

/** Letters to change to make one word of the other. */
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string did_you_mean(const std::string& word) {
  std::string best, all;
  size_t least = std::max<size_t>(1, word.size() / 3) + 1;
  for (const auto& [name, keyword] : keywords()) {
    all += " " + name;
    const size_t steps = distance(word, name);
    if (steps < least) {
      least = steps;
      best = name;
    }
  }
  return best.empty() ? "; keywords are" + all : "; did you mean " + best + "?";
}

void check_exclusive(const Settings& s) {
  const int fparams = !s.fparam.empty() + !s.fparam_compute.empty() + !s.fparam_fix.empty();
  if (fparams > 1) {
    throw Failure("fparam, fparam_from_compute and fparam_from_fix exclude each other");
  }
  if (!s.aparam.empty() + !s.aparam_compute.empty() + !s.ttm.empty() > 1) {
    throw Failure("aparam, aparam_from_compute and ttm exclude each other");
  }
  if (s.messages == Messages::layer && s.unfolded) {
    throw Failure("atom_virial unfolded needs messages halo");
  }
}

}  // namespace

Settings parse_settings(int narg, char** arg) {
  const Values words(arg, arg + narg);
  Settings settings;
  size_t at = 0;
  for (; at < words.size() && !keywords().count(words[at]); ++at) {
    // A mistyped keyword looks like a further model.
    if (at > 0 && !std::filesystem::path(words[at]).has_extension()) {
      throw Failure("\"" + words[at] + "\" is neither a model file nor a keyword" +
                    did_you_mean(words[at]));
    }
    settings.models.push_back(words[at]);
  }
  if (settings.models.empty()) throw Failure("a model file is wanted: pair_style deepmd FILE ...");
  while (at < words.size()) {
    const std::string& name = words[at++];
    const auto found = keywords().find(name);
    if (found == keywords().end()) {
      throw Failure("unknown keyword \"" + name + "\"" + did_you_mean(name));
    }
    const Keyword& keyword = found->second;
    Values values;
    while (at < words.size() && values.size() < keyword.most && !keywords().count(words[at])) {
      values.push_back(words[at++]);
    }
    if (values.size() < keyword.least) throw Failure(name + " wants " + keyword.takes);
    try {
      keyword.read(settings, values);
    } catch (const Failure& failure) {
      throw Failure(name + ": " + failure.what());
    }
  }
  check_exclusive(settings);
  return settings;
}

}  // namespace deepmd_lmp
