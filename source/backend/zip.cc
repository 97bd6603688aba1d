// SPDX-License-Identifier: LGPL-3.0-or-later
#include "zip.h"

#include <algorithm>
#include <array>

namespace deepmd::backend {

namespace {

constexpr uint64_t largest_text = uint64_t{64} << 20;  // bytes of a record that is compressed

/** Checksums of zip archives (CRC-32), eight bytes at a time. */
class Checksum {
 public:
  Checksum() {
    for (uint32_t n = 0; n < 256; ++n) {
      uint32_t c = n;
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
      table_[0][n] = c;
    }
    for (uint32_t n = 0; n < 256; ++n) {
      for (int k = 1; k < 8; ++k) {
        const uint32_t before = table_[k - 1][n];
        table_[k][n] = table_[0][before & 0xff] ^ (before >> 8);
      }
    }
  }

  uint32_t operator()(const unsigned char* data, size_t size, uint32_t start = 0) const {
    uint32_t c = ~start;
    for (; size >= 8; size -= 8, data += 8) {
      const uint32_t low = c ^ (data[0] | data[1] << 8 | data[2] << 16 | uint32_t{data[3]} << 24);
      c = table_[7][low & 0xff] ^ table_[6][low >> 8 & 0xff] ^ table_[5][low >> 16 & 0xff] ^
          table_[4][low >> 24] ^ table_[3][data[4]] ^ table_[2][data[5]] ^ table_[1][data[6]] ^
          table_[0][data[7]];
    }
    for (; size > 0; --size, ++data) c = table_[0][(c ^ *data) & 0xff] ^ (c >> 8);
    return ~c;
  }

 private:
  std::array<std::array<uint32_t, 256>, 8> table_{};
};

/** Integer of `n` bytes, the lowest first. */
uint64_t integer(const std::string& bytes, size_t at, int n) {
  if (at > bytes.size() || bytes.size() - at < static_cast<size_t>(n)) throw Damage("is cut off");
  uint64_t value = 0;
  for (int k = n - 1; k >= 0; --k) value = value << 8 | static_cast<unsigned char>(bytes[at + k]);
  return value;
}

/** Sizes and offsets beyond 32 bits are in a field of their own (zip64). */
void widen(const std::string& table, size_t at, size_t end, Record& r, uint64_t& packed) {
  while (at + 4 <= end) {
    const uint64_t kind = integer(table, at, 2), size = integer(table, at + 2, 2);
    if (kind == 1) {
      size_t field = at + 4;
      for (uint64_t* value : {&r.size, &packed, &r.offset}) {
        if (*value != 0xffffffffu) continue;
        *value = integer(table, field, 8);
        field += 8;
      }
      return;
    }
    at += 4 + size;
  }
}

}  // namespace

ZipSource::ZipSource(std::istream& stream) : stream_(&stream) {
  stream.clear();
  stream.seekg(0, std::ios::end);
  size_ = static_cast<uint64_t>(stream.tellg());
}

std::string ZipSource::read(uint64_t from, uint64_t n) {
  if (from > size_ || n > size_ - from) throw Damage("is cut off");
  if (!stream_) return std::string(bytes_.substr(from, n));
  std::string bytes(n, '\0');
  stream_->clear();
  stream_->seekg(static_cast<std::streamoff>(from));
  stream_->read(bytes.data(), static_cast<std::streamsize>(n));
  if (!*stream_) throw Damage("cannot be read to its end");
  return bytes;
}

uint32_t zip_checksum(std::string_view bytes, uint32_t start) {
  static const Checksum crc;
  return crc(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), start);
}

std::vector<Record> zip_contents(ZipSource& source) {
  const uint64_t tail_size = std::min<uint64_t>(source.size(), 22 + 65535);
  const uint64_t tail_start = source.size() - tail_size;
  const std::string tail = source.read(tail_start, tail_size);
  const size_t end = tail.rfind("PK\5\6");
  if (end == std::string::npos) throw Damage("has no table of contents");
  uint64_t count = integer(tail, end + 10, 2), size = integer(tail, end + 12, 4),
           start = integer(tail, end + 16, 4);
  if (end >= 20 && tail.compare(end - 20, 4, "PK\6\7") == 0) {
    const std::string wide = source.read(integer(tail, end - 12, 8), 56);
    if (wide.compare(0, 4, "PK\6\6") != 0) throw Damage("has no table of contents");
    count = integer(wide, 32, 8);
    size = integer(wide, 40, 8);
    start = integer(wide, 48, 8);
  }
  const std::string table = source.read(start, size);
  if (count > size / 46) throw Damage("has a broken table of contents");
  std::vector<Record> records;
  uint64_t total = 0;
  for (size_t at = 0, k = 0; k < count; ++k) {
    if (table.compare(at, 4, "PK\1\2") != 0) throw Damage("has a broken table of contents");
    Record r;
    r.compressed = integer(table, at + 10, 2) != 0;
    r.checksum = static_cast<uint32_t>(integer(table, at + 16, 4));
    uint64_t packed = integer(table, at + 20, 4);
    r.size = integer(table, at + 24, 4);
    const size_t name = integer(table, at + 28, 2), extra = integer(table, at + 30, 2);
    r.offset = integer(table, at + 42, 4);
    integer(table, at + 46 + name + extra, 0);
    r.name = table.substr(at + 46, name);
    widen(table, at + 46 + name, at + 46 + name + extra, r, packed);
    if (r.compressed ? r.size > largest_text : r.size != packed) {
      throw Damage("says that " + r.name + " has " + std::to_string(r.size) + " bytes");
    }
    total += packed;
    if (packed > source.size() || total > source.size()) throw Damage("has records on each other");
    records.push_back(r);
    at += 46 + name + extra + integer(table, at + 32, 2);
  }
  return records;
}

uint64_t zip_begin(ZipSource& source, const Record& r) {
  const std::string head = source.read(r.offset, 30);
  if (head.compare(0, 4, "PK\3\4") != 0) throw Damage("has no " + r.name);
  const uint64_t begin = r.offset + 30 + integer(head, 26, 2) + integer(head, 28, 2);
  if (begin > source.size() || r.size > source.size() - begin) throw Damage("is cut off");
  return begin;
}

bool zip_is_intact(ZipSource& source, const Record& r) {
  uint64_t at = zip_begin(source, r);
  uint32_t found = 0;
  constexpr uint64_t piece = uint64_t{1} << 20;
  for (uint64_t left = r.size; left > 0;) {
    const uint64_t n = std::min(left, piece);
    found = zip_checksum(source.read(at, n), found);
    at += n;
    left -= n;
  }
  return found == r.checksum;
}

}  // namespace deepmd::backend
