// SPDX-License-Identifier: LGPL-3.0-or-later
#include "digest.h"

#include <array>
#include <cmath>
#include <cstdint>

#include "model.h"
#include "protobuf.h"

namespace deepmd::tensorflow_backend {
namespace {

constexpr size_t block_size = 64;

uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

/** The first 64 primes. */
std::array<int, 64> primes() {
  std::array<int, 64> found{};
  size_t count = 0;
  for (int n = 2; count < found.size(); ++n) {
    bool divided = false;
    for (size_t k = 0; k < count && !divided; ++k) divided = n % found[k] == 0;
    if (!divided) found[count++] = n;
  }
  return found;
}

/** The first 32 bits behind the point. */
uint32_t fraction(long double x) {
  return static_cast<uint32_t>(std::floor((x - std::floor(x)) * 4294967296.0L));
}

/** State and rounds of the hash function. */
class Sha256 {
 public:
  Sha256() {
    const std::array<int, 64> of = primes();
    for (size_t k = 0; k < 64; ++k)
      round_[k] = fraction(std::cbrt(static_cast<long double>(of[k])));
    for (size_t k = 0; k < 8; ++k) state_[k] = fraction(std::sqrt(static_cast<long double>(of[k])));
  }

  void add(const unsigned char* block) {
    std::array<uint32_t, 64> w{};
    for (size_t k = 0; k < 16; ++k) {
      w[k] = uint32_t{block[4 * k]} << 24 | uint32_t{block[4 * k + 1]} << 16 |
             uint32_t{block[4 * k + 2]} << 8 | uint32_t{block[4 * k + 3]};
    }
    for (size_t k = 16; k < 64; ++k) {
      const uint32_t a = w[k - 15], b = w[k - 2];
      w[k] = w[k - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[k - 7] +
             (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    std::array<uint32_t, 8> s = state_;
    for (size_t k = 0; k < 64; ++k) {
      const uint32_t e = s[4], a = s[0];
      const uint32_t one = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                           ((e & s[5]) ^ (~e & s[6])) + round_[k] + w[k];
      const uint32_t two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
                           ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
      s = {one + two, s[0], s[1], s[2], s[3] + one, s[4], s[5], s[6]};
    }
    for (size_t k = 0; k < 8; ++k) state_[k] += s[k];
  }

  std::string hexadecimal() const {
    std::string text;
    for (const uint32_t word : state_) {
      for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
    }
    return text;
  }

 private:
  std::array<uint32_t, 64> round_{};
  std::array<uint32_t, 8> state_{};
};

}  // namespace

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  size_t at = 0;
  for (; at + block_size <= bytes.size(); at += block_size) hash.add(data + at);
  // The rest, a bit that is 1, zeros, and the number of bits.
  std::string rest(bytes.substr(at));
  rest += '\x80';
  while (rest.size() % block_size != block_size - 8) rest += '\0';
  const uint64_t bits = uint64_t{bytes.size()} * 8;
  for (int shift = 56; shift >= 0; shift -= 8) rest += static_cast<char>(bits >> shift & 0xff);
  for (size_t k = 0; k < rest.size(); k += block_size) {
    hash.add(reinterpret_cast<const unsigned char*>(rest.data()) + k);
  }
  return hash.hexadecimal();
}

void check_digest(std::string_view graph) {
  const std::vector<std::string_view> nodes = all_of(graph, 1);
  if (!nodes.empty() && bytes_of(nodes.back(), 1) == "deepmd/digest") {
    const std::string_view last = nodes.back();
    std::string written;  // the node with its number and size
    put(written, 1, last);
    const std::string_view body = graph.substr(0, graph.size() - written.size());
    const bool is_end = last.data() + last.size() == graph.data() + graph.size();
    if (is_end && last.find("sha256:" + sha256(body)) != std::string_view::npos) return;
  }
  throw Failure(
      "the graph does not hold what was written: its checksum differs or is not there, it is "
      "damaged or was edited; copy or freeze it again");
}

}  // namespace deepmd::tensorflow_backend
