#include "rpc/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "digest/cpu.h"

namespace pando::rpc {
namespace {

const unsigned char* Raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
unsigned char* Raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

/// No configuration file may change what is computed here, and nothing is to run at the process's end
/// while threads still do.
void StartLibrary() {
  static const bool started = OPENSSL_init_crypto(
      OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, nullptr) == 1;
  PANDO_ASSERT(started);
}

using Parts = std::vector<std::span<const std::byte>>;

std::span<const std::byte> BytesOf(std::string_view text) { return std::as_bytes(std::span(text)); }

/// HKDF-Expand of RFC 5869, section 2.3, for one block: HMAC(secret, info | 01).
Secret Expand(const Secret& secret, Parts info) {
  static constexpr std::array<std::byte, 1> kOne = {std::byte{1}};
  info.emplace_back(kOne);
  Proof block = HmacSha256(secret.bytes(), info);
  const Secret out{std::span<const std::byte, 32>(block)};
  Wipe(block);
  return out;
}

struct KeyFree {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Key = std::unique_ptr<EVP_PKEY, KeyFree>;

Key PrivateKey(const Secret& secret) {
  StartLibrary();
  Key key(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, Raw(secret.bytes().data()), 32));
  PANDO_ASSERT(key != nullptr);
  return key;
}

}  // namespace

uint64_t OwnCiphers() {
  static const uint64_t ciphers =
      digest::CpuFeatures::Get().aes ? kCanAes256Gcm | kCanChaCha20Poly1305 : kCanChaCha20Poly1305;
  return ciphers;
}

uint64_t ChooseCipher(uint64_t ours, uint64_t theirs) {
  const uint64_t common = ours & theirs;
  if ((common & kCanAes256Gcm) != 0) return kCanAes256Gcm;
  return common & kCanChaCha20Poly1305;
}

PublicKey KeyExchange::public_key() const {
  PublicKey out;
  size_t size = out.size();
  PANDO_ASSERT(EVP_PKEY_get_raw_public_key(PrivateKey(secret_).get(), Raw(out.data()), &size) == 1);
  return out;
}

std::optional<Secret> KeyExchange::Agree(std::span<const std::byte, 32> theirs) const {
  const Key own = PrivateKey(secret_);
  const Key other(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, Raw(theirs.data()), 32));
  PANDO_ASSERT(other != nullptr);
  EVP_PKEY_CTX* context = EVP_PKEY_CTX_new(own.get(), nullptr);
  std::array<std::byte, 32> shared = {};
  size_t size = shared.size();
  const bool agreed = context != nullptr && EVP_PKEY_derive_init(context) == 1 &&
                      EVP_PKEY_derive_set_peer(context, other.get()) == 1 &&
                      EVP_PKEY_derive(context, Raw(shared.data()), &size) == 1;
  EVP_PKEY_CTX_free(context);
  // RFC 7748, 6.1: an outcome of zeros is no secret.
  const bool secret = std::any_of(shared.begin(), shared.end(), [](std::byte b) { return b != std::byte{0}; });
  std::optional<Secret> out;
  if (agreed && secret) out.emplace(std::span<const std::byte, 32>(shared));
  Wipe(shared);
  return out;
}

SealSecrets DeriveSealSecrets(uint64_t cipher, const Secret& shared, const Transcript& transcript,
                              std::span<const std::byte> last, const RegionKey& key) {
  // HKDF-Extract, section 2.2, the region's key as its salt.
  Proof extracted = HmacSha256(key.bytes(), Parts{shared.bytes()});
  const Secret root{std::span<const std::byte, 32>(extracted)};
  Wipe(extracted);
  const std::array<std::span<const std::byte>, 4> steps = {transcript.begin, transcript.challenge,
                                                           transcript.introduction, last};
  std::array<std::array<std::byte, 4>, 4> lengths;
  Parts greeting;
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto length = static_cast<uint32_t>(steps[i].size());
    std::memcpy(lengths[i].data(), &length, 4);
    greeting.emplace_back(lengths[i]);
    greeting.push_back(steps[i]);
  }
  const auto of = [&](std::string_view role) {
    Parts info = {BytesOf(role)};
    info.insert(info.end(), greeting.begin(), greeting.end());
    return Expand(root, std::move(info));
  };
  return {cipher, of({"pando-rpc/1 seal client\0", 24}), of({"pando-rpc/1 seal server\0", 24})};
}

