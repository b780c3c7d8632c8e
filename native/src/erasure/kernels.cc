// A byte is multiplied by a constant in two look-ups of 16 entries, one for each half of it, and a shuffle instruction looks up
// 16 or 32 at once (Plank, Greenan, Miller, "Screaming Fast Galois Field Arithmetic Using Intel SIMD Instructions", FAST 2013).
#include <algorithm>
#include <array>

#include "erasure/galois.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pando::erasure {
namespace {

/// Targets that one pass computes: their sums stay in registers while the sources are read once.
constexpr size_t kTogether = 4;

void ScalarRange(const uint8_t* tables, std::span<const uint8_t* const> sources, std::span<uint8_t* const> targets,
                 size_t start, size_t end) {
  for (size_t j = 0; j < targets.size(); ++j) {
    const uint8_t* row = tables + j * sources.size() * kTableBytes;
    for (size_t at = start; at < end; ++at) {
      unsigned sum = 0;
      for (size_t i = 0; i < sources.size(); ++i) {
        const uint8_t byte = sources[i][at];
        const uint8_t* table = row + i * kTableBytes;
        sum ^= static_cast<unsigned>(table[byte & 15U]) ^ table[16U + (byte >> 4U)];
      }
      targets[j][at] = static_cast<uint8_t>(sum);
    }
  }
}

#if defined(__x86_64__)

template <size_t kTargets>
__attribute__((target("ssse3"))) void PassSsse3(const uint8_t* tables, std::span<const uint8_t* const> sources,
                                                uint8_t* const* targets, size_t length) {
  const __m128i mask = _mm_set1_epi8(15);
  for (size_t at = 0; at < length; at += 16) {
    __m128i sums[kTargets];
    for (__m128i& sum : sums) sum = _mm_setzero_si128();
    for (size_t i = 0; i < sources.size(); ++i) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sources[i] + at));
      const __m128i low = _mm_and_si128(bytes, mask);
      const __m128i high = _mm_and_si128(_mm_srli_epi64(bytes, 4), mask);
      for (size_t j = 0; j < kTargets; ++j) {
        const auto* table = reinterpret_cast<const __m128i*>(tables + (j * sources.size() + i) * kTableBytes);
        const __m128i first = _mm_shuffle_epi8(_mm_loadu_si128(table), low);
        const __m128i second = _mm_shuffle_epi8(_mm_loadu_si128(table + 1), high);
        sums[j] = _mm_xor_si128(sums[j], _mm_xor_si128(first, second));
      }
    }
    for (size_t j = 0; j < kTargets; ++j) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(targets[j] + at), sums[j]);
    }
  }
}

template <size_t kTargets>
__attribute__((target("avx2"))) void PassAvx2(const uint8_t* tables, std::span<const uint8_t* const> sources,
                                              uint8_t* const* targets, size_t length) {
  const __m256i mask = _mm256_set1_epi8(15);
  for (size_t at = 0; at < length; at += 64) {
    __m256i sums[kTargets];
    __m256i more[kTargets];
    for (__m256i& sum : sums) sum = _mm256_setzero_si256();
    for (__m256i& sum : more) sum = _mm256_setzero_si256();
    for (size_t i = 0; i < sources.size(); ++i) {
      const auto* from = reinterpret_cast<const __m256i*>(sources[i] + at);
      const __m256i one = _mm256_loadu_si256(from);
      const __m256i two = _mm256_loadu_si256(from + 1);
      const __m256i low_one = _mm256_and_si256(one, mask);
      const __m256i low_two = _mm256_and_si256(two, mask);
      const __m256i high_one = _mm256_and_si256(_mm256_srli_epi64(one, 4), mask);
      const __m256i high_two = _mm256_and_si256(_mm256_srli_epi64(two, 4), mask);
      for (size_t j = 0; j < kTargets; ++j) {
        const auto* table = reinterpret_cast<const __m128i*>(tables + (j * sources.size() + i) * kTableBytes);
        const __m256i lows = _mm256_broadcastsi128_si256(_mm_loadu_si128(table));
        const __m256i highs = _mm256_broadcastsi128_si256(_mm_loadu_si128(table + 1));
        sums[j] = _mm256_xor_si256(sums[j], _mm256_xor_si256(_mm256_shuffle_epi8(lows, low_one),
                                                             _mm256_shuffle_epi8(highs, high_one)));
        more[j] = _mm256_xor_si256(more[j], _mm256_xor_si256(_mm256_shuffle_epi8(lows, low_two),
                                                             _mm256_shuffle_epi8(highs, high_two)));
      }
    }
    for (size_t j = 0; j < kTargets; ++j) {
      auto* to = reinterpret_cast<__m256i*>(targets[j] + at);
      _mm256_storeu_si256(to, sums[j]);
      _mm256_storeu_si256(to + 1, more[j]);
    }
  }
}

using Pass = void (*)(const uint8_t* tables, std::span<const uint8_t* const> sources, uint8_t* const* targets,
                      size_t length);

void InPasses(const std::array<Pass, kTogether>& passes, size_t step, const uint8_t* tables,
              std::span<const uint8_t* const> sources, std::span<uint8_t* const> targets, size_t length) {
  const size_t whole = length / step * step;
  for (size_t first = 0; first < targets.size() && whole > 0; first += kTogether) {
    const size_t count = std::min(kTogether, targets.size() - first);
    passes[count - 1](tables + first * sources.size() * kTableBytes, sources, targets.data() + first, whole);
  }
  ScalarRange(tables, sources, targets, whole, length);
}

#endif

}  // namespace

void DotProductScalar(const uint8_t* tables, std::span<const uint8_t* const> sources,
                      std::span<uint8_t* const> targets, size_t length) {
  ScalarRange(tables, sources, targets, 0, length);
}

#if defined(__x86_64__)

void DotProductSsse3(const uint8_t* tables, std::span<const uint8_t* const> sources,
                     std::span<uint8_t* const> targets, size_t length) {
  static constexpr std::array<Pass, kTogether> kPasses = {PassSsse3<1>, PassSsse3<2>, PassSsse3<3>, PassSsse3<4>};
  InPasses(kPasses, 16, tables, sources, targets, length);
}

void DotProductAvx2(const uint8_t* tables, std::span<const uint8_t* const> sources,
                    std::span<uint8_t* const> targets, size_t length) {
  static constexpr std::array<Pass, kTogether> kPasses = {PassAvx2<1>, PassAvx2<2>, PassAvx2<3>, PassAvx2<4>};
  InPasses(kPasses, 64, tables, sources, targets, length);
}

#else

void DotProductSsse3(const uint8_t* tables, std::span<const uint8_t* const> sources,
                     std::span<uint8_t* const> targets, size_t length) {
  DotProductScalar(tables, sources, targets, length);
}

void DotProductAvx2(const uint8_t* tables, std::span<const uint8_t* const> sources,
                    std::span<uint8_t* const> targets, size_t length) {
  DotProductScalar(tables, sources, targets, length);
}

#endif

}  // namespace pando::erasure
