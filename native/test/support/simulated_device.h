// A disk with a volatile write cache, for crash tests: what was not made durable may be lost, torn
// at any sector, or kept, in any combination, as a real drive may do when the power goes.
#ifndef PANDO_TEST_SUPPORT_SIMULATED_DEVICE_H_
#define PANDO_TEST_SUPPORT_SIMULATED_DEVICE_H_

#include <memory>
#include <random>
#include <vector>

#include "block/block_device.h"

namespace pando {

/// What survives a crash. Shared by the devices that are opened on it one after another.
struct Medium {
  std::vector<std::byte> bytes;
};

class SimulatedDevice final : public BlockDevice {
 public:
  SimulatedDevice(std::shared_ptr<Medium> medium, uint64_t capacity, uint64_t seed);

  [[nodiscard]] uint64_t size() const override { return current_.size(); }
  [[nodiscard]] bool wants_prewrite() const override { return false; }
  [[nodiscard]] std::string_view name() const override { return "simulated"; }
  [[nodiscard]] size_t in_flight() const override { return queue_.size(); }
  void Submit(BlockRequest* request) override;
  size_t Poll(uint64_t wait_us) override;
  void Wake() override {}
  void Close() override {}

  /// From the nth write (counting from 0) on, nothing finishes any more: the power is gone.
  void CrashAtWrite(uint64_t nth) { crash_at_ = nth; }
  [[nodiscard]] bool crashed() const { return crashed_; }
  [[nodiscard]] uint64_t writes() const { return writes_; }
  /// Decides what the medium keeps of what was not durable. From here on every request fails.
  void PowerOff();
  /// Writes of which only the device's cache knew were lost or kept at random before; with this
  /// they are always lost.
  void DropAllUnsynced() { drop_all_ = true; }

 private:
  struct Write {
    uint64_t offset = 0;
    std::vector<std::byte> bytes;
  };
  [[nodiscard]] static Write CopyOf(const BlockRequest& request);
  void ApplyTo(std::vector<std::byte>& image, const Write& write) const;
  void Tear(const Write& write);
  int64_t Execute(BlockRequest& request);

  std::shared_ptr<Medium> medium_;
  uint64_t capacity_;
  std::mt19937_64 random_;
  std::vector<std::byte> current_;  // as the host sees it
  std::vector<Write> cached_;       // finished, not durable
  std::vector<BlockRequest*> queue_;
  uint64_t writes_ = 0;
  uint64_t crash_at_ = ~uint64_t{0};
  bool crashed_ = false;
  bool off_ = false;
  bool drop_all_ = false;
};

}  // namespace pando

#endif  // PANDO_TEST_SUPPORT_SIMULATED_DEVICE_H_
