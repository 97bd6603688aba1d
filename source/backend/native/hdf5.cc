// SPDX-License-Identifier: LGPL-3.0-or-later
#include "hdf5.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace deepmd::native {

namespace {

constexpr uint64_t kUndefined = ~uint64_t{0};
constexpr int kDeepest = 16;

[[noreturn]] void damaged() {
  throw Failure("the HDF5 file is damaged or incomplete; copy or freeze it again");
}

[[noreturn]] void unknown(const char* what) {
  throw Failure(std::string("the HDF5 file has ") + what +
                ", which the native engine does not read; write it again with dp convert-backend");
}

enum MessageType : unsigned {
  kDataspace = 1,
  kDatatype = 3,
  kLayout = 8,
  kFilters = 11,
  kAttribute = 12,
  kContinuation = 16,
  kSymbolTable = 17,
};

size_t padded(size_t n) { return (n + 7) / 8 * 8; }

/** Dimensions of a dataspace message. */
std::vector<int64_t> dimensions(std::string_view bytes, size_t at, size_t size) {
  const auto version = static_cast<unsigned char>(bytes[at]);
  const auto rank = static_cast<unsigned char>(bytes[at + 1]);
  const size_t first = at + (version == 1 ? 8 : 4);
  if ((version != 1 && version != 2) || rank > 32 || first + 8 * rank > at + size) damaged();
  std::vector<int64_t> shape(rank);
  for (size_t k = 0; k < rank; ++k) std::memcpy(&shape[k], bytes.data() + first + 8 * k, 8);
  return shape;
}

}  // namespace

Hdf5::Hdf5(std::string_view bytes) : bytes_(bytes) {
  static const char signature[] = "\x89HDF\r\n\x1a\n";
  need(0, 96);
  if (std::memcmp(bytes_.data(), signature, 8) != 0) {
    throw Failure("this is no HDF5 file, as .dp files are");
  }
  if (number(8, 1) != 0) unknown("a superblock of a later version");
  if (number(13, 1) != 8 || number(14, 1) != 8) unknown("offsets that have not 8 bytes");
  const size_t root = number(64, 8);
  for (const Message& m : header(root)) {
    if (m.type == kAttribute) read_attribute(m);
    if (m.type == kSymbolTable) {
      need(m.begin, 16);
      const size_t heap = number(m.begin + 8, 8);
      need(heap, 32);
      if (!is(heap, "HEAP")) damaged();
      read_group(number(m.begin, 8), number(heap + 24, 8), 0);
    }
  }
}

const std::string* Hdf5::text(const std::string& name) const {
  const auto found = texts_.find(name);
  return found == texts_.end() ? nullptr : &found->second;
}

uint64_t Hdf5::number(size_t at, int bytes) const {
  need(at, static_cast<uint64_t>(bytes));
  uint64_t value = 0;
  std::memcpy(&value, bytes_.data() + at, static_cast<size_t>(bytes));
  return value;
}

void Hdf5::need(uint64_t at, uint64_t size) const {
  if (at > bytes_.size() || size > bytes_.size() - at) damaged();
}

bool Hdf5::is(size_t at, const char* signature) const {
  need(at, 4);
  return std::memcmp(bytes_.data() + at, signature, 4) == 0;
}

/** Messages of an object header and its continuations. */
std::vector<Hdf5::Message> Hdf5::header(size_t at) const {
  need(at, 16);
  if (number(at, 1) != 1) unknown("object headers of a later version");
  const size_t count = number(at + 2, 2);
  std::vector<std::pair<size_t, size_t>> blocks = {{at + 16, number(at + 8, 4)}};
  std::vector<Message> messages;
  for (size_t b = 0; b < blocks.size() && b < count + 1; ++b) {
    auto [begin, size] = blocks[b];
    need(begin, size);
    const size_t end = begin + size;
    while (begin + 8 <= end && messages.size() < count) {
      const Message m{static_cast<unsigned>(number(begin, 2)), begin + 8, number(begin + 2, 2)};
      if (m.begin + m.size > end) damaged();
      messages.push_back(m);
      if (m.type == kContinuation && m.size >= 16) {
        blocks.emplace_back(number(m.begin, 8), number(m.begin + 8, 8));
      }
      begin = m.begin + m.size;
    }
  }
  return messages;
}

void Hdf5::read_group(size_t tree, size_t heap_data, int depth) {
  need(tree, 24);
  if (!is(tree, "TREE") || number(tree + 4, 1) != 0 || depth > kDeepest) damaged();
  const size_t level = number(tree + 5, 1), entries = number(tree + 6, 2);
  for (size_t k = 0; k < entries; ++k) {
    const size_t child = number(tree + 24 + 8 + 16 * k, 8);
    if (level > 0) {
      read_group(child, heap_data, depth + 1);
    } else {
      read_names(child, heap_data);
    }
  }
}

