#include "reactor/reactor.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "block/faulty_device.h"
#include "block/memory_device.h"
#include "block/spdk/backend.h"
#include "reactor/partition_list.h"
#include "rpc/engine.h"

namespace pando {
namespace {

constexpr uint64_t kSpinUs = 50;
/// Fewer could not be collected from.
constexpr uint64_t kLeastSegments = 8;
constexpr uint32_t kMostSpinCredit = 4;
constexpr uint32_t kSpinAgain = 32;

uint64_t MonotonicUs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

}  // namespace

Reactor::Reactor(Options options) : options_(std::move(options)) {
  options_.store.now_us = MonotonicUs;
  for (uint32_t i = 0; i < options_.count; ++i) {
    inbox_.push_back(std::make_unique<SpscRing<PortSlot*>>());
  }
}

Reactor::~Reactor() {
  if (thread_.joinable()) thread_.join();
}

std::future<Result<std::string>> Reactor::Start(const std::vector<Reactor*>& all) {
  all_ = all;
  std::promise<Result<std::string>> opened;
  auto future = opened.get_future();
  thread_ = std::thread([this, promise = std::move(opened)]() mutable { Run(std::move(promise)); });
  return future;
}

void Reactor::ClosePorts() {
  if (!running_) return;
  auto done = std::make_shared<std::promise<void>>();
  Post([this, done] {
    ports_closed_ = done;
    for (ReactorPort* port : ports_) BeginClose(port);
  });
  done->get_future().wait();
}

Status Reactor::Stop() {
  if (thread_.joinable()) {
    Post([this] { stopping_ = true; });
    thread_.join();
  }
  return close_status_;
}

void Reactor::Post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
    has_posted_.store(true);
  }
  Wake();
}

void Reactor::Wake() {
  // With an engine the reactor sleeps in that, over the device too: one bell is enough. The device's is rung when the engine is not
  // seen here yet, and wakes it as well.
  if (rpc::Engine* engine = engine_to_wake_.load()) {
    engine->Wake();
  } else if (device_) {
    device_->Wake();
  }
}

rpc::Engine& Reactor::engine() {
  if (!engine_) {
    engine_ = std::make_unique<rpc::Engine>(*this, all_, options_.plane.log);
    engine_to_wake_.store(engine_.get());
  }
  return *engine_;
}

void Reactor::BeginClose(ReactorPort* port) {
  if (port->closing()) return;
  port->BeginClose();
  // Whoever closes a port waits for its requests: no limit of a class keeps them while it does.
  for (Reactor* reactor : all_) {
    ++reactor->closing_ports_;
    reactor->Wake();
  }
  if (engine_) engine_->PortCloses(*port);
}

Result<std::unique_ptr<BlockDevice>> Reactor::OpenDevice(const std::string& path, bool create) {
  const FileDeviceOptions file{path, create, options_.plane.log};
  if (options_.plane.backend == Backend::kMemory) {
    const uint64_t bytes = kDataOffset + uint64_t{options_.store.capacity_segments} *
                                             options_.store.segment_pages * kPageBytes;
    auto device = MemoryDevice::Open(bytes);
    if (!device.ok()) return device.error();
    return std::unique_ptr<BlockDevice>(std::move(device).value());
  }
  if (options_.plane.backend == Backend::kSpdk) {
    SpdkDeviceOptions bdev;
    bdev.bdev = options_.plane.bdevs[options_.index];
    bdev.partition = options_.index;
    bdev.uuid = options_.bdev_uuid;
    bdev.may_label = options_.create;
    bdev.log = options_.plane.log;
    return LoadSpdkBackend()->Open(std::move(bdev));
  }
  if (options_.plane.backend == Backend::kUring) {
    auto device = OpenUringDevice(file);
    if (device.ok()) return device;
    if (create) ::unlink(path.c_str());
    auto fallback = OpenPosixDevice(file);
    if (fallback.ok() && options_.plane.log) {
      options_.plane.log(LogLevel::kWarn, "io_uring is not usable here (" + device.error().message +
                                              "); using pread and pwrite threads");
    }
    return fallback;
  }
  return OpenPosixDevice(file);
}

