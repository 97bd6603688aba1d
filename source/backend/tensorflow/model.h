// SPDX-License-Identifier: LGPL-3.0-or-later
/** An open file of TensorFlow. Nothing of TensorFlow is seen here. */
#pragma once

#include <memory>
#include <string>

#include "../entry.h"

namespace deepmd::tensorflow_backend {

using backend::Failure;

/** The program of a file. */
class Program {
 public:
  virtual ~Program() = default;
  const deepmd_info& info() const { return info_; }

  /** Evaluate; may be called from several threads at once. */
  virtual void evaluate(const deepmd_edges_request& request) const;
  virtual void evaluate(const deepmd_extended_request& request) const;

 protected:
  /** Point the structure for the library to the texts. */
  void set_info(uint32_t entries, int64_t chunk_edges = 0);

  std::string description_, probes_;  ///< JSON

 private:
  deepmd_info info_{};
};

/** Open a frozen graph or a SavedModel; throws Failure. */
std::shared_ptr<Program> open_program(const deepmd_source& source);

/** The evaluation entry by edges of a frozen graph, of its content. */
std::shared_ptr<Program> open_frozen(std::string content);

/** The functions of a SavedModel of DeePMD-kit, of the content of its saved_model.pb. */
std::shared_ptr<Program> open_saved(const std::string& content);

/** JSON beside the program of a SavedModel of this project. */
struct SavedTexts {
  std::string description, probes;
};

/** The evaluation entry by edges of a SavedModel of this project. */
std::shared_ptr<Program> open_own_saved(const std::string& content, const SavedTexts& texts);

/** Refuse a function or graph whose operators are not allowed; runs nothing. */
void check_operators(std::string_view nodes_of, uint32_t field);

/** "TensorFlow 2.21.0 (CPU)" */
const std::string& framework_name();

/** What an exception or status says, without the places in TensorFlow. */
std::string first_words(const std::string& message);

}  // namespace deepmd::tensorflow_backend
