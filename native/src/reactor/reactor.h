// One thread with its device, its partition of the chunk store and its ports. Run to completion: no
// handler blocks, and nothing on the I/O path takes a lock.
#ifndef PANDO_REACTOR_REACTOR_H_
#define PANDO_REACTOR_REACTOR_H_

#include <array>
#include <atomic>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "block/block_device.h"
#include "reactor/port.h"
#include "reactor/spsc_ring.h"
#include "store/chunk_store.h"

namespace pando {

namespace rpc {
class Engine;
}

class Reactor {
 public:
  struct Options {
    uint32_t index = 0;
    uint32_t count = 1;
    DataPlaneOptions plane;
    StoreOptions store;
    std::string path;  // of the partition's file; unused by kMemory and kSpdk
    std::array<uint8_t, 16> bdev_uuid{};  // kSpdk: of the device's label
    bool create = false;
  };

  explicit Reactor(Options options);
  ~Reactor();

  /// Starts the thread; the future tells when the store is open, and the back end's name.
  [[nodiscard]] std::future<Result<std::string>> Start(const std::vector<Reactor*>& all);
  /// Closes all ports, as Port::Close does, and returns when they are closed.
  void ClosePorts();
  /// Finishes and closes the store. REQUIRES: all ports are closed.
  [[nodiscard]] Status Stop();

  /// Thread safe: runs `work` on the reactor's thread.
  void Post(std::function<void()> work);
  void Wake();
  [[nodiscard]] uint32_t index() const { return options_.index; }

  // On the reactor's own thread only:
  void AddPort(ReactorPort* port) { ports_.push_back(port); }
  void BeginClose(ReactorPort* port);
  void SetPlan(const std::vector<ClassPlan>& plan) { store_->SetPlan(plan); }
  /// Made when first asked for.
  [[nodiscard]] rpc::Engine& engine();
  /// Hands a slot to the reactor that owns its partition (maybe this one).
  void Route(PortSlot* slot, Reactor& target);

 private:
  void Run(std::promise<Result<std::string>> opened);
  Result<std::string> OpenStore();
  Status FormatFile();
  Result<std::unique_ptr<BlockDevice>> OpenDevice(const std::string& path, bool create);
  size_t Turn();
  size_t TakeMail();
  void Loop();
  void Execute(PortSlot* slot);
  void Deliver(PortSlot* slot);
  [[nodiscard]] bool HasWork() const;

  Options options_;
  std::vector<Reactor*> all_;
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<ChunkStore> store_;
  std::vector<ReactorPort*> ports_;
  std::unique_ptr<rpc::Engine> engine_;
  std::atomic<rpc::Engine*> engine_to_wake_{nullptr};
  // inbox_[i]: written by reactor i only.
  std::vector<std::unique_ptr<SpscRing<PortSlot*>>> inbox_;
  bool mail_waits_ = false;

  std::mutex mutex_;  // guards posted_
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> has_posted_{false};
  std::atomic<bool> sleeping_{false};
  std::atomic<uint32_t> closing_ports_{0};  // of any reactor; written by all
  bool stopping_ = false;                             // reactor thread only
  bool running_ = false;                              // set before Start's future is ready
  std::shared_ptr<std::promise<void>> ports_closed_;  // reactor thread only
  Status close_status_;
  std::thread thread_;
};

}  // namespace pando

#endif  // PANDO_REACTOR_REACTOR_H_
