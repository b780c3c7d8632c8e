#include <algorithm>
#include <optional>

#include "digest/block_hash.h"
#include "digest/crc.h"
#include "digest/hashes.h"
#include "pando/crc32c.h"
#include "pando/digest.h"

namespace pando {
namespace {

// Each algorithm passes over a piece that the one before it has just pulled into the first-level cache.
constexpr size_t kPieceBytes = size_t{16} << 10U;

template <typename Word, size_t kBytes>
void StoreBigEndian(Word value, std::array<uint8_t, kBytes>* target) {
  static_assert(sizeof(Word) == kBytes);
  for (size_t i = 0; i < kBytes; ++i) (*target)[i] = static_cast<uint8_t>(value >> (8 * (kBytes - 1 - i)));
}

}  // namespace

struct BodyDigest::State {
  uint32_t algorithms = 0;
  std::optional<digest::BlockHash<digest::Md5>> md5;
  std::optional<digest::BlockHash<digest::Sha1>> sha1;
  std::optional<digest::BlockHash<digest::Sha256>> sha256;
  uint32_t crc32 = 0;
  uint32_t crc32c = 0;
  uint64_t crc64nvme = 0;
};

BodyDigest::BodyDigest(uint32_t algorithms) : state_(std::make_unique<State>()) {
  state_->algorithms = algorithms;
  if ((algorithms & kDigestMd5) != 0) state_->md5.emplace();
  if ((algorithms & kDigestSha1) != 0) state_->sha1.emplace();
  if ((algorithms & kDigestSha256) != 0) state_->sha256.emplace();
}

BodyDigest::~BodyDigest() = default;

void BodyDigest::Update(std::span<const std::byte> data) {
  State& s = *state_;
  while (!data.empty()) {
    const auto piece = data.first(std::min(data.size(), kPieceBytes));
    data = data.subspan(piece.size());
    if (s.md5) s.md5->Update(piece);
    if (s.sha1) s.sha1->Update(piece);
    if (s.sha256) s.sha256->Update(piece);
    if ((s.algorithms & kDigestCrc32) != 0) s.crc32 = digest::Crc32(piece, s.crc32);
    if ((s.algorithms & kDigestCrc32c) != 0) s.crc32c = Crc32c(piece, s.crc32c);
    if ((s.algorithms & kDigestCrc64Nvme) != 0) s.crc64nvme = digest::Crc64Nvme(piece, s.crc64nvme);
  }
}

void BodyDigest::Finish(DigestResults* results) {
  PANDO_ASSERT(state_ != nullptr);
  State& s = *state_;
  *results = DigestResults{};
  if (s.md5) s.md5->Finish(results->md5.data());
  if (s.sha1) s.sha1->Finish(results->sha1.data());
  if (s.sha256) s.sha256->Finish(results->sha256.data());
  if ((s.algorithms & kDigestCrc32) != 0) StoreBigEndian(s.crc32, &results->crc32);
  if ((s.algorithms & kDigestCrc32c) != 0) StoreBigEndian(s.crc32c, &results->crc32c);
  if ((s.algorithms & kDigestCrc64Nvme) != 0) StoreBigEndian(s.crc64nvme, &results->crc64nvme);
  state_.reset();
}

}  // namespace pando
