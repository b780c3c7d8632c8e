// MD5 of several messages at once. One message bounds MD5 by the latency of its own steps, so a second one beside it, or
// eight in the lanes of a vector register, cost little more than one: what a single upload cannot have, several can.
#ifndef PANDO_DIGEST_MD5_LANES_H_
#define PANDO_DIGEST_MD5_LANES_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace pando::digest {

inline constexpr size_t kMd5Lanes = 8;
/// Up to so many messages are compressed in pairs.
inline constexpr size_t kMd5PairLanes = 4;

/// One message: its four state words, and where its next blocks of 64 bytes lie.
struct Md5Lane {
  uint32_t* state;
  const uint8_t* blocks;
};

/// Compresses `count` blocks of each message; with what the machine does best. REQUIRES: 1 to kMd5Lanes lanes.
void Md5CompressLanes(std::span<const Md5Lane> lanes, size_t count);

// The kernels, named so that tests can hold them against each other.
/// Two at a time in the plain registers.
void Md5LanesPortable(std::span<const Md5Lane> lanes, size_t count);
#if defined(__x86_64__)
/// REQUIRES: CpuFeatures::avx2.
void Md5LanesAvx2(std::span<const Md5Lane> lanes, size_t count);
/// REQUIRES: CpuFeatures::avx512.
void Md5LanesAvx512(std::span<const Md5Lane> lanes, size_t count);
#endif

}  // namespace pando::digest

#endif  // PANDO_DIGEST_MD5_LANES_H_
