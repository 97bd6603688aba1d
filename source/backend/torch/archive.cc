// SPDX-License-Identifier: LGPL-3.0-or-later
/**
 * The archive of a file, looked at before torch reads it.
 *
 * torch takes sizes in an archive as they are, and compares no checksums. Damage, or bytes made for
 * harm, would end in wrong numbers, in all memory being taken, or in a crash.
 */
#include "archive.h"

#include <algorithm>

#include "model.h"
#include "pickle.h"

namespace deepmd::torch_backend {

using backend::Damage;

namespace {

constexpr int deepest = 200;  // brackets of a program within each other

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/** Brackets and indentation of a program: torch's parser calls itself for each of them. */
void check_depth(const std::string& code) {
  int depth = 0, indent = 0;
  bool at_start = true;
  for (const char c : code) {
    if (c == '\n') {
      at_start = true;
      indent = 0;
    } else if (at_start && (c == ' ' || c == '\t')) {
      ++indent;
    } else {
      at_start = false;
    }
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') depth = std::max(0, depth - 1);
    if (depth > deepest || indent > 8 * deepest) throw Damage("has a program nested too deeply");
  }
}

/**
 * Refuse what would run while torch reads the file.
 *
 * Afterwards, the operators of the program are compared with the list of those allowed, and nothing
 * of it has run until then.
 */
void check_text(const std::string& name, std::string text) {
  if (ends_with(name, ".py")) {
    check_depth(text);
    if (text.find("__setstate__") != std::string::npos) {
      throw Damage("runs a program of its own when it is read (__setstate__)");
    }
  }
  if (ends_with(name, "pkl")) {  // ".debug_pkl", too, which is read when a program fails
    if (const char* fault = pickle_fault(text)) throw Damage(std::string("has a pickle ") + fault);
    std::replace(text.begin(), text.end(), '\n', '.');  // between a module's name and a class's
    if (text.find("torch.classes") != std::string::npos) {
      throw Damage("holds objects of native classes (torch.classes)");
    }
  }
}

}  // namespace

std::vector<Record> read_records(std::istream& stream, const std::string& path, const Reader& get) {
  std::vector<Record> records;
  try {
    backend::ZipSource source(stream);
    records = backend::zip_contents(source);
    for (const Record& r : records) {
      const bool text = ends_with(r.name, ".py") || ends_with(r.name, "pkl");
      std::string content;
      if (text || r.compressed) {
        // Names begin with the folder that an archive has everything in.
        const size_t folder = r.name.find('/');
        content = get(folder == std::string::npos ? r.name : r.name.substr(folder + 1), r.size);
      }
      const bool intact = text || r.compressed ? backend::zip_checksum(content) == r.checksum
                                               : backend::zip_is_intact(source, r);
      if (!intact) throw Damage("is damaged: " + r.name + " does not have its checksum");
      if (text) check_text(r.name, std::move(content));
    }
  } catch (const Damage& damage) {
    throw Failure(path + ": the file " + damage.what() + "; copy or freeze it again");
  }
  stream.clear();
  stream.seekg(0);
  return records;
}

}  // namespace deepmd::torch_backend
