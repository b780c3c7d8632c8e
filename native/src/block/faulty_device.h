// Decorates a device with faults of a FaultPlan. Works on any back end.
#ifndef PANDO_BLOCK_FAULTY_DEVICE_H_
#define PANDO_BLOCK_FAULTY_DEVICE_H_

#include <array>
#include <memory>
#include <optional>
#include <random>
#include <utility>

#include "block/block_device.h"
#include "pando/fault_plan.h"

namespace pando {

class FaultyDevice final : public BlockDevice {
 public:
  FaultyDevice(std::unique_ptr<BlockDevice> inner, FaultPlan plan);
  ~FaultyDevice() override;

  [[nodiscard]] uint64_t size() const override { return inner_->size(); }
  [[nodiscard]] uint64_t capacity() const override { return inner_->capacity(); }
  [[nodiscard]] bool wants_prewrite() const override { return inner_->wants_prewrite(); }
  [[nodiscard]] std::string_view name() const override { return inner_->name(); }
  [[nodiscard]] size_t in_flight() const override { return inner_->in_flight() + refused_.size(); }
  void Submit(BlockRequest* request) override;
  size_t Poll(uint64_t wait_us) override;
  void Wake() override { inner_->Wake(); }
  [[nodiscard]] int event_fd() override { return inner_->event_fd(); }
  [[nodiscard]] bool tells_edges() const override { return inner_->tells_edges(); }
  void Close() override { inner_->Close(); }

  /// Replaces the plan; counting starts anew.
  void SetPlan(FaultPlan plan);
  /// Operations of the kind since then.
  [[nodiscard]] uint64_t seen(FaultOp op) const { return seen_[static_cast<size_t>(op)]; }
  /// Every read that touches the range fails, whatever the plan says.
  void SetUnreadable(uint64_t offset, uint64_t length) { unreadable_ = {offset, offset + length}; }

 private:
  struct Proxy;
  [[nodiscard]] std::optional<FaultKind> Strike(BlockRequest::Op op);
  void Refuse(BlockRequest* request, int64_t result);
  void Distort(BlockRequest* request, FaultKind kind);

  std::unique_ptr<BlockDevice> inner_;
  FaultPlan plan_;
  std::mt19937_64 random_;
  std::array<uint64_t, 4> seen_ = {};
  std::pair<uint64_t, uint64_t> unreadable_ = {};  // from, to
  RequestQueue refused_;
};

}  // namespace pando

#endif  // PANDO_BLOCK_FAULTY_DEVICE_H_
