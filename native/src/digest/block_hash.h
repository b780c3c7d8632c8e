// The three hashes of the MD4 family share how they cut a message into 64-byte blocks and pad its end.
#ifndef PANDO_DIGEST_BLOCK_HASH_H_
#define PANDO_DIGEST_BLOCK_HASH_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace pando::digest {

/// Hash gives kWords (u32 state words), kBigEndian, kInitial and Compress(state, blocks, count).
template <typename Hash>
class BlockHash {
 public:
  static constexpr size_t kResultBytes = Hash::kWords * 4;
  static constexpr size_t kBlockBytes = 64;

  void Update(std::span<const std::byte> data) {
    total_bytes_ += data.size();
    if (held_bytes_ > 0) {
      const size_t taken = std::min(data.size(), kBlockBytes - held_bytes_);
      std::memcpy(held_.data() + held_bytes_, data.data(), taken);
      held_bytes_ += taken;
      data = data.subspan(taken);
      if (held_bytes_ < kBlockBytes) return;
      Hash::Compress(state_.data(), held_.data(), 1);
      held_bytes_ = 0;
    }
    const size_t blocks = data.size() / kBlockBytes;
    if (blocks > 0) {
      Hash::Compress(state_.data(), reinterpret_cast<const uint8_t*>(data.data()), blocks);
      data = data.subspan(blocks * kBlockBytes);
    }
    if (!data.empty()) std::memcpy(held_.data(), data.data(), data.size());
    held_bytes_ = data.size();
  }

  /// Bytes that wait for the rest of their block.
  [[nodiscard]] size_t held_bytes() const { return held_bytes_; }

  /// Counts `count` blocks as taken; the caller compresses them into the returned state. REQUIRES: held_bytes() == 0.
  uint32_t* TakeBlocks(size_t count) {
    total_bytes_ += count * kBlockBytes;
    return state_.data();
  }

  void Finish(uint8_t* result) {
    const uint64_t bits = total_bytes_ * 8;
    held_[held_bytes_++] = 0x80;
    if (held_bytes_ > kBlockBytes - 8) {
      std::memset(held_.data() + held_bytes_, 0, kBlockBytes - held_bytes_);
      Hash::Compress(state_.data(), held_.data(), 1);
      held_bytes_ = 0;
    }
    std::memset(held_.data() + held_bytes_, 0, kBlockBytes - 8 - held_bytes_);
    for (size_t i = 0; i < 8; ++i) {
      const size_t shift = Hash::kBigEndian ? 56 - 8 * i : 8 * i;
      held_[kBlockBytes - 8 + i] = static_cast<uint8_t>(bits >> shift);
    }
    Hash::Compress(state_.data(), held_.data(), 1);
    for (size_t i = 0; i < kResultBytes; ++i) {
      const size_t shift = Hash::kBigEndian ? 24 - 8 * (i % 4) : 8 * (i % 4);
      result[i] = static_cast<uint8_t>(state_[i / 4] >> shift);
    }
  }

 private:
  std::array<uint32_t, Hash::kWords> state_ = Hash::kInitial;
  std::array<uint8_t, kBlockBytes> held_{};
  size_t held_bytes_ = 0;
  uint64_t total_bytes_ = 0;
};

}  // namespace pando::digest

#endif  // PANDO_DIGEST_BLOCK_HASH_H_
