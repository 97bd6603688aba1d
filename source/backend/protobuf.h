// SPDX-License-Identifier: LGPL-3.0-or-later
/** Protocol buffers without a library: the few messages that are looked at before TensorFlow. */
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deepmd::backend {

/** One field of a message. */
struct Field {
  uint32_t number = 0;
  uint64_t value = 0;      ///< of numbers
  std::string_view bytes;  ///< of texts and messages; the number is that of the bytes otherwise
};

/** Fields of a message in their order; throws Failure where it is cut off or damaged. */
std::vector<Field> fields(std::string_view message);

/** The last field of a number as bytes, empty if there is none. */
std::string_view bytes_of(std::string_view message, uint32_t number);

/** All fields of a number as bytes. */
std::vector<std::string_view> all_of(std::string_view message, uint32_t number);

/** The last field of a number as a number, 0 if there is none. */
uint64_t number_of(std::string_view message, uint32_t number);

/** Value of a key in a map of texts to messages, empty if there is none. */
std::string_view entry_of(std::string_view message, uint32_t number, std::string_view key);

/** Append a field. */
void put(std::string& message, uint32_t number, std::string_view bytes);
void put(std::string& message, uint32_t number, uint64_t value);

}  // namespace deepmd::backend
