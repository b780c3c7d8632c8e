// A port as its reactor sees it: takes submissions off the shared ring, routes them to partitions,
// and publishes completions.
#ifndef PANDO_REACTOR_PORT_H_
#define PANDO_REACTOR_PORT_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "pando/data_plane.h"
#include "reactor/port_slot.h"

namespace pando {

class Reactor;
class ReactorPort;

/// A mapped region, huge pages where the machine has them.
class Region {
 public:
  Region() = default;
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  [[nodiscard]] bool Map(size_t bytes);
  [[nodiscard]] std::span<std::byte> span() const { return {base_, size_}; }
  [[nodiscard]] bool hugepage() const { return hugepage_; }

 private:
  std::byte* base_ = nullptr;
  size_t size_ = 0;
  bool hugepage_ = false;
};

class ReactorPort final : public Port, public SlotOwner {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ReactorPort>> Create(Reactor& home,
                                                                   const std::vector<Reactor*>& all,
                                                                   PortOptions options);
  ~ReactorPort() override;
  [[nodiscard]] Reactor& home() override { return home_; }
  /// Runs when the port is destroyed.
  void OnDestroy(std::function<void()> function) { on_destroy_ = std::move(function); }

  [[nodiscard]] std::span<std::byte> rings() override { return rings_.span(); }
  [[nodiscard]] std::span<std::byte> slab() override { return slab_.span(); }
  [[nodiscard]] bool slab_is_hugepage() const override { return slab_.hugepage(); }
  void Kick() override;
  void Close() override;

  // On the home reactor's thread only:

  /// Takes submissions; returns how many.
  size_t Take();
  [[nodiscard]] bool CanTake() const;
  void SetSleeping(bool sleeping);
  void Completed(PortSlot* slot) override;
  /// Rings once if completions were published since the last call and the consumer is armed.
  void RingDoorbell();
  /// Stops taking submissions and cancels the queued ones.
  void BeginClose();
  [[nodiscard]] bool closing() const { return closing_; }
  [[nodiscard]] bool quiet() const { return in_flight_ == 0; }
  void FinishClose();

 private:
  ReactorPort(Reactor& home, const std::vector<Reactor*>& all, PortOptions options);
  void Execute(const SqEntry& entry);
  [[nodiscard]] bool Valid(const SqEntry& entry) const;
  [[nodiscard]] bool ValidForPeer(const SqEntry& entry) const;
  [[nodiscard]] bool InSlab(uint64_t offset, uint64_t bytes) const;
  void Publish(const CqEntry& entry);
  void Refuse(const SqEntry& entry, ErrorCode code);
  void Settle(uint64_t ticket);
  void ReleaseSyncs();
  [[nodiscard]] uint32_t CqRoom() const;

  Reactor& home_;
  std::function<void()> on_destroy_;
  std::vector<Reactor*> reactors_;
  PortOptions options_;
  Region rings_;
  Region slab_;
  PortControl* control_ = nullptr;
  SqEntry* sq_ = nullptr;
  CqEntry* cq_ = nullptr;
  std::vector<std::unique_ptr<PortSlot>> slots_;
  std::vector<PortSlot*> free_;
  uint32_t in_flight_ = 0;
  bool published_ = false;
  bool closing_ = false;

  // kSync: puts and deletes are numbered; a sync completes when all numbers below its own are
  // settled.
  uint64_t next_ticket_ = 1;
  uint64_t settled_below_ = 1;
  std::deque<bool> tickets_;  // [0] is settled_below_
  std::deque<std::pair<uint64_t, PortSlot*>> syncs_;

  std::mutex close_mutex_;
  std::condition_variable close_done_;
  bool close_requested_ = false;
  bool closed_ = false;
};

}  // namespace pando

#endif  // PANDO_REACTOR_PORT_H_
