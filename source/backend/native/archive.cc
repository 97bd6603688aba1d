// SPDX-License-Identifier: LGPL-3.0-or-later
/** The dictionary in an archive, .pth, and arrays as NumPy packs them, .npz. */
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "../zip.h"
#include "contents.h"

namespace deepmd::native {

namespace {

using backend::Damage;
using backend::Record;
using backend::ZipSource;

constexpr size_t kMostDims = 32;

/** Bytes of a record that is stored as it is; its checksum is compared. */
std::string_view content_of(std::string_view bytes, ZipSource& source, const Record& record) {
  if (record.compressed) throw Damage("has compressed arrays");
  const uint64_t begin = backend::zip_begin(source, record);
  const std::string_view content = bytes.substr(begin, record.size);
  if (backend::zip_checksum(content) != record.checksum) {
    throw Damage("is damaged: " + record.name + " does not have its checksum");
  }
  return content;
}

/** The record of a name in the only folder of an archive. */
const Record* find(const std::vector<Record>& records, const std::string& name) {
  const Record* found = nullptr;
  for (const Record& record : records) {
    const size_t folder = record.name.find('/');
    if (folder == std::string::npos || record.name.compare(folder + 1, std::string::npos, name)) {
      continue;
    }
    if (found) throw Damage("has two records of one name, " + name);
    found = &record;
  }
  return found;
}

/** The text between two others, or Damage. */
std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const size_t from = text.find(begin);
  const size_t to = from == std::string::npos ? from : text.find(end, from + begin.size());
  if (to == std::string::npos) throw Damage("has an array whose header is damaged");
  return text.substr(from + begin.size(), to - from - begin.size());
}

std::vector<int64_t> numbers_in(const std::string& text) {
  std::vector<int64_t> found;
  for (size_t at = 0; at < text.size() && found.size() < kMostDims;) {
    if (text[at] < '0' || text[at] > '9') {
      ++at;
      continue;
    }
    int64_t value = 0;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
      value = value * 10 + (text[at] - '0');
      if (value > int64_t{1} << 40) throw Damage("has an array of an impossible size");
    }
    found.push_back(value);
  }
  return found;
}

/** Reorder an array whose first axis runs fastest. */
std::string in_c_order(const Array& array) {
  const size_t dims = array.shape.size();
  const auto total = static_cast<size_t>(array.size());
  std::string to(total * array.item, '\0');
  std::vector<size_t> stride(dims, 1), index(dims, 0);
  for (size_t d = 1; d < dims; ++d) {
    stride[d] = stride[d - 1] * static_cast<size_t>(array.shape[d - 1]);
  }
  for (size_t k = 0; k < total; ++k) {
    size_t from = 0;
    for (size_t d = 0; d < dims; ++d) from += index[d] * stride[d];
    std::memcpy(to.data() + k * array.item, array.data + from * array.item, array.item);
    for (size_t d = dims; d-- > 0;) {
      if (++index[d] < static_cast<size_t>(array.shape[d])) break;
      index[d] = 0;
    }
  }
  return to;
}

/** An array as NumPy stores it: a header in the form of a Python dictionary, and the numbers. */
Array array_of(std::string_view bytes, std::deque<std::string>& memory) {
  if (bytes.size() < 12 || bytes.compare(0, 6, "\x93NUMPY") != 0) {
    throw Damage("has an array that NumPy did not write");
  }
  const auto byte = [&](size_t k) { return static_cast<size_t>(static_cast<uint8_t>(bytes[k])); };
  const bool wide = byte(6) != 1;
  const size_t begin = wide ? 12 : 10;
  const size_t size = byte(8) | byte(9) << 8 | (wide ? byte(10) << 16 | byte(11) << 24 : 0);
  if (byte(6) > 2 || size > bytes.size() - begin) throw Damage("has an array without a header");
  const std::string head(bytes.substr(begin, size));
  const std::string_view rest = bytes.substr(begin + size);
  Array array;
  array.dtype = between(head, "'descr': '", "'");
  const bool fortran = between(head, "'fortran_order': ", ",") == "True";
  array.shape = numbers_in(between(head, "'shape': (", ")"));
  if (array.dtype.size() < 3) throw Damage("has an array of unknown numbers");
  const std::vector<int64_t> item = numbers_in(array.dtype.substr(2));
  if (item.size() != 1 || item[0] < 1) throw Damage("has an array of unknown numbers");
  array.item = static_cast<size_t>(item[0]);
  uint64_t total = array.item;
  for (const int64_t n : array.shape) {
    if (n > 0 && total > rest.size() / static_cast<uint64_t>(n)) {
      throw Damage("has an array that is larger than its record");
    }
    total *= static_cast<uint64_t>(n);
  }
  if (total != rest.size()) throw Damage("has an array that is smaller than its record");
  array.data = reinterpret_cast<const unsigned char*>(rest.data());
  if (fortran && array.shape.size() > 1 && total > 0) {
    memory.push_back(in_c_order(array));
    array.data = reinterpret_cast<const unsigned char*>(memory.back().data());
  }
  return array;
}

[[noreturn]] void damaged(const Damage& damage) {
  throw Failure(std::string("the file ") + damage.what() + "; copy or freeze it again");
}

}  // namespace

void read_archive(std::string_view bytes, Contents& contents) {
  try {
    ZipSource source(bytes);
    const std::vector<Record> records = backend::zip_contents(source);
    const Record* text = find(records, "extra/model.json");
    const Record* arrays = find(records, "extra/arrays.npz");
    if (!text || !arrays) {
      throw Failure("an archive without a neutral model is not known to the native engine");
    }
    contents.json = content_of(bytes, source, *text);
    read_npz(content_of(bytes, source, *arrays), contents);
  } catch (const Damage& damage) {
    damaged(damage);
  }
}

void read_npz(std::string_view bytes, Contents& contents) {
  try {
    ZipSource source(bytes);
    for (const Record& record : backend::zip_contents(source)) {
      const std::string ending = ".npy";
      if (record.name.size() <= ending.size()) continue;
      const std::string name = record.name.substr(0, record.name.size() - ending.size());
      contents.arrays[name] = array_of(content_of(bytes, source, record), contents.memory);
    }
  } catch (const Damage& damage) {
    damaged(damage);
  }
}

}  // namespace deepmd::native
