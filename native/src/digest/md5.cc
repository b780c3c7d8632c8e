#include <bit>
#include <cstring>

#include "digest/hashes.h"

namespace pando::digest {
namespace {

// floor(2^32 * |sin(i + 1)|), RFC 1321 section 3.4.
constexpr std::array<uint32_t, 64> kSines = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};

constexpr std::array<std::array<int, 4>, 4> kRotations = {
    {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}};

template <int kStep>
[[gnu::always_inline]] inline uint32_t Step(uint32_t a, uint32_t b, uint32_t c, uint32_t d,
                                            const uint32_t* words) {
  constexpr int kRound = kStep / 16;
  constexpr std::array<int, 4> kFactors = {1, 5, 3, 7};
  constexpr std::array<int, 4> kStarts = {0, 1, 5, 0};
  constexpr int kWord = (kFactors[kRound] * kStep + kStarts[kRound]) % 16;
  constexpr int kRotation = kRotations[kRound][kStep % 4];
  uint32_t sum = a + words[kWord] + kSines[kStep];
  if constexpr (kRound == 0) {
    sum += d ^ (b & (c ^ d));
  } else if constexpr (kRound == 1) {
    // The two terms of (b & d) | (c & ~d) share no bit, so they may be added one by one; the one without b
    // is ready before b is, which shortens the chain that bounds MD5's speed.
    sum += c & ~d;
    sum += b & d;
  } else if constexpr (kRound == 2) {
    sum += b ^ (c ^ d);
  } else {
    sum += c ^ (b | ~d);
  }
  return b + std::rotl(sum, kRotation);
}

template <int kStep>
[[gnu::always_inline]] inline void FourSteps(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d,
                                             const uint32_t* words) {
  a = Step<kStep>(a, b, c, d, words);
  d = Step<kStep + 1>(d, a, b, c, words);
  c = Step<kStep + 2>(c, d, a, b, words);
  b = Step<kStep + 3>(b, c, d, a, words);
  if constexpr (kStep + 4 < 64) FourSteps<kStep + 4>(a, b, c, d, words);
}

}  // namespace

void Md5::Compress(uint32_t* state, const uint8_t* blocks, size_t count) {
  uint32_t a = state[0];
  uint32_t b = state[1];
  uint32_t c = state[2];
  uint32_t d = state[3];
  for (; count > 0; --count, blocks += 64) {
    uint32_t words[16];
    std::memcpy(words, blocks, 64);  // little-endian, as chunk_id.h asserts of the machine
    const uint32_t before[4] = {a, b, c, d};
    FourSteps<0>(a, b, c, d, words);
    a += before[0];
    b += before[1];
    c += before[2];
    d += before[3];
  }
  state[0] = a;
  state[1] = b;
  state[2] = c;
  state[3] = d;
}

}  // namespace pando::digest
