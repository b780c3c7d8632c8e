// A device in RAM: for tests, benchmarks, and nodes that only cache.
#ifndef PANDO_BLOCK_MEMORY_DEVICE_H_
#define PANDO_BLOCK_MEMORY_DEVICE_H_

#include <condition_variable>
#include <memory>
#include <mutex>

#include "block/block_device.h"

namespace pando {

class MemoryDevice final : public BlockDevice {
 public:
  /// Reserves addresses for `capacity` bytes; memory is taken when pages are first touched.
  [[nodiscard]] static Result<std::unique_ptr<MemoryDevice>> Open(uint64_t capacity);
  ~MemoryDevice() override;

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool wants_prewrite() const override { return false; }
  [[nodiscard]] std::string_view name() const override { return "memory"; }
  [[nodiscard]] size_t in_flight() const override { return waiting_.size(); }
  void Submit(BlockRequest* request) override { waiting_.Push(request); }
  size_t Poll(uint64_t wait_us) override;
  void Wake() override;
  void Close() override {}

  /// The medium itself, for tests that damage it.
  [[nodiscard]] std::span<std::byte> medium() { return {base_, size_}; }

 private:
  MemoryDevice(std::byte* base, uint64_t capacity) : base_(base), capacity_(capacity) {}
  int64_t Execute(BlockRequest& request);

  std::byte* base_;
  uint64_t capacity_;
  uint64_t size_ = 0;
  RequestQueue waiting_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false;
};

}  // namespace pando

#endif  // PANDO_BLOCK_MEMORY_DEVICE_H_
