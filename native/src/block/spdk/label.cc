#include "block/spdk/label.h"

#include <cstring>

#include "pando/crc32c.h"

namespace pando {
namespace {

constexpr std::array<uint8_t, 8> kMagic = {0x7F, 'P', 'A', 'N', 'D', 'B', 'D', '1'};
constexpr uint32_t kVersion = 1;

struct LabelPage {
  std::array<uint8_t, 8> magic;
  uint32_t version;
  uint32_t page_bytes;
  std::array<uint8_t, 16> uuid;
  uint64_t sequence;
  uint64_t grown_bytes;
  std::array<uint8_t, kPageBytes - 52> zeros;
  uint32_t crc;
};
static_assert(sizeof(LabelPage) == kPageBytes && std::is_trivially_copyable_v<LabelPage>);
static_assert(offsetof(LabelPage, uuid) == 16 && offsetof(LabelPage, sequence) == 32);
static_assert(offsetof(LabelPage, grown_bytes) == 40 && offsetof(LabelPage, crc) == 4092);

uint32_t CrcOf(std::span<const std::byte> page) {
  return Crc32c(page.first(offsetof(LabelPage, crc)));
}

}  // namespace

void EncodeLabel(const BdevLabel& label, std::span<std::byte> page) {
  LabelPage bytes = {};
  bytes.magic = kMagic;
  bytes.version = kVersion;
  bytes.page_bytes = kPageBytes;
  bytes.uuid = label.uuid;
  bytes.sequence = label.sequence;
  bytes.grown_bytes = label.grown_bytes;
  std::memcpy(page.data(), &bytes, sizeof bytes);
  const uint32_t crc = CrcOf(page);
  std::memcpy(page.data() + offsetof(LabelPage, crc), &crc, sizeof crc);
}

std::optional<BdevLabel> DecodeLabel(std::span<const std::byte> page) {
  LabelPage bytes;
  if (page.size() < sizeof bytes) return std::nullopt;
  std::memcpy(&bytes, page.data(), sizeof bytes);
  if (bytes.magic != kMagic || bytes.version != kVersion || bytes.page_bytes != kPageBytes ||
      bytes.crc != CrcOf(page.first(sizeof bytes)) || bytes.grown_bytes % kPageBytes != 0) {
    return std::nullopt;
  }
  return BdevLabel{bytes.uuid, bytes.sequence, bytes.grown_bytes};
}

}  // namespace pando
