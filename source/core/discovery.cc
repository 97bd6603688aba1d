// SPDX-License-Identifier: LGPL-3.0-or-later
#include "discovery.h"

#include <dirent.h>
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string_view>
#include <vector>

#include "backend/arrays.h"
#include "error.h"
#include "model.h"

namespace deepmd::core {

namespace {

constexpr const char* kNative = "native";

/**
 * A framework that is known by name.
 *
 * Which suffixes a backend opens it says itself. Here they only tell which library is tried first,
 * because loading a framework takes seconds, and what to install where there is none.
 */
struct Known {
  const char* key;
  const char* name;
  const char* package;  ///< what provides the framework
  std::vector<std::string> suffixes;
};

const std::vector<Known>& known_backends() {
  static const std::vector<Known> all = {
      {kNative,
       "native",
       "deepmd-kit",
       {".dp", ".hlo", ".pth", ".pb", ".savedmodel", ".savedmodeltf", ".yaml", ".yml"}},
      {"torch", "PyTorch", "torch", {".pth"}},
      {"tensorflow", "TensorFlow", "tensorflow", {".savedmodel", ".savedmodeltf", ".pb"}},
  };
  return all;
}

#ifdef __APPLE__
constexpr const char* kEnding = ".dylib";
constexpr const char* kLoaderPath = "DYLD_LIBRARY_PATH";
#else
constexpr const char* kEnding = ".so";
constexpr const char* kLoaderPath = "LD_LIBRARY_PATH";
#endif
constexpr std::string_view kBeginning = "libdeepmd_backend_";

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::vector<std::string> words(const char* text) {
  std::istringstream stream(text ? text : "");
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

bool has_suffix(const std::string& name, const std::vector<std::string>& suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](const std::string& suffix) { return ends_with(name, suffix); });
}

/** Add the folders of an environment variable. */
void add_folders(const char* variable, std::vector<std::string>& found) {
  const char* list = std::getenv(variable);
  std::string folder;
  for (const char* c = list; c; ++c) {
    if (*c != '\0' && *c != ':' && *c != ';') {
      folder += *c;
      continue;
    }
    if (!folder.empty()) found.push_back(folder);
    folder.clear();
    if (*c == '\0') break;
  }
}

/** Folders that are searched, in their order. */
std::vector<std::string> folders() {
  std::vector<std::string> found;
  add_folders("DP_BACKEND_PLUGIN_PATH", found);
  Dl_info here;
  if (dladdr(reinterpret_cast<void*>(&backend_for), &here) && here.dli_fname) {
    const std::string path = here.dli_fname;
    const size_t slash = path.rfind('/');
    found.push_back(slash == std::string::npos ? "." : path.substr(0, slash));
  }
  add_folders(kLoaderPath, found);
  return found;
}

const Known* known_by_key(const std::string& key) {
  for (const Known& known : known_backends()) {
    if (key == known.key) return &known;
  }
  return nullptr;
}

const Known& native_backend() { return *known_by_key(kNative); }

/** The framework of files of a name; null: there is none that is known. */
const Known* known_framework(const std::string& name) {
  for (const Known& known : known_backends()) {
    if (&known != &native_backend() && has_suffix(name, known.suffixes)) return &known;
  }
  return nullptr;
}

/** A name without the slashes of a folder. */
std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

/** Whether there is a graphics processor, on which a framework is faster than any processor. */
bool has_accelerator() {
  return access("/dev/nvidiactl", F_OK) == 0 || access("/dev/kfd", F_OK) == 0;
}

/**
 * Whether a library may have the function of backends, by its bytes.
 *
 * DeePMD-kit names its libraries alike. To load one beside ours would bring a second framework.
 */
bool names_entry(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  return bytes.find(std::string(DEEPMD_BACKEND_ENTRY) + '\0') != std::string::npos;
}

/** Libraries of backends by key; of several with one key the first that is found. */
std::map<std::string, std::string> libraries() {
  std::map<std::string, std::string> found;
  for (const std::string& folder : folders()) {
    DIR* listing = opendir(folder.c_str());
    if (!listing) continue;
    while (const dirent* entry = readdir(listing)) {
      const std::string name = entry->d_name;
      if (name.rfind(kBeginning, 0) != 0 || !ends_with(name, kEnding)) continue;
      const size_t size = name.size() - kBeginning.size() - std::string(kEnding).size();
      const std::string key = name.substr(kBeginning.size(), size), path = folder + "/" + name;
      if (known_by_key(key) || names_entry(path)) found.emplace(key, path);
    }
    closedir(listing);
  }
  return found;
}

/** Load a library, or throw what is missing. `known` may be null. */
void* load(const std::string& where, const Known* known) {
  // TensorFlow reads this when it is loaded: its hints about processors are no messages of a model.
  if (known && std::string_view(known->key) == "tensorflow") setenv("TF_CPP_MIN_LOG_LEVEL", "2", 0);
  // Never closed: frameworks do not survive it. They must not see each other's symbols either.
  if (void* handle = dlopen(where.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  const char* reason = dlerror();
  const std::string package = known ? known->package : "its framework";
  fail(where,
       std::string("Unable to load the ") + (known ? std::string(known->name) + " " : "") +
           "backend plugin: " + (reason ? reason : "unknown error"),
       "install " +
           (known ? "the package " + package + " (pip install " + package + ")" : package) +
           " where the plugin finds it, or add its libraries to " + kLoaderPath);
}

deepmd_backend_functions functions_of(void* handle, const std::string& where) {
  const auto entry = reinterpret_cast<deepmd_backend_entry>(dlsym(handle, DEEPMD_BACKEND_ENTRY));
  if (!entry) fail(where, "this library has no function " DEEPMD_BACKEND_ENTRY, "reinstall it");
  const deepmd_backend_functions* given = entry();
  deepmd_backend_functions functions{};
  if (given) functions = backend::read(given);
  // The version and the size come first in every version: these may always be read.
  if (!given || functions.version != DEEPMD_BACKEND_VERSION) {
    const std::string other = given ? std::to_string(functions.version) : "none";
    fail(where,
         "it speaks version " + other + " of the backend interface, this library version " +
             std::to_string(DEEPMD_BACKEND_VERSION),
         "install both from one release of deepmd-kit");
  }
  if (!functions.open || !functions.query || !functions.evaluate || !functions.close ||
      !functions.suffixes) {
    fail(where, "it lacks functions that every backend has, or names no suffixes", "reinstall it");
  }
  return functions;
}

/** Functions of the backend of a key. */
deepmd_backend_functions open_backend(const std::string& where, const Known* known) {
  return functions_of(load(where, known), where);
}

/** Functions of a known backend, which the dynamic loader may find where nothing is listed. */
deepmd_backend_functions open_known(const Known& known,
                                    const std::map<std::string, std::string>& found) {
  const auto place = found.find(known.key);
  if (place != found.end()) return open_backend(place->second, &known);
  const std::string name = std::string(kBeginning) + known.key + kEnding;
  if (void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    return functions_of(handle, name);
  }
  const char* reason = dlerror();
  std::string searched;
  for (const std::string& folder : folders()) searched += folder + ", ";
  fail(name,
       std::string("Unable to load the ") + known.name + " backend plugin: it is not in " +
           searched + "and the dynamic loader says: " + (reason ? reason : "unknown error"),
       std::string("install deepmd-kit with ") + known.name +
           ", or set DP_BACKEND_PLUGIN_PATH to the folder of " + name);
}

std::string listed(const std::vector<std::string>& items, const char* between) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : between) + item;
  return text;
}

/** Line of the summary about one backend. */
template <class Open>
std::string description(std::string name, std::vector<std::string> suffixes, const Open& open) {
  std::string state;
  try {
    const deepmd_backend_functions functions = open();
    suffixes = words(functions.suffixes);
    if (functions.name) name = functions.name;
    state = functions.framework ? functions.framework() : "available";
  } catch (const deepmd_exception& error) {
    state = std::string("not available: ") + error.what();
  }
  return name + " (" + listed(suffixes, " ") + "): " + state;
}

}  // namespace

