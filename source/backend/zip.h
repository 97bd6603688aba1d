// SPDX-License-Identifier: LGPL-3.0-or-later
/** Zip archives (.pth, .npz): the table of contents, sizes and checksums. Nothing is unpacked. */
#pragma once

#include <cstdint>
#include <istream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace deepmd::backend {

/** Damage of an archive, to be completed with the name of the file: "is cut off". */
struct Damage : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** An entry of a zip archive. */
struct Record {
  std::string name;
  bool compressed = false;
  uint32_t checksum = 0;
  uint64_t size = 0;    ///< bytes, not compressed
  uint64_t offset = 0;  ///< of its header in the file
};

/** Bytes of an archive, in a stream or in memory; whoever gives them keeps them. */
class ZipSource {
 public:
  explicit ZipSource(std::istream& stream);
  explicit ZipSource(std::string_view bytes) : bytes_(bytes), size_(bytes.size()) {}

  uint64_t size() const { return size_; }
  /** Throws Damage where there are fewer bytes. */
  std::string read(uint64_t from, uint64_t n);

 private:
  std::istream* stream_ = nullptr;
  std::string_view bytes_;
  uint64_t size_ = 0;
};

/** The table of contents at the end of an archive; sizes fit the archive. Throws Damage. */
std::vector<Record> zip_contents(ZipSource& source);

/** Where the bytes of a record that is stored as it is begin. Throws Damage. */
uint64_t zip_begin(ZipSource& source, const Record& record);

/** Whether a record that is stored as it is has its checksum. Throws Damage. */
bool zip_is_intact(ZipSource& source, const Record& record);

/** Checksum of zip archives (CRC-32), continued from that of the bytes before. */
uint32_t zip_checksum(std::string_view bytes, uint32_t start = 0);

}  // namespace deepmd::backend
