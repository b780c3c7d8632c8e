#include "digest/md5_lanes.h"

#include "digest/cpu.h"
#include "digest/md5_tables.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pando::digest {

#if defined(__x86_64__)
namespace avx2 {
namespace {
#define PANDO_TARGET __attribute__((target("avx2")))

[[gnu::always_inline]] PANDO_TARGET inline __m256i Choose(__m256i x, __m256i y, __m256i z) {
  return _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)));
}
[[gnu::always_inline]] PANDO_TARGET inline __m256i Parity(__m256i x, __m256i y, __m256i z) {
  return _mm256_xor_si256(x, _mm256_xor_si256(y, z));
}
[[gnu::always_inline]] PANDO_TARGET inline __m256i NotOr(__m256i x, __m256i y, __m256i z) {
  const __m256i not_z = _mm256_xor_si256(z, _mm256_set1_epi32(-1));
  return _mm256_xor_si256(y, _mm256_or_si256(x, not_z));
}
template <int kBits>
[[gnu::always_inline]] PANDO_TARGET inline __m256i Rotate(__m256i x) {
  return _mm256_or_si256(_mm256_slli_epi32(x, kBits), _mm256_srli_epi32(x, 32 - kBits));
}
#include "digest/md5_lanes_kernel.inc"
#undef PANDO_TARGET
}  // namespace
}  // namespace avx2

namespace avx512 {
namespace {
#define PANDO_TARGET __attribute__((target("avx2,avx512f,avx512vl")))

// The constants are the functions' truth tables, bit (x << 2 | y << 1 | z).
[[gnu::always_inline]] PANDO_TARGET inline __m256i Choose(__m256i x, __m256i y, __m256i z) {
  return _mm256_ternarylogic_epi32(x, y, z, 0xCA);
}
[[gnu::always_inline]] PANDO_TARGET inline __m256i Parity(__m256i x, __m256i y, __m256i z) {
  return _mm256_ternarylogic_epi32(x, y, z, 0x96);
}
[[gnu::always_inline]] PANDO_TARGET inline __m256i NotOr(__m256i x, __m256i y, __m256i z) {
  return _mm256_ternarylogic_epi32(x, y, z, 0x39);
}
template <int kBits>
[[gnu::always_inline]] PANDO_TARGET inline __m256i Rotate(__m256i x) {
  return _mm256_rol_epi32(x, kBits);
}
#include "digest/md5_lanes_kernel.inc"
#undef PANDO_TARGET
}  // namespace
}  // namespace avx512

void Md5LanesAvx2(std::span<const Md5Lane> lanes, size_t count) { avx2::Compress(lanes.data(), lanes.size(), count); }

void Md5LanesAvx512(std::span<const Md5Lane> lanes, size_t count) {
  avx512::Compress(lanes.data(), lanes.size(), count);
}
#endif

void Md5CompressLanes(std::span<const Md5Lane> lanes, size_t count) {
#if defined(__x86_64__)
  // A vector register costs the same however many of its lanes have a message; pairs of messages in the plain registers
  // are as fast as half a register of lanes, where vector steps take two cycles (Zen 5).
  if (lanes.size() > kMd5PairLanes && CpuFeatures::Get().avx512) return Md5LanesAvx512(lanes, count);
  if (lanes.size() > 6 && CpuFeatures::Get().avx2) return Md5LanesAvx2(lanes, count);
#endif
  Md5LanesPortable(lanes, count);
}

}  // namespace pando::digest
