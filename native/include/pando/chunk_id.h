#ifndef PANDO_CHUNK_ID_H_
#define PANDO_CHUNK_ID_H_

#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace pando {

static_assert(std::endian::native == std::endian::little,
              "records and ring entries are little-endian and are read in place");

/// 16 opaque bytes that name an immutable chunk. Ordered bytewise (as memcmp orders), which is the
/// order of every listing.
struct ChunkId {
  std::array<uint8_t, 16> bytes{};

  friend bool operator==(const ChunkId& a, const ChunkId& b) {
    return std::memcmp(a.bytes.data(), b.bytes.data(), 16) == 0;
  }
  friend std::strong_ordering operator<=>(const ChunkId& a, const ChunkId& b) {
    return std::memcmp(a.bytes.data(), b.bytes.data(), 16) <=> 0;
  }

  /// Mixes all 16 bytes; ids need not be random.
  [[nodiscard]] uint64_t Hash() const {
    uint64_t low = 0;
    uint64_t high = 0;
    std::memcpy(&low, bytes.data(), 8);
    std::memcpy(&high, bytes.data() + 8, 8);
    uint64_t x = low * 0x9E3779B97F4A7C15ULL ^ std::rotl(high, 32) * 0xC2B2AE3D27D4EB4FULL;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93ULL;
    return x ^ (x >> 32);
  }

  [[nodiscard]] std::string ToHex() const {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string out;
    out.reserve(32);
    for (const uint8_t byte : bytes) {
      out.push_back(kDigits[byte >> 4]);
      out.push_back(kDigits[byte & 15]);
    }
    return out;
  }
};
static_assert(sizeof(ChunkId) == 16);

struct ChunkIdHash {
  size_t operator()(const ChunkId& id) const { return id.Hash(); }
};

/// The largest chunk that a store takes.
inline constexpr uint32_t kMaxChunkBytes = 4U << 20U;

}  // namespace pando

#endif  // PANDO_CHUNK_ID_H_
