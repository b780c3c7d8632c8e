// SHA-1 and SHA-256 with the x86 SHA extensions (Intel SDM volume 2, SHA1RNDS4 .. SHA256MSG2). Four rounds of
// SHA-1 or two of SHA-256 an instruction; the message schedule runs alongside, in four rotating registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include "digest/hashes.h"

#define PANDO_TARGET __attribute__((target("sha,sse4.1,ssse3")))

namespace pando::digest {
namespace {

alignas(16) constexpr uint32_t kSha256Constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

struct Sha256Registers {
  __m128i abef;
  __m128i cdgh;
  __m128i words[4];  // the last sixteen words of the schedule, the oldest at kGroup % 4
};

/// Four rounds; words of the group after next are prepared on the way.
template <int kGroup>
[[gnu::always_inline]] PANDO_TARGET inline void Sha256Groups(Sha256Registers& r) {
  __m128i& w = r.words[kGroup % 4];
  const __m128i constants = _mm_load_si128(reinterpret_cast<const __m128i*>(kSha256Constants) + kGroup);
  const __m128i sum = _mm_add_epi32(w, constants);
  r.cdgh = _mm_sha256rnds2_epu32(r.cdgh, r.abef, sum);
  if constexpr (kGroup >= 3 && kGroup < 15) {
    // words[kGroup + 1 - 16 ..] become words[kGroup + 1 ..]
    __m128i& next = r.words[(kGroup + 1) % 4];
    const __m128i older = r.words[(kGroup + 3) % 4];
    next = _mm_add_epi32(next, _mm_alignr_epi8(w, older, 4));
    next = _mm_sha256msg2_epu32(next, w);
  }
  r.abef = _mm_sha256rnds2_epu32(r.abef, r.cdgh, _mm_shuffle_epi32(sum, 0x0E));
  if constexpr (kGroup >= 1 && kGroup < 13) {
    __m128i& before = r.words[(kGroup + 3) % 4];
    before = _mm_sha256msg1_epu32(before, w);
  }
  if constexpr (kGroup < 15) Sha256Groups<kGroup + 1>(r);
}

struct Sha1Registers {
  __m128i abcd;
  __m128i e;  // the e to be added with the next group's words
  __m128i words[4];
};

template <int kGroup>
[[gnu::always_inline]] PANDO_TARGET inline void Sha1Groups(Sha1Registers& r) {
  __m128i& w = r.words[kGroup % 4];
  const __m128i e = kGroup == 0 ? _mm_add_epi32(r.e, w) : _mm_sha1nexte_epu32(r.e, w);
  r.e = r.abcd;
  if constexpr (kGroup >= 3 && kGroup < 19) {
    __m128i& next = r.words[(kGroup + 1) % 4];
    next = _mm_sha1msg2_epu32(next, w);
  }
  r.abcd = _mm_sha1rnds4_epu32(r.abcd, e, kGroup / 5);
  if constexpr (kGroup >= 1 && kGroup < 17) {
    __m128i& before = r.words[(kGroup + 3) % 4];
    before = _mm_sha1msg1_epu32(before, w);
  }
  if constexpr (kGroup >= 2 && kGroup < 18) {
    __m128i& mixed = r.words[(kGroup + 2) % 4];
    mixed = _mm_xor_si128(mixed, w);
  }
  if constexpr (kGroup < 19) Sha1Groups<kGroup + 1>(r);
}

PANDO_TARGET inline __m128i Load(const uint8_t* bytes) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}

}  // namespace

PANDO_TARGET void Sha256ShaNi(uint32_t* state, const uint8_t* blocks, size_t count) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  // The instructions want the state as (a, b, e, f) and (c, d, g, h), highest word first.
  const __m128i dcba = Load(reinterpret_cast<const uint8_t*>(state));
  const __m128i hgfe = Load(reinterpret_cast<const uint8_t*>(state + 4));
  const __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1);
  const __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1B);
  Sha256Registers r;
  r.abef = _mm_alignr_epi8(cdab, efgh, 8);
  r.cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
  for (; count > 0; --count, blocks += 64) {
    const __m128i abef = r.abef;
    const __m128i cdgh = r.cdgh;
    for (int i = 0; i < 4; ++i) r.words[i] = _mm_shuffle_epi8(Load(blocks + 16 * i), swap);
    Sha256Groups<0>(r);
    r.abef = _mm_add_epi32(r.abef, abef);
    r.cdgh = _mm_add_epi32(r.cdgh, cdgh);
  }
  const __m128i feba = _mm_shuffle_epi32(r.abef, 0x1B);
  const __m128i dchg = _mm_shuffle_epi32(r.cdgh, 0xB1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

PANDO_TARGET void Sha1ShaNi(uint32_t* state, const uint8_t* blocks, size_t count) {
  const __m128i swap = _mm_set_epi64x(0x0001020304050607LL, 0x08090a0b0c0d0e0fLL);
  Sha1Registers r;
  r.abcd = _mm_shuffle_epi32(Load(reinterpret_cast<const uint8_t*>(state)), 0x1B);
  r.e = _mm_set_epi32(static_cast<int>(state[4]), 0, 0, 0);
  for (; count > 0; --count, blocks += 64) {
    const __m128i abcd = r.abcd;
    const __m128i e = r.e;
    for (int i = 0; i < 4; ++i) r.words[i] = _mm_shuffle_epi8(Load(blocks + 16 * i), swap);
    Sha1Groups<0>(r);
    r.e = _mm_sha1nexte_epu32(r.e, e);
    r.abcd = _mm_add_epi32(r.abcd, abcd);
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_shuffle_epi32(r.abcd, 0x1B));
  state[4] = static_cast<uint32_t>(_mm_extract_epi32(r.e, 3));
}

}  // namespace pando::digest
#endif  // __x86_64__
