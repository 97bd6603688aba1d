// SPDX-License-Identifier: LGPL-3.0-or-later
#include "sha256.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define DEEPMD_SHA_INSTRUCTIONS
#endif

namespace deepmd::backend {

namespace {

constexpr std::array<uint32_t, 64> kRounds = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t turned(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

#ifdef DEEPMD_SHA_INSTRUCTIONS
/** Whether the processor has instructions for this checksum. */
bool has_instructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
         (b >> 29 & 1U) != 0;
}

__attribute__((target("sha,sse4.1"))) __m128i at(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}

/** Four rounds at a time; the halves of the state are (a, b, e, f) and (c, d, g, h). */
__attribute__((target("sha,sse4.1"))) void fast_block(uint32_t* state, const unsigned char* data) {
  const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  const __m128i first = _mm_shuffle_epi32(at(state), 0xB1);
  const __m128i second = _mm_shuffle_epi32(at(state + 4), 0x1B);
  const __m128i abef = _mm_alignr_epi8(first, second, 8);
  const __m128i cdgh = _mm_blend_epi16(second, first, 0xF0);
  __m128i x = abef, y = cdgh, w[16];
  for (int k = 0; k < 16; ++k) {
    if (k < 4) {
      w[k] = _mm_shuffle_epi8(at(data + 16 * k), order);
    } else {
      const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[k - 4], w[k - 3]),
                                        _mm_alignr_epi8(w[k - 1], w[k - 2], 4));
      w[k] = _mm_sha256msg2_epu32(sum, w[k - 1]);
    }
    const __m128i round = _mm_add_epi32(w[k], at(kRounds.data() + 4 * k));
    y = _mm_sha256rnds2_epu32(y, x, round);
    x = _mm_sha256rnds2_epu32(x, y, _mm_shuffle_epi32(round, 0x0E));
  }
  const __m128i low = _mm_shuffle_epi32(_mm_add_epi32(x, abef), 0x1B);
  const __m128i high = _mm_shuffle_epi32(_mm_add_epi32(y, cdgh), 0xB1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(low, high, 0xF0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(high, low, 8));
}
#endif

}  // namespace

void Sha256::block(const unsigned char* data) {
#ifdef DEEPMD_SHA_INSTRUCTIONS
  static const bool fast = has_instructions();
  if (fast) return fast_block(state_.data(), data);
#endif
  std::array<uint32_t, 64> w;
  for (size_t k = 0; k < 16; ++k) {
    w[k] = uint32_t{data[4 * k]} << 24 | uint32_t{data[4 * k + 1]} << 16 |
           uint32_t{data[4 * k + 2]} << 8 | uint32_t{data[4 * k + 3]};
  }
  for (size_t k = 16; k < 64; ++k) {
    const uint32_t a = turned(w[k - 15], 7) ^ turned(w[k - 15], 18) ^ w[k - 15] >> 3;
    const uint32_t b = turned(w[k - 2], 17) ^ turned(w[k - 2], 19) ^ w[k - 2] >> 10;
    w[k] = w[k - 16] + a + w[k - 7] + b;
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (size_t k = 0; k < 64; ++k) {
    const uint32_t s1 = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
    const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRounds[k] + w[k];
    const uint32_t s0 = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
    const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const std::array<uint32_t, 8> sum = {a, b, c, d, e, f, g, h};
  for (size_t k = 0; k < 8; ++k) state_[k] += sum[k];
}

void Sha256::update(const void* data, size_t size) {
  const auto* from = static_cast<const unsigned char*>(data);
  while (size > 0) {
    const size_t at = total_ % 64, n = std::min(size, 64 - at);
    if (at == 0 && n == 64) {
      block(from);
    } else {
      std::memcpy(rest_.data() + at, from, n);
      if (at + n == 64) block(rest_.data());
    }
    total_ += n, from += n, size -= n;
  }
}

std::string Sha256::digits() const {
  Sha256 last = *this;
  const uint64_t bits = 8 * total_;
  last.update("\x80", 1);
  while (last.total_ % 64 != 56) last.update("", 1);
  for (unsigned k = 0; k < 8; ++k) {
    const auto byte = static_cast<unsigned char>(bits >> (56 - 8 * k));
    last.update(&byte, 1);
  }
  std::string text;
  for (const uint32_t word : last.state_) {
    for (int k = 28; k >= 0; k -= 4) text += "0123456789abcdef"[word >> k & 15U];
  }
  return text;
}

}  // namespace deepmd::backend