RecordCipher::RecordCipher(uint64_t cipher, const Secret& secret, Way way, uint64_t rekey_bytes)
    : cipher_(cipher), way_(way), rekey_bytes_(rekey_bytes), secret_(secret) {
  StartLibrary();
  context_ = EVP_CIPHER_CTX_new();
  PANDO_ASSERT(context_ != nullptr);
  TakeKey();
}

RecordCipher::~RecordCipher() { EVP_CIPHER_CTX_free(context_); }

void RecordCipher::TakeKey() {
  const Secret key = Expand(secret_, {BytesOf({"key\0", 4})});
  const Secret iv = Expand(secret_, {BytesOf({"iv\0", 3})});
  std::copy_n(iv.bytes().begin(), iv_.size(), iv_.begin());
  const EVP_CIPHER* cipher = cipher_ == kCanAes256Gcm ? EVP_aes_256_gcm() : EVP_chacha20_poly1305();
  PANDO_ASSERT(EVP_CipherInit_ex(context_, cipher, nullptr, Raw(key.bytes().data()), nullptr,
                                 way_ == Way::kSeal ? 1 : 0) == 1);
  records_ = 0;
  bytes_ = 0;
}

void RecordCipher::Begin() {
  if (bytes_ >= rekey_bytes_) {
    secret_ = Expand(secret_, {BytesOf({"next\0", 5})});
    TakeKey();
  }
  std::array<std::byte, 12> nonce = iv_;
  for (size_t i = 0; i < 8; ++i) {
    nonce[4 + i] ^= static_cast<std::byte>(records_ >> (8 * i));
  }
  ++records_;
  bytes_ += 2 * kSealTagBytes;
  PANDO_ASSERT(EVP_CipherInit_ex(context_, nullptr, nullptr, nullptr, Raw(nonce.data()), -1) == 1);
}

void RecordCipher::Update(std::span<const std::byte> in, std::byte* out) {
  int written = 0;
  PANDO_ASSERT(EVP_CipherUpdate(context_, Raw(out), &written, Raw(in.data()),
                                static_cast<int>(in.size())) == 1);
  PANDO_ASSERT(static_cast<size_t>(written) == in.size());
  bytes_ += in.size();
}

void RecordCipher::Finish(std::span<std::byte, kSealTagBytes> tag) {
  int written = 0;
  std::array<unsigned char, kSealTagBytes> none;
  PANDO_ASSERT(EVP_CipherFinal_ex(context_, none.data(), &written) == 1 && written == 0);
  PANDO_ASSERT(EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_GET_TAG, kSealTagBytes,
                                   Raw(tag.data())) == 1);
}

bool RecordCipher::Check(std::span<const std::byte, kSealTagBytes> tag) {
  std::array<std::byte, kSealTagBytes> copy;  // the call wants it writable
  std::copy(tag.begin(), tag.end(), copy.begin());
  PANDO_ASSERT(EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_SET_TAG, kSealTagBytes,
                                   Raw(copy.data())) == 1);
  int written = 0;
  std::array<unsigned char, kSealTagBytes> none;
  return EVP_CipherFinal_ex(context_, none.data(), &written) == 1;
}

size_t FrameSealer::Seal(OutgoingFrame& frame, std::span<std::byte> room) {
  size_t used = 0;
  if (frame.moved == 0) {
    if (room.size() < kSealedHeaderBytes) return 0;
    records_.Begin();
    records_.Update(frame.header, room.data());
    records_.Finish(room.subspan(kHeaderBytes).first<kSealTagBytes>());
    used = kSealedHeaderBytes;
    frame.moved = kHeaderBytes;
    if (!frame.payload.empty()) records_.Begin();
  }
  const std::span<const std::byte> left = frame.payload.subspan(frame.moved - kHeaderBytes);
  room = room.subspan(used);
  // The tag has to fit behind the last byte.
  if (left.empty() || room.size() <= kSealTagBytes) return used;
  const size_t step = std::min(left.size(), room.size() - kSealTagBytes);
  records_.Update(left.first(step), room.data());
  used += step;
  frame.moved += step;
  if (step == left.size()) {
    records_.Finish(room.subspan(step).first<kSealTagBytes>());
    used += kSealTagBytes;
  }
  return used;
}

bool FrameOpener::OpenHeader(std::span<const std::byte, kSealedHeaderBytes> sealed,
                             HeaderBytes& header) {
  records_.Begin();
  records_.Update(sealed.first<kHeaderBytes>(), header.data());
  return records_.Check(sealed.last<kSealTagBytes>());
}

}  // namespace pando::rpc