Choice choice_of(const std::string& engine) {
  if (engine == "auto") return Choice::automatic;
  if (engine == "native") return Choice::native;
  if (engine == "framework") return Choice::framework;
  fail("engine", "\"" + engine + "\" is unknown", "give auto, native or framework");
}

std::vector<Opener> openers(const std::string& path, Choice choice) {
  const std::string name = without_slash(path);
  const bool native = has_suffix(name, native_backend().suffixes);
  const bool framework = known_framework(name) != nullptr;
  if (choice == Choice::native) return {Opener::native};
  if (choice == Choice::framework || !native) return {Opener::framework};
  if (!framework) return {Opener::native};
  if (has_accelerator()) return {Opener::framework, Opener::native};
  return {Opener::native, Opener::framework};
}

deepmd_backend_functions backend_for(const std::string& path, Opener opener) {
  const std::string name = without_slash(path);
  const std::map<std::string, std::string> found = libraries();
  std::vector<std::string> suffixes, problems;
  const auto fits = [&](const deepmd_backend_functions& functions) {
    const std::vector<std::string> own = words(functions.suffixes);
    suffixes.insert(suffixes.end(), own.begin(), own.end());
    return has_suffix(name, own);
  };
  const bool native = opener == Opener::native;
  const Known* likely = native ? &native_backend() : known_framework(name);
  if (native && !has_suffix(name, likely->suffixes)) {
    fail(path, "the native engine does not open files of this kind",
         "it opens " + listed(likely->suffixes, ", "));
  }
  if (!likely && has_suffix(name, native_backend().suffixes)) {
    fail(path, "no framework opens files of this kind in C++",
         "leave out engine framework, or convert the model to .pth");
  }
  // Others may open the file, too, but a problem with this one is the one to tell.
  if (likely && found.count(likely->key)) {
    const deepmd_backend_functions functions = open_known(*likely, found);
    if (fits(functions)) return functions;
  }
  for (const auto& [key, where] : found) {
    const Known* known = known_by_key(key);
    if (known && (likely || known == &native_backend())) continue;
    if (native) continue;
    try {
      const deepmd_backend_functions functions = open_backend(where, known);
      if (fits(functions)) return functions;
    } catch (const deepmd_exception& error) {
      const std::string text = error.what();
      problems.push_back(text.substr(text.find(": ") + 2));
    }
  }
  if (likely && !found.count(likely->key)) {
    const deepmd_backend_functions functions = open_known(*likely, found);
    if (fits(functions)) return functions;
  }
  for (const Known& known : known_backends()) {
    suffixes.insert(suffixes.end(), known.suffixes.begin(), known.suffixes.end());
  }
  std::sort(suffixes.begin(), suffixes.end());
  suffixes.erase(std::unique(suffixes.begin(), suffixes.end()), suffixes.end());
  fail(path, "Unsupported model file format",
       "known suffixes are " + listed(suffixes, ", ") +
           "; `dp freeze` makes one of these of checkpoints, `dp convert-backend` of model files" +
           (problems.empty() ? "" : "; not loaded: " + listed(problems, "; ")));
}

std::vector<std::string> describe_backends() {
  const std::map<std::string, std::string> found = libraries();
  std::vector<std::string> lines;
  for (const Known& known : known_backends()) {
    lines.push_back(
        description(known.name, known.suffixes, [&] { return open_known(known, found); }));
  }
  for (const auto& [key, where] : found) {
    if (known_by_key(key)) continue;
    const std::string& path = where;
    lines.push_back(description(key, {}, [&] { return open_backend(path, nullptr); }));
  }
  return lines;
}

}  // namespace deepmd::core
