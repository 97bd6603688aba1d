// SPDX-License-Identifier: LGPL-3.0-or-later
#include "pickle.h"

#include <cstdint>
#include <cstring>

namespace deepmd::torch_backend {
namespace {

constexpr size_t none = static_cast<size_t>(-1);

/** Bytes of an instruction's argument of a fixed size; torch writes no others than these. */
size_t fixed_size(unsigned char instruction) {
  switch (instruction) {
    case 'K':   // integer of one byte
    case 'h':   // entry of the memo, its number in one byte
    case 'q':   // the same, to set it
    case 0x80:  // protocol
      return 1;
    case 'M':  // integers
      return 2;
    case 'J':
    case 'j':  // entry of the memo, its number in four bytes
    case 'r':
      return 4;
    case 'G':  // number
      return 8;
    default: {
      constexpr char alone[] = "(.)N012QR]}abestu\x81\x85\x86\x87\x88\x89";
      return instruction != 0 && std::strchr(alone, instruction) ? 0 : none;
    }
  }
}

/** Bytes of the length before an argument of another size; 0 for other instructions. */
size_t length_size(unsigned char instruction) {
  if (instruction == 'X' || instruction == 'T' || instruction == 'B') return 4;  // texts
  return instruction == 'U' || instruction == 0x8a ? 1 : 0;  // short texts, long integers
}

/** Integer of `n` bytes, the lowest first, as far as there are bytes. */
uint64_t integer(const std::string& code, size_t at, size_t n) {
  uint64_t value = 0;
  for (size_t k = 0; k < n && at + k < code.size(); ++k) {
    value |= uint64_t{static_cast<unsigned char>(code[at + k])} << (8 * k);
  }
  return value;
}

}  // namespace

const char* pickle_fault(const std::string& code) {
  constexpr const char* cut = "that is cut off";
  uint64_t entries = 0;
  for (size_t at = 0; at < code.size();) {
    const auto instruction = static_cast<unsigned char>(code[at++]);
    if (instruction == '.') return nullptr;
    if (instruction == 'c') {  // two lines: a module, and a name in it
      for (int line = 0; line < 2; ++line) {
        at = code.find('\n', at);
        if (at == std::string::npos) return cut;
        ++at;
      }
      continue;
    }
    const size_t length = length_size(instruction);
    const size_t size = length ? length + integer(code, at, length) : fixed_size(instruction);
    if (size == none) return "of unknown instructions";
    if (size > code.size() - at) return cut;
    if (instruction == 'q' || instruction == 'r') {
      if (integer(code, at, size) > entries) return "that refers to what it does not hold";
      ++entries;
    }
    at += size;
  }
  return cut;
}

}  // namespace deepmd::torch_backend