// Made aside and renamed when whole: a start that was cut off leaves no half store behind.
Status Reactor::FormatFile() {
  const std::string fresh = options_.path + ".new";
  ::unlink(fresh.c_str());
  auto device = OpenDevice(fresh, true);
  if (!device.ok()) return device.error();
  const Status made = ChunkStore::Format(*device.value(), options_.store);
  device.value()->Close();
  if (!made.ok()) {
    ::unlink(fresh.c_str());
    return made.error();
  }
  if (std::rename(fresh.c_str(), options_.path.c_str()) != 0) {
    return SystemError("rename " + fresh, errno);
  }
  return SyncDirectory(options_.plane.directory);
}

Result<std::string> Reactor::OpenStore() {
  const bool memory = options_.plane.backend == Backend::kMemory;
  const bool spdk = options_.plane.backend == Backend::kSpdk;
  if (options_.create && !memory && !spdk) {
    const Status made = FormatFile();
    if (!made.ok()) return made.error();
  }
  auto device = OpenDevice(options_.path, false);
  if (!device.ok()) return device.error();
  std::string name(device.value()->name());
  std::unique_ptr<BlockDevice> opened = std::move(device).value();
  const auto refuse = [&opened](Error error) {
    opened->Close();
    return error;
  };
  if (spdk) {
    const uint64_t segment_bytes = uint64_t{options_.store.segment_pages} * kPageBytes;
    const uint64_t fit =
        opened->capacity() > kDataOffset ? (opened->capacity() - kDataOffset) / segment_bytes : 0;
    if (fit < kLeastSegments) {
      return refuse({ErrorCode::kInvalidArgument, "bdev " + std::to_string(options_.index) +
                                                      " has room for " + std::to_string(fit) +
                                                      " segments of 64 MiB; a partition needs 8"});
    }
    options_.store.capacity_segments =
        static_cast<uint32_t>(std::min<uint64_t>(options_.store.capacity_segments, fit));
  }
  // A bdev that has its label and nothing else: this directory's start was cut off, or is the
  // first.
  if (memory || (spdk && options_.create)) {
    const Status made = ChunkStore::Format(*opened, options_.store);
    if (!made.ok()) return refuse(made.error());
  }
  if (options_.plane.faulty) {
    opened = std::make_unique<FaultyDevice>(std::move(opened), options_.plane.faults);
  }
  auto store = ChunkStore::Open(*opened, options_.store);
  if (!store.ok()) return refuse(store.error());
  device_ = std::move(opened);
  store_ = std::move(store).value();
  return name;
}

void Reactor::Run(std::promise<Result<std::string>> opened) {
  const std::string name = "pando-reactor-" + std::to_string(options_.index);
  ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
  if (options_.plane.pin) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(options_.index % std::max(1U, std::thread::hardware_concurrency()), &cpus);
    ::pthread_setaffinity_np(::pthread_self(), sizeof cpus, &cpus);
  }
  auto result = OpenStore();
  const bool good = result.ok();
  running_ = good;
  opened.set_value(std::move(result));
  if (!good) return;
  Loop();
  close_status_ = store_->Close();
  store_.reset();
  device_->Close();
}

void Reactor::Route(PortSlot* slot, Reactor& target) {
  if (&target == this) return Execute(slot);
  target.inbox_[index()]->Push(slot);
  mail_waits_ = true;
  if (target.sleeping_.exchange(false)) target.Wake();
}

void Reactor::Execute(PortSlot* slot) {
  slot->request.context = slot;
  slot->request.done = [](StoreRequest* request) {
    auto* finished = static_cast<PortSlot*>(request->context);
    finished->target->Deliver(finished);
  };
  store_->Submit(&slot->request);
}

// Back to the reactor whose port asked.
void Reactor::Deliver(PortSlot* slot) {
  Reactor& home = slot->owner->home();
  if (&home == this) return slot->owner->Completed(slot);
  home.inbox_[index()]->Push(slot);
  mail_waits_ = true;
  if (home.sleeping_.exchange(false)) home.Wake();
}

