#include <array>
#include <bit>
#include <cstring>

#include "digest/hashes.h"
#include "digest/md5_lanes.h"
#include "digest/md5_tables.h"

namespace pando::digest {
namespace {

struct Registers {
  uint32_t a;
  uint32_t b;
  uint32_t c;
  uint32_t d;
};

template <int kStep>
[[gnu::always_inline]] inline uint32_t Step(uint32_t a, uint32_t b, uint32_t c, uint32_t d, const uint8_t* block) {
  constexpr int kRound = kStep / 16;
  constexpr int kRotation = kMd5Rotations[kRound][kStep % 4];
  uint32_t word;
  std::memcpy(&word, block + size_t{4} * Md5Word(kStep), 4);  // little-endian, as chunk_id.h asserts of the machine
  uint32_t sum = a + word + kMd5Sines[kStep];
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

/// Four steps of each message in turn: while one waits for its own last step, the other has something to do.
template <int kStep, size_t kMessages>
[[gnu::always_inline]] inline void Steps(std::array<Registers, kMessages>& r,
                                         const std::array<const uint8_t*, kMessages>& blocks) {
  for (size_t i = 0; i < kMessages; ++i) r[i].a = Step<kStep>(r[i].a, r[i].b, r[i].c, r[i].d, blocks[i]);
  for (size_t i = 0; i < kMessages; ++i) r[i].d = Step<kStep + 1>(r[i].d, r[i].a, r[i].b, r[i].c, blocks[i]);
  for (size_t i = 0; i < kMessages; ++i) r[i].c = Step<kStep + 2>(r[i].c, r[i].d, r[i].a, r[i].b, blocks[i]);
  for (size_t i = 0; i < kMessages; ++i) r[i].b = Step<kStep + 3>(r[i].b, r[i].c, r[i].d, r[i].a, blocks[i]);
  if constexpr (kStep + 4 < 64) Steps<kStep + 4>(r, blocks);
}

template <size_t kMessages>
[[gnu::always_inline]] inline void CompressEach(const std::array<Md5Lane, kMessages>& lanes, size_t count) {
  std::array<Registers, kMessages> r;
  std::array<const uint8_t*, kMessages> blocks;
  for (size_t i = 0; i < kMessages; ++i) {
    std::memcpy(&r[i], lanes[i].state, sizeof r[i]);
    blocks[i] = lanes[i].blocks;
  }
  for (; count > 0; --count) {
    const auto before = r;
    Steps<0>(r, blocks);
    for (size_t i = 0; i < kMessages; ++i) {
      r[i].a += before[i].a;
      r[i].b += before[i].b;
      r[i].c += before[i].c;
      r[i].d += before[i].d;
      blocks[i] += 64;
    }
  }
  for (size_t i = 0; i < kMessages; ++i) std::memcpy(lanes[i].state, &r[i], sizeof r[i]);
}

}  // namespace

void Md5::Compress(uint32_t* state, const uint8_t* blocks, size_t count) {
  CompressEach<1>({{{state, blocks}}}, count);
}

void Md5LanesPortable(std::span<const Md5Lane> lanes, size_t count) {
  for (; lanes.size() > 1; lanes = lanes.subspan(2)) CompressEach<2>({lanes[0], lanes[1]}, count);
  if (!lanes.empty()) CompressEach<1>({lanes[0]}, count);
}

}  // namespace pando::digest
