#include <bit>
#include <cstring>

#include "digest/cpu.h"
#include "digest/hashes.h"

namespace pando::digest {
namespace {

inline uint32_t LoadBigEndian(const uint8_t* bytes) {
  uint32_t word = 0;
  std::memcpy(&word, bytes, 4);
  return __builtin_bswap32(word);
}

constexpr std::array<uint32_t, 64> kSha256Constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

}  // namespace

void Sha1Portable(uint32_t* state, const uint8_t* blocks, size_t count) {
  for (; count > 0; --count, blocks += 64) {
    uint32_t w[80];
    for (size_t t = 0; t < 16; ++t) w[t] = LoadBigEndian(blocks + 4 * t);
    for (size_t t = 16; t < 80; ++t) w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    uint32_t a = state[0];
    uint32_t b = state[1];
    uint32_t c = state[2];
    uint32_t d = state[3];
    uint32_t e = state[4];
    for (size_t t = 0; t < 80; ++t) {
      uint32_t mixed = 0;
      if (t < 20) {
        mixed = (d ^ (b & (c ^ d))) + 0x5A827999;
      } else if (t < 40) {
        mixed = (b ^ c ^ d) + 0x6ED9EBA1;
      } else if (t < 60) {
        mixed = ((b & c) | (d & (b | c))) + 0x8F1BBCDC;
      } else {
        mixed = (b ^ c ^ d) + 0xCA62C1D6;
      }
      const uint32_t next = std::rotl(a, 5) + mixed + e + w[t];
      e = d;
      d = c;
      c = std::rotl(b, 30);
      b = a;
      a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
  }
}

void Sha256Portable(uint32_t* state, const uint8_t* blocks, size_t count) {
  for (; count > 0; --count, blocks += 64) {
    uint32_t w[64];
    for (size_t t = 0; t < 16; ++t) w[t] = LoadBigEndian(blocks + 4 * t);
    for (size_t t = 16; t < 64; ++t) {
      const uint32_t s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ (w[t - 15] >> 3);
      const uint32_t s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ (w[t - 2] >> 10);
      w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    uint32_t v[8];
    std::memcpy(v, state, sizeof(v));
    for (size_t t = 0; t < 64; ++t) {
      const uint32_t s1 = std::rotr(v[4], 6) ^ std::rotr(v[4], 11) ^ std::rotr(v[4], 25);
      const uint32_t choice = v[6] ^ (v[4] & (v[5] ^ v[6]));
      const uint32_t t1 = v[7] + s1 + choice + kSha256Constants[t] + w[t];
      const uint32_t s0 = std::rotr(v[0], 2) ^ std::rotr(v[0], 13) ^ std::rotr(v[0], 22);
      const uint32_t majority = (v[0] & v[1]) | (v[2] & (v[0] | v[1]));
      v[7] = v[6];
      v[6] = v[5];
      v[5] = v[4];
      v[4] = v[3] + t1;
      v[3] = v[2];
      v[2] = v[1];
      v[1] = v[0];
      v[0] = t1 + s0 + majority;
    }
    for (size_t i = 0; i < 8; ++i) state[i] += v[i];
  }
}

void Sha1::Compress(uint32_t* state, const uint8_t* blocks, size_t count) {
#if defined(__x86_64__)
  if (CpuFeatures::Get().sha) return Sha1ShaNi(state, blocks, count);
#endif
  Sha1Portable(state, blocks, count);
}

void Sha256::Compress(uint32_t* state, const uint8_t* blocks, size_t count) {
#if defined(__x86_64__)
  if (CpuFeatures::Get().sha) return Sha256ShaNi(state, blocks, count);
#endif
  Sha256Portable(state, blocks, count);
}

}  // namespace pando::digest
