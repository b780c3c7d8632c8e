// MD5, SHA-1 and SHA-256: compression functions for BlockHash.
#ifndef PANDO_DIGEST_HASHES_H_
#define PANDO_DIGEST_HASHES_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "digest/block_hash.h"

namespace pando::digest {

struct Md5 {
  static constexpr size_t kWords = 4;
  static constexpr bool kBigEndian = false;
  static constexpr std::array<uint32_t, 4> kInitial = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476};
  static void Compress(uint32_t* state, const uint8_t* blocks, size_t count);
};

struct Sha1 {
  static constexpr size_t kWords = 5;
  static constexpr bool kBigEndian = true;
  static constexpr std::array<uint32_t, 5> kInitial = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476,
                                                       0xC3D2E1F0};
  static void Compress(uint32_t* state, const uint8_t* blocks, size_t count);
};

struct Sha256 {
  static constexpr size_t kWords = 8;
  static constexpr bool kBigEndian = true;
  static constexpr std::array<uint32_t, 8> kInitial = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                                       0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  static void Compress(uint32_t* state, const uint8_t* blocks, size_t count);
};

// The kernels behind Compress, named so that tests can hold them against each other.
void Sha1Portable(uint32_t* state, const uint8_t* blocks, size_t count);
void Sha256Portable(uint32_t* state, const uint8_t* blocks, size_t count);
#if defined(__x86_64__)
// REQUIRES: CpuFeatures::sha.
void Sha1ShaNi(uint32_t* state, const uint8_t* blocks, size_t count);
void Sha256ShaNi(uint32_t* state, const uint8_t* blocks, size_t count);
#endif

}  // namespace pando::digest

#endif  // PANDO_DIGEST_HASHES_H_
