// SPDX-License-Identifier: LGPL-3.0-or-later
/** Checksums of model files: SHA-256 (FIPS 180-4). */
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace deepmd::backend {

class Sha256 {
 public:
  void update(const void* data, size_t size);
  void update(const std::string& text) { update(text.data(), text.size()); }
  /** The checksum so far, in hexadecimal digits. */
  std::string digits() const;

 private:
  void block(const unsigned char* data);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> rest_{};
  uint64_t total_ = 0;
};

}  // namespace deepmd::backend
