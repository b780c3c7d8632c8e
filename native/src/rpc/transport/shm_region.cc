#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "rpc/transport/shm_connection.h"

namespace pando::rpc {
namespace {

constexpr size_t kControlBytes = 4096;
constexpr uint64_t kSmallestRing = 4096;
constexpr uint64_t kLargestRing = 64ULL << 20U;

Result<std::span<std::byte>> MapWhole(int fd, size_t bytes) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return SystemError("mmap of shared memory", errno);
  return std::span(static_cast<std::byte*>(memory), bytes);
}

}  // namespace

ShmRegion::ShmRegion(ShmRegion&& other) noexcept
    : memory_(std::exchange(other.memory_, {})), ring_bytes_(other.ring_bytes_) {}

ShmRegion& ShmRegion::operator=(ShmRegion&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(ring_bytes_, other.ring_bytes_);
  return *this;
}

ShmRegion::~ShmRegion() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
}

Result<ShmRegion::Made> ShmRegion::Make(uint32_t ring_bytes) {
  const size_t bytes = kControlBytes + 2 * size_t{ring_bytes};
  FileHandle file(::memfd_create("pando-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file.get() < 0) return SystemError("memfd_create", errno);
  // Allocated now: a page that cannot be had later would be a SIGBUS.
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0 ||
      ::fallocate(file.get(), 0, 0, static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return SystemError("shared memory", errno);
  }
  Result<ShmRegion> region = Map(file, ring_bytes);
  if (!region.ok()) return region.error();
  return Made{std::move(region).value(), std::move(file)};
}

Result<ShmRegion> ShmRegion::Map(const FileHandle& file, uint64_t ring_bytes) {
  if (!std::has_single_bit(ring_bytes) || ring_bytes < kSmallestRing || ring_bytes > kLargestRing) {
    return {ErrorCode::kProtocolError, "rings of an impossible size"};
  }
  const size_t bytes = kControlBytes + 2 * static_cast<size_t>(ring_bytes);
  struct stat found{};
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  // Only memory files have seals, and a sealed length can be trusted once it has been looked at.
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || ::fstat(file.get(), &found) != 0 ||
      found.st_size != static_cast<off_t>(bytes)) {
    return {ErrorCode::kProtocolError, "shared memory that is not sealed, or not as long as told"};
  }
  Result<std::span<std::byte>> memory = MapWhole(file.get(), bytes);
  if (!memory.ok()) return memory.error();
  ShmRegion region;
  region.memory_ = memory.value();
  region.ring_bytes_ = ring_bytes;
  return region;
}

RingControl* ShmRegion::control(size_t direction) const {
  return reinterpret_cast<RingControl*>(memory_.data()) + direction;
}

std::span<std::byte> ShmRegion::ring(size_t direction) const {
  return memory_.subspan(kControlBytes + direction * ring_bytes_, ring_bytes_);
}

}  // namespace pando::rpc
