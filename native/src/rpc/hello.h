// The greeting: what the four HELLO frames carry, and the proofs in them. See RPC.md.
#ifndef PANDO_RPC_HELLO_H_
#define PANDO_RPC_HELLO_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "rpc/frame.h"

namespace pando::rpc {

using NodeId = std::array<uint8_t, 16>;
using RegionId = std::array<uint8_t, 16>;
using Nonce = std::array<std::byte, 32>;
using Proof = std::array<std::byte, 32>;

/// The region's secret. Wiped when it goes.
class RegionKey {
 public:
  RegionKey() = default;
  explicit RegionKey(std::span<const std::byte, 32> bytes);
  RegionKey(const RegionKey&) = default;
  RegionKey& operator=(const RegionKey&) = default;
  ~RegionKey();
  [[nodiscard]] std::span<const std::byte, 32> bytes() const { return bytes_; }

 private:
  std::array<std::byte, 32> bytes_{};
};

/// Overwrites, whatever the optimiser thinks of it.
void Wipe(std::span<std::byte> bytes);

[[nodiscard]] Proof HmacSha256(std::span<const std::byte> key,
                               std::span<const std::span<const std::byte>> parts);
/// Takes as long for equal proofs as for different ones.
[[nodiscard]] bool SameProof(const Proof& a, const Proof& b);

/// Who a node is, in the greeting.
struct Identity {
  NodeId node{};
  RegionId region{};
  uint64_t map_epoch = 0;
  RegionKey key;
};

/// Steps 3 and 4, as on the wire.
struct Introduction {
  Proof proof{};                      //   0
  NodeId node{};                      //  32
  RegionId region{};                  //  48
  uint64_t map_epoch = 0;             //  64
  uint64_t capabilities = 0;          //  72
  uint32_t max_payload_bytes = 0;     //  80
  uint32_t request_credits = 0;       //  84
  uint32_t byte_credits = 0;          //  88
  uint32_t keep_alive_ms = 0;         //  92
  uint8_t version = 0;                //  96
  uint8_t version_min = kVersion;     //  97
  uint8_t version_max = kVersion;     //  98
  uint8_t reserved = 0;               //  99
  Reason refusal = Reason::kNone;     // 100
};
static_assert(sizeof(Introduction) == 104);
static_assert(offsetof(Introduction, map_epoch) == 64 && offsetof(Introduction, version) == 96);
static_assert(offsetof(Introduction, refusal) == 100);

inline constexpr size_t kBeginBytes = 40;
inline constexpr size_t kChallengeBytes = 32;
/// Behind either of them: this side's half of a key exchange, when it would seal frames.
inline constexpr size_t kExchangeBytes = 32;

/// What the proofs are computed over: the payloads of the steps so far.
struct Transcript {
  std::vector<std::byte> begin;         // step 1
  std::vector<std::byte> challenge;     // step 2
  std::vector<std::byte> introduction;  // step 3, with its proof
};

[[nodiscard]] std::vector<std::byte> EncodeBegin(const Nonce& nonce, uint8_t version_min,
                                                 uint8_t version_max);
/// With a proof over `transcript`, whose `introduction` is empty for the client's step 3.
[[nodiscard]] std::vector<std::byte> EncodeIntroduction(Introduction introduction, Sender sender,
                                                        const Transcript& transcript,
                                                        const RegionKey& key);
/// Nothing unless the payload is long enough and its proof holds.
[[nodiscard]] std::optional<Introduction> OpenIntroduction(std::span<const std::byte> payload,
                                                           Sender sender,
                                                           const Transcript& transcript,
                                                           const RegionKey& key);

/// A whole HELLO frame around a payload.
[[nodiscard]] std::vector<std::byte> HelloFrame(uint32_t step, std::span<const std::byte> payload);

/// The highest version in both ranges, 0 when there is none.
[[nodiscard]] uint8_t ChooseVersion(uint8_t our_min, uint8_t our_max, uint8_t their_min,
                                    uint8_t their_max);

}  // namespace pando::rpc

#endif  // PANDO_RPC_HELLO_H_