void Hdf5::read_names(size_t node, size_t heap_data) {
  need(node, 8);
  if (!is(node, "SNOD")) damaged();
  const size_t entries = number(node + 6, 2);
  for (size_t k = 0; k < entries; ++k) {
    const size_t entry = node + 8 + 40 * k;
    need(entry, 40);
    const size_t name = heap_data + number(entry, 8);
    if (name >= bytes_.size() || number(entry + 16, 4) == 2) continue;  // a symbolic link
    const size_t end = bytes_.find('\0', name);
    if (end == std::string::npos) damaged();
    read_dataset(std::string(bytes_.substr(name, end - name)), number(entry + 8, 8));
  }
}

void Hdf5::read_type(size_t at, Array& array) const {
  need(at, 8);
  const unsigned kind = number(at, 1) & 15U, bits = static_cast<unsigned>(number(at + 1, 1));
  array.item = number(at + 4, 4);
  const std::string size = std::to_string(array.item);
  if (kind <= 1 && (bits & 1U) != 0 && array.item > 1) unknown("big-endian numbers");
  const std::string order = array.item > 1 ? "<" : "|";
  if (kind == 0) {
    array.dtype = order + ((bits & 8U) != 0 ? "i" : "u") + size;
  } else if (kind == 1) {
    array.dtype = order + "f" + size;
  } else if (kind == 5) {
    array.dtype = "|V" + size;
  } else if (kind == 8 && array.item == 1) {
    array.dtype = "|b1";  // h5py's booleans are an enumeration
  }
}

void Hdf5::read_dataset(const std::string& name, size_t at) {
  Array array;
  size_t begin = 0, size = 0;
  bool has_space = false;
  for (const Message& m : header(at)) {
    if (m.type == kDatatype) read_type(m.begin, array);
    if (m.type == kDataspace) {
      need(m.begin, 8);
      array.shape = dimensions(bytes_, m.begin, m.size);
      has_space = true;
    }
    if (m.type == kFilters) unknown("compressed arrays");
    if (m.type != kLayout) continue;
    const uint64_t version = number(m.begin, 1), kind = number(m.begin + 1, 1);
    if (version != 3 || kind > 1) unknown("arrays in pieces");
    begin = kind == 0 ? m.begin + 4 : number(m.begin + 2, 8);
    size = kind == 0 ? number(m.begin + 2, 2) : number(m.begin + 10, 8);
  }
  if (array.dtype.empty() || !has_space) return;  // a group, or no numbers
  uint64_t total = array.item;
  for (const int64_t n : array.shape) {
    if (n < 0 || (n > 0 && total > bytes_.size() / static_cast<uint64_t>(n))) damaged();
    total *= static_cast<uint64_t>(n);
  }
  if (total > 0) {
    if (begin == kUndefined || total > size) damaged();
    need(begin, total);
    array.data = reinterpret_cast<const unsigned char*>(bytes_.data()) + begin;
  }
  arrays_["/" + name] = array;
}

void Hdf5::read_attribute(const Message& m) {
  need(m.begin, 8);
  const uint64_t version = number(m.begin, 1);
  if (version < 1 || version > 3) damaged();
  const size_t sizes[3] = {number(m.begin + 2, 2), number(m.begin + 4, 2), number(m.begin + 6, 2)};
  size_t at = m.begin + (version == 3 ? 9 : 8);
  const auto next = [&](size_t n) { return at += version == 1 ? padded(n) : n; };
  need(at, sizes[0]);
  const std::string name(bytes_.data() + at, strnlen(bytes_.data() + at, sizes[0]));
  const size_t type = next(sizes[0]);
  const size_t space = next(sizes[1]);
  const size_t value = next(sizes[2]);
  need(space, std::max<size_t>(sizes[2], 8));
  need(type, 8);
  const unsigned kind = number(type, 1) & 15U;
  if (!dimensions(bytes_, space, sizes[2]).empty()) return;
  if (kind == 9) {
    texts_[name] = heap_text(value);
  } else if (kind == 3) {
    const size_t length = number(type + 4, 4);
    need(value, length);
    texts_[name] = std::string(bytes_.data() + value, strnlen(bytes_.data() + value, length));
  }
}

/** A text of variable length, in the global heap. */
std::string Hdf5::heap_text(size_t at) const {
  const size_t length = number(at, 4), collection = number(at + 4, 8), index = number(at + 12, 4);
  if (!is(collection, "GCOL")) damaged();
  const size_t end = collection + number(collection + 8, 8);
  size_t object = collection + 16;
  while (object + 16 <= end && end <= bytes_.size()) {
    const size_t found = number(object, 2), size = number(object + 8, 8);
    if (found == index) {
      if (length > size) damaged();
      need(object + 16, length);
      return std::string(bytes_.substr(object + 16, length));
    }
    if (found == 0 || size > bytes_.size()) break;
    object += 16 + padded(size);
  }
  damaged();
}

}  // namespace deepmd::native
