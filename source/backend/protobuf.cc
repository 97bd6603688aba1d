// SPDX-License-Identifier: LGPL-3.0-or-later
#include "protobuf.h"

#include "entry.h"

namespace deepmd::backend {
namespace {

[[noreturn]] void damaged() {
  throw Failure("the file is cut off or damaged; copy or freeze it again");
}

uint64_t varint(std::string_view& rest) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (rest.empty()) damaged();
    const auto byte = static_cast<unsigned char>(rest.front());
    rest.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  damaged();
}

std::string_view take(std::string_view& rest, uint64_t size) {
  if (size > rest.size()) damaged();
  const std::string_view taken = rest.substr(0, size);
  rest.remove_prefix(size);
  return taken;
}

void put_varint(std::string& message, uint64_t value) {
  for (; value >= 0x80; value >>= 7) message.push_back(static_cast<char>(value | 0x80));
  message.push_back(static_cast<char>(value));
}

}  // namespace

std::vector<Field> fields(std::string_view message) {
  std::vector<Field> found;
  while (!message.empty()) {
    const uint64_t key = varint(message);
    Field field;
    field.number = static_cast<uint32_t>(key >> 3);
    switch (key & 7) {
      case 0:
        field.value = varint(message);
        break;
      case 1:
        field.bytes = take(message, 8);
        break;
      case 2:
        field.bytes = take(message, varint(message));
        break;
      case 5:
        field.bytes = take(message, 4);
        break;
      default:
        damaged();
    }
    found.push_back(field);
  }
  return found;
}

std::vector<std::string_view> all_of(std::string_view message, uint32_t number) {
  std::vector<std::string_view> found;
  for (const Field& field : fields(message)) {
    if (field.number == number) found.push_back(field.bytes);
  }
  return found;
}

std::string_view bytes_of(std::string_view message, uint32_t number) {
  const auto found = all_of(message, number);
  return found.empty() ? std::string_view() : found.back();
}

uint64_t number_of(std::string_view message, uint32_t number) {
  uint64_t value = 0;
  for (const Field& field : fields(message)) {
    if (field.number == number) value = field.value;
  }
  return value;
}

std::string_view entry_of(std::string_view message, uint32_t number, std::string_view key) {
  std::string_view found;
  for (const std::string_view entry : all_of(message, number)) {
    if (bytes_of(entry, 1) == key) found = bytes_of(entry, 2);
  }
  return found;
}

void put(std::string& message, uint32_t number, std::string_view bytes) {
  put_varint(message, uint64_t{number} << 3 | 2);
  put_varint(message, bytes.size());
  message.append(bytes);
}

void put(std::string& message, uint32_t number, uint64_t value) {
  put_varint(message, uint64_t{number} << 3);
  put_varint(message, value);
}

}  // namespace deepmd::backend
