// Frames that nobody between two nodes can read or change: keys from an ephemeral X25519 exchange that
// the greeting authenticates, AES-256-GCM or ChaCha20-Poly1305 over headers and payloads. RPC.md tells
// the bytes. The primitives are OpenSSL's.
#ifndef PANDO_RPC_SEAL_H_
#define PANDO_RPC_SEAL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "rpc/hello.h"
#include "rpc/transport.h"

typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;

namespace pando::rpc {

/// What a node asks of its sessions, wherever the transport can seal. As in PeerPage::seal.
enum class SealMode : uint8_t {
  kAuto = 0,      // sealed with every peer that can
  kRequired = 1,  // sealed or not at all
  kOff = 2,
};

// Bits of Introduction::capabilities.
inline constexpr uint64_t kCanAes256Gcm = 1;
inline constexpr uint64_t kCanChaCha20Poly1305 = 2;
inline constexpr uint64_t kCanSeal = kCanAes256Gcm | kCanChaCha20Poly1305;

/// The ciphers that suit this processor: without instructions for AES only the other one.
[[nodiscard]] uint64_t OwnCiphers();
/// The bit of the one that both sides can, AES first; 0: none.
[[nodiscard]] uint64_t ChooseCipher(uint64_t ours, uint64_t theirs);

using PublicKey = std::array<std::byte, 32>;
/// 32 secret bytes, wiped when they go.
using Secret = RegionKey;

/// One side of an X25519 exchange (RFC 7748), for one session.
class KeyExchange {
 public:
  /// From 32 fresh random bytes.
  explicit KeyExchange(std::span<const std::byte, 32> random) : secret_(random) {}
  [[nodiscard]] PublicKey public_key() const;
  /// Nothing when the other key is one of those that make every exchange come out the same.
  [[nodiscard]] std::optional<Secret> Agree(std::span<const std::byte, 32> theirs) const;

 private:
  Secret secret_;
};

/// From which the keys of each direction come. Bound to the whole greeting: `last` is step 4.
struct SealSecrets {
  uint64_t cipher = 0;
  Secret client;  // of what the client sends
  Secret server;
};
[[nodiscard]] SealSecrets DeriveSealSecrets(uint64_t cipher, const Secret& shared,
                                            const Transcript& transcript,
                                            std::span<const std::byte> last, const RegionKey& key);

inline constexpr size_t kSealTagBytes = 16;
inline constexpr size_t kSealedHeaderBytes = kHeaderBytes + kSealTagBytes;
/// A key is replaced once it has sealed so many bytes: far below what AES-GCM bears under one key, and
/// the counter in the nonce cannot come round (a record counts for 32 bytes at least).
inline constexpr uint64_t kRekeyBytes = 1ULL << 36U;

/// The records of one direction, one after the other. No record is sealed twice under one nonce: keys
/// are of one session and direction, and the nonce counts.
class RecordCipher {
 public:
  enum class Way : uint8_t { kSeal, kOpen };
  RecordCipher(uint64_t cipher, const Secret& secret, Way way, uint64_t rekey_bytes = kRekeyBytes);
  ~RecordCipher();
  RecordCipher(const RecordCipher&) = delete;
  RecordCipher& operator=(const RecordCipher&) = delete;

  void Begin();
  /// `out` may be `in`, and is as long.
  void Update(std::span<const std::byte> in, std::byte* out);
  /// kSeal: ends the record.
  void Finish(std::span<std::byte, kSealTagBytes> tag);
  /// kOpen: ends the record. False: it is not what the peer sealed here; what Update gave is nothing.
  [[nodiscard]] bool Check(std::span<const std::byte, kSealTagBytes> tag);

 private:
  void TakeKey();

  uint64_t cipher_;
  Way way_;
  uint64_t rekey_bytes_;
  Secret secret_;
  std::array<std::byte, 12> iv_{};
  uint64_t records_ = 0;       // under this key
  uint64_t bytes_ = 0;         // under this key, and what its records cost
  EVP_CIPHER_CTX* context_;
};

/// Seals the frames of one direction.
class FrameSealer {
 public:
  FrameSealer(uint64_t cipher, const Secret& secret, uint64_t rekey_bytes = kRekeyBytes)
      : records_(cipher, secret, RecordCipher::Way::kSeal, rekey_bytes) {}
  /// Goes on with the frame (`moved` tells where: header and payload bytes) as far as `room` reaches.
  /// Returns the bytes written to it. The frame is whole when `moved` has reached its end.
  [[nodiscard]] size_t Seal(OutgoingFrame& frame, std::span<std::byte> room);

 private:
  RecordCipher records_;
};

/// Opens the frames of the other direction.
class FrameOpener {
 public:
  FrameOpener(uint64_t cipher, const Secret& secret, uint64_t rekey_bytes = kRekeyBytes)
      : records_(cipher, secret, RecordCipher::Way::kOpen, rekey_bytes) {}
  [[nodiscard]] bool OpenHeader(std::span<const std::byte, kSealedHeaderBytes> sealed,
                                HeaderBytes& header);
  void BeginPayload() { records_.Begin(); }
  void OpenPart(std::span<std::byte> in_place) { records_.Update(in_place, in_place.data()); }
  [[nodiscard]] bool EndPayload(std::span<const std::byte, kSealTagBytes> tag) {
    return records_.Check(tag);
  }

 private:
  RecordCipher records_;
};

/// What a connection is given when the greeting has agreed to seal.
struct FrameSeal {
  FrameSeal(const SealSecrets& secrets, Sender side)
      : sealer(secrets.cipher, side == Sender::kClient ? secrets.client : secrets.server),
        opener(secrets.cipher, side == Sender::kClient ? secrets.server : secrets.client) {}
  FrameSealer sealer;
  FrameOpener opener;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_SEAL_H_
