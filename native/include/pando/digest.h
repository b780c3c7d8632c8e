// Digests of object bodies, computed together over the same bytes. Own implementations rather than
// OpenSSL's: inside Node an addon's calls into libcrypto would meet Node's own copy of another
// version, a static copy would cost 5 MB and a system package, and the six kernels are small. Each
// is chosen at run time by what the CPU has.
#ifndef PANDO_DIGEST_H_
#define PANDO_DIGEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "pando/result.h"

namespace pando {

/// Bits of a set of algorithms.
enum DigestAlgorithm : uint32_t {
  kDigestMd5 = 1,         // RFC 1321
  kDigestSha1 = 2,        // RFC 3174
  kDigestSha256 = 4,      // FIPS 180-4
  kDigestCrc32 = 8,       // IEEE 802.3
  kDigestCrc32c = 16,     // RFC 3720
  kDigestCrc64Nvme = 32,  // NVM Express base specification, 64b CRC
};
inline constexpr uint32_t kDigestAll = 63;

/// Every result at its fixed place; those that were not asked for are zero. CRCs are big-endian.
struct DigestResults {
  std::array<uint8_t, 16> md5{};       // offset  0
  std::array<uint8_t, 20> sha1{};      // offset 16
  std::array<uint8_t, 32> sha256{};    // offset 36
  std::array<uint8_t, 4> crc32{};      // offset 68
  std::array<uint8_t, 4> crc32c{};     // offset 72
  std::array<uint8_t, 8> crc64nvme{};  // offset 76
};
static_assert(sizeof(DigestResults) == 84 && offsetof(DigestResults, crc64nvme) == 76);

class BodyDigest;

/// The next bytes of one body.
struct DigestUpdate {
  BodyDigest* digest;
  std::span<const std::byte> data;
};

/// One body. Not thread safe.
class PANDO_EXPORT BodyDigest {
 public:
  explicit BodyDigest(uint32_t algorithms);
  ~BodyDigest();
  BodyDigest(const BodyDigest&) = delete;
  BodyDigest& operator=(const BodyDigest&) = delete;

  void Update(std::span<const std::byte> data);

  /// As Update of each, in less time: the MD5 of up to eight bodies is computed side by side. REQUIRES: no digest twice.
  static void UpdateTogether(std::span<const DigestUpdate> updates);

  /// Ends the digest. REQUIRES: not finished before.
  void Finish(DigestResults* results);

 private:
  struct State;
  void UpdateOthers(std::span<const std::byte> piece);
  std::unique_ptr<State> state_;
};

}  // namespace pando

#endif  // PANDO_DIGEST_H_
