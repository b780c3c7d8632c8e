#include <algorithm>
#include <array>
#include <optional>

#include "digest/block_hash.h"
#include "digest/crc.h"
#include "digest/hashes.h"
#include "digest/md5_lanes.h"
#include "pando/crc32c.h"
#include "pando/digest.h"

namespace pando {
namespace {

// Each algorithm passes over a piece that the one before it has just pulled into the first-level cache.
constexpr size_t kPieceBytes = size_t{16} << 10U;
constexpr size_t kMd5BlockBytes = digest::BlockHash<digest::Md5>::kBlockBytes;

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
  while (!data.empty()) {
    const auto piece = data.first(std::min(data.size(), kPieceBytes));
    data = data.subspan(piece.size());
    if (state_->md5) state_->md5->Update(piece);
    UpdateOthers(piece);
  }
}

void BodyDigest::UpdateOthers(std::span<const std::byte> piece) {
  State& s = *state_;
  if (s.sha1) s.sha1->Update(piece);
  if (s.sha256) s.sha256->Update(piece);
  if ((s.algorithms & kDigestCrc32) != 0) s.crc32 = digest::Crc32(piece, s.crc32);
  if ((s.algorithms & kDigestCrc32c) != 0) s.crc32c = Crc32c(piece, s.crc32c);
  if ((s.algorithms & kDigestCrc64Nvme) != 0) s.crc64nvme = digest::Crc64Nvme(piece, s.crc64nvme);
}

void BodyDigest::UpdateTogether(std::span<const DigestUpdate> updates) {
  for (; updates.size() > digest::kMd5Lanes; updates = updates.subspan(digest::kMd5Lanes)) {
    UpdateTogether(updates.first(digest::kMd5Lanes));
  }
  std::array<DigestUpdate, digest::kMd5Lanes> left;
  size_t count = 0;
  for (const DigestUpdate& update : updates) {
    // A block that was begun is completed alone, so that what follows is whole blocks.
    auto& md5 = update.digest->state_->md5;
    const size_t held = md5 ? md5->held_bytes() : 0;
    const size_t head = held == 0 ? 0 : std::min(update.data.size(), kMd5BlockBytes - held);
    update.digest->Update(update.data.first(head));
    if (md5 && update.data.size() - head >= kMd5BlockBytes) {
      left[count++] = {update.digest, update.data.subspan(head)};
    } else {
      update.digest->Update(update.data.subspan(head));
    }
  }
  while (count > 0) {
    size_t bytes = kPieceBytes;
    for (size_t i = 0; i < count; ++i) bytes = std::min(bytes, left[i].data.size());
    const size_t blocks = bytes / kMd5BlockBytes;
    std::array<digest::Md5Lane, digest::kMd5Lanes> lanes;
    for (size_t i = 0; i < count; ++i) {
      lanes[i] = {left[i].digest->state_->md5->TakeBlocks(blocks),
                  reinterpret_cast<const uint8_t*>(left[i].data.data())};
    }
    digest::Md5CompressLanes(std::span(lanes).first(count), blocks);
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto piece = left[i].data.first(blocks * kMd5BlockBytes);
      const auto rest = left[i].data.subspan(piece.size());
      BodyDigest* body = left[i].digest;
      body->UpdateOthers(piece);
      if (rest.size() >= kMd5BlockBytes) {
        left[kept++] = {body, rest};
      } else {
        body->Update(rest);
      }
    }
    count = kept;
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
