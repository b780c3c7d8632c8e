#include "rpc/hello.h"

#include <algorithm>
#include <cstring>

#include "digest/block_hash.h"
#include "digest/hashes.h"
#include "pando/crc32c.h"

namespace pando::rpc {
namespace {

constexpr size_t kBlockBytes = 64;
constexpr size_t kProofAt = offsetof(Introduction, proof);
constexpr std::string_view kClientRole{"pando-rpc/1 client\0", 19};
constexpr std::string_view kServerRole{"pando-rpc/1 server\0", 19};

std::array<std::byte, 4> LengthOf(std::span<const std::byte> bytes) {
  const auto length = static_cast<uint32_t>(bytes.size());
  std::array<std::byte, 4> out;
  std::memcpy(out.data(), &length, 4);
  return out;
}

/// `payload` is an introduction; its proof counts as zeros.
Proof ProofOver(std::span<const std::byte> payload, Sender sender, const Transcript& transcript,
                const RegionKey& key) {
  std::vector<std::byte> bare(payload.begin(), payload.end());
  std::fill_n(bare.begin() + kProofAt, sizeof(Proof), std::byte{0});
  const std::string_view role = sender == Sender::kClient ? kClientRole : kServerRole;
  const auto begin = LengthOf(transcript.begin);
  const auto challenge = LengthOf(transcript.challenge);
  const auto introduction = LengthOf(transcript.introduction);
  const auto own = LengthOf(bare);
  std::vector<std::span<const std::byte>> parts = {std::as_bytes(std::span(role)), begin,
                                                   transcript.begin, challenge,
                                                   transcript.challenge};
  if (sender == Sender::kServer) {
    parts.emplace_back(introduction);
    parts.emplace_back(transcript.introduction);
  }
  parts.emplace_back(own);
  parts.emplace_back(bare);
  return HmacSha256(key.bytes(), parts);
}

}  // namespace

void Wipe(std::span<std::byte> bytes) {
  volatile std::byte* at = bytes.data();
  for (size_t i = 0; i < bytes.size(); ++i) at[i] = std::byte{0};
}

RegionKey::RegionKey(std::span<const std::byte, 32> bytes) {
  std::copy(bytes.begin(), bytes.end(), bytes_.begin());
}

RegionKey::~RegionKey() { Wipe(bytes_); }

// RFC 2104 over the digest library's SHA-256.
Proof HmacSha256(std::span<const std::byte> key,
                 std::span<const std::span<const std::byte>> parts) {
  using Hash = digest::BlockHash<digest::Sha256>;
  std::array<std::byte, kBlockBytes> pad = {};
  PANDO_ASSERT(key.size() <= pad.size());
  std::copy(key.begin(), key.end(), pad.begin());
  for (std::byte& byte : pad) byte ^= std::byte{0x36};
  Proof result;
  Hash inner;
  inner.Update(pad);
  for (const auto& part : parts) inner.Update(part);
  inner.Finish(reinterpret_cast<uint8_t*>(result.data()));
  for (std::byte& byte : pad) byte ^= std::byte{0x36 ^ 0x5c};
  Hash outer;
  outer.Update(pad);
  outer.Update(result);
  outer.Finish(reinterpret_cast<uint8_t*>(result.data()));
  Wipe(pad);
  return result;
}

bool SameProof(const Proof& a, const Proof& b) {
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference = static_cast<uint8_t>(difference | std::to_integer<uint8_t>(a[i] ^ b[i]));
  }
  return difference == 0;
}

std::vector<std::byte> EncodeBegin(const Nonce& nonce, uint8_t version_min, uint8_t version_max) {
  std::vector<std::byte> payload(kBeginBytes);
  std::copy(nonce.begin(), nonce.end(), payload.begin());
  payload[32] = std::byte{version_min};
  payload[33] = std::byte{version_max};
  return payload;
}

std::vector<std::byte> EncodeIntroduction(Introduction introduction, Sender sender,
                                          const Transcript& transcript, const RegionKey& key) {
  std::vector<std::byte> payload(sizeof introduction);
  introduction.proof = Proof{};
  std::memcpy(payload.data(), &introduction, sizeof introduction);
  const Proof proof = ProofOver(payload, sender, transcript, key);
  std::copy(proof.begin(), proof.end(), payload.begin() + kProofAt);
  return payload;
}

std::optional<Introduction> OpenIntroduction(std::span<const std::byte> payload, Sender sender,
                                             const Transcript& transcript, const RegionKey& key) {
  if (payload.size() < sizeof(Introduction)) return std::nullopt;
  Introduction introduction;
  std::memcpy(&introduction, payload.data(), sizeof introduction);
  if (!SameProof(introduction.proof, ProofOver(payload, sender, transcript, key))) {
    return std::nullopt;
  }
  return introduction;
}

std::vector<std::byte> HelloFrame(uint32_t step, std::span<const std::byte> payload) {
  Header header;
  header.op = Op::kHello;
  header.flags = kFlagPayload;
  header.offset = step;
  header.length = static_cast<uint32_t>(payload.size());
  header.payload_crc = Crc32c(payload);
  const HeaderBytes encoded = EncodeHeader(header);
  std::vector<std::byte> frame(kHeaderBytes + payload.size());
  std::copy(encoded.begin(), encoded.end(), frame.begin());
  std::copy(payload.begin(), payload.end(), frame.begin() + kHeaderBytes);
  return frame;
}

uint8_t ChooseVersion(uint8_t our_min, uint8_t our_max, uint8_t their_min, uint8_t their_max) {
  const uint8_t highest = std::min(our_max, their_max);
  return highest >= std::max(our_min, their_min) ? highest : uint8_t{0};
}

}  // namespace pando::rpc
