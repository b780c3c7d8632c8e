// RAM whose writes a test holds back: they fail when it says so, while later ones have finished long ago.
#ifndef PANDO_TEST_SUPPORT_HOLDING_DEVICE_H_
#define PANDO_TEST_SUPPORT_HOLDING_DEVICE_H_

#include <cerrno>
#include <functional>
#include <memory>
#include <utility>

#include "block/memory_device.h"

namespace pando {

class HoldingDevice final : public BlockDevice {
 public:
  explicit HoldingDevice(uint64_t capacity)
      : inner_(std::move(MemoryDevice::Open(capacity).value())) {}

  [[nodiscard]] uint64_t size() const override { return inner_->size(); }
  [[nodiscard]] bool wants_prewrite() const override { return false; }
  [[nodiscard]] std::string_view name() const override { return "holding"; }
  [[nodiscard]] size_t in_flight() const override { return inner_->in_flight() + held_.size(); }
  void Submit(BlockRequest* request) override {
    const bool hold = request->op == BlockRequest::Op::kWrite && holds && holds(*request);
    hold ? held_.Push(request) : inner_->Submit(request);
  }
  size_t Poll(uint64_t wait_us) override { return inner_->Poll(wait_us); }
  void Wake() override {}
  void Close() override {}

  [[nodiscard]] size_t held() const { return held_.size(); }
  /// What is held reaches the medium never, and its owners learn that.
  void FailHeld() {
    for (size_t n = held_.size(); n > 0; --n) {
      BlockRequest* request = held_.Pop();
      request->result = -EIO;
      request->done(request);
    }
  }

  std::function<bool(const BlockRequest&)> holds;

 private:
  std::unique_ptr<MemoryDevice> inner_;
  RequestQueue held_;
};

}  // namespace pando

#endif  // PANDO_TEST_SUPPORT_HOLDING_DEVICE_H_