size_t Reactor::TakeMail() {
  size_t count = 0;
  PortSlot* slot = nullptr;
  for (const auto& ring : inbox_) {
    while (ring->Pop(slot)) {
      ++count;
      // A slot meets a foreign reactor once: on its way out to be executed, or on its way home.
      if (slot->target == this) {
        Execute(slot);
      } else {
        slot->owner->Completed(slot);
      }
    }
  }
  if (mail_waits_) {
    mail_waits_ = false;
    for (Reactor* other : all_) {
      if (other == this) continue;
      SpscRing<PortSlot*>& ring = *other->inbox_[index()];
      if (!ring.waiting()) continue;
      if (!ring.Flush()) mail_waits_ = true;
      // It may have fallen asleep over the part that it was woken for.
      if (other->sleeping_.exchange(false)) other->Wake();
    }
  }
  return count;
}

size_t Reactor::Turn() {
  size_t work = 0;
  if (has_posted_.load()) {
    std::vector<std::function<void()>> posted;
    {
      const std::lock_guard lock(mutex_);
      posted.swap(posted_);
      has_posted_.store(false);
    }
    for (const auto& function : posted) function();
    work += posted.size();
  }
  store_->SetHurried(closing_ports_ > 0);
  work += TakeMail();
  for (ReactorPort* port : ports_) work += port->Take();
  work += store_->Poll();
  work += device_->Poll(0);
  work += store_->Poll();
  if (engine_) work += engine_->Poll();
  for (size_t i = 0; i < ports_.size();) {
    ReactorPort* port = ports_[i];
    port->RingDoorbell();
    if (port->closing() && port->quiet() && (!engine_ || !engine_->Uses(*port))) {
      if (engine_) engine_->PortGone(*port);
      ports_.erase(ports_.begin() + static_cast<std::ptrdiff_t>(i));
      for (Reactor* reactor : all_) --reactor->closing_ports_;
      port->FinishClose();  // the port may be gone from here on
      ++work;
    } else {
      ++i;
    }
  }
  if (ports_closed_ != nullptr && ports_.empty()) std::exchange(ports_closed_, {})->set_value();
  return work;
}

bool Reactor::HasWork() const {
  if (has_posted_.load() || mail_waits_) return true;
  for (const auto& ring : inbox_) {
    if (!ring->empty()) return true;
  }
  return std::any_of(ports_.begin(), ports_.end(),
                     [](const ReactorPort* port) { return port->CanTake(); });
}

void Reactor::Loop() {
  const WaitMode wait = options_.plane.wait;
  uint64_t idle_since = 0;
  // A spin saves less than a sleep and its end cost, so it pays only while more than half of them are rewarded: on a crowded machine
  // it burns the time slice in which the answer would come. A reward is worth one more vain spin; without any most sleeps are taken at once.
  uint32_t spin_credit = kMostSpinCredit;
  uint32_t skipped_spins = 0;
  while (!stopping_) {
    if (Turn() > 0) {
      if (idle_since != 0) spin_credit = std::min(spin_credit + 1, kMostSpinCredit);
      idle_since = 0;
      continue;
    }
    if (wait == WaitMode::kBusy) continue;
    const bool spin = spin_credit > 0 || ++skipped_spins % kSpinAgain == 0;
    if (wait == WaitMode::kAdaptive && (spin || idle_since != 0)) {
      const uint64_t now = MonotonicUs();
      if (idle_since == 0) idle_since = now;
      if (now - idle_since < kSpinUs) continue;
      if (spin_credit > 0) --spin_credit;
    }
    // Say that we sleep, then look again: whoever publishes looks for this word afterwards.
    sleeping_.store(true);
    for (ReactorPort* port : ports_) port->SetSleeping(true);
    if (!HasWork()) {
      const uint64_t wait_us = std::min<uint64_t>(store_->NextTimerUs(), 1000000);
      engine_ ? engine_->Sleep(*device_, wait_us) : static_cast<void>(device_->Poll(wait_us));
    }
    sleeping_.store(false);
    for (ReactorPort* port : ports_) port->SetSleeping(false);
    idle_since = 0;
  }
}

}  // namespace pando
