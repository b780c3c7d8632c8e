#include "pando/data_plane.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "block/file_handle.h"
#include "block/spdk/backend.h"
#include "reactor/partition_list.h"
#include "reactor/reactor.h"
#include "rpc/transport/rdma.h"
#include "store/format.h"

namespace pando {
namespace {

constexpr uint32_t kMostReactors = 64;
constexpr size_t kMostPorts = 64;
constexpr uint32_t kSegmentPages = 16384;

std::string StorePath(const std::string& directory, uint32_t partition) {
  return directory + "/store-" + std::to_string(partition) + ".pando";
}

bool Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

// The newest superblock of a partition's file; nothing where none can be read: whoever opens it says why.
std::optional<Superblock> SuperblockOf(const std::string& path) {
  const FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  AlignedBuffer page(kPageBytes);
  std::optional<Superblock> newest;
  for (uint64_t copy = 0; file.get() >= 0 && copy < kSuperblockCopies; ++copy) {
    const auto offset = static_cast<off_t>(copy * kSuperblockSpacing);
    if (::pread(file.get(), page.data(), kPageBytes, offset) != ssize_t{kPageBytes}) continue;
    const auto superblock = DecodeSuperblock(page.span());
    if (!superblock.ok()) continue;
    if (!newest || superblock.value().sequence > newest->sequence) newest = superblock.value();
  }
  return newest;
}

class DataPlaneImpl final : public DataPlane {
 public:
  explicit DataPlaneImpl(DataPlaneOptions options) : options_(std::move(options)) {}
  ~DataPlaneImpl() override { static_cast<void>(Close()); }

  Status Open();
  [[nodiscard]] Result<std::unique_ptr<Port>> OpenPort(PortOptions options) override;
  [[nodiscard]] std::string_view backend() const override { return backend_; }
  [[nodiscard]] uint32_t partitions() const override {
    return static_cast<uint32_t>(reactors_.size());
  }
  [[nodiscard]] Status SetPlan(std::span<const ClassPlan> plan) override;
  [[nodiscard]] Status Close() override;

 private:
  Status LockDirectory();
  Result<uint32_t> CountPartitions(bool* create) const;
  Status ForgetHalfMade() const;
  Result<uint32_t> PrepareBdevs(bool* create);
  void Log(LogLevel level, const std::string& text) const {
    if (options_.log) options_.log(level, text);
  }

  DataPlaneOptions options_;
  FileHandle lock_;
  PartitionList bdevs_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::vector<Reactor*> all_;
  std::string backend_;
  std::mutex log_mutex_;
  std::mutex mutex_;  // guards what follows
  size_t next_home_ = 0;
  std::shared_ptr<std::atomic<size_t>> open_ports_ = std::make_shared<std::atomic<size_t>>(0);
  bool closed_ = false;
  Status close_status_;
};

Status DataPlaneImpl::LockDirectory() {
  if (options_.directory.empty()) {
    return Error{ErrorCode::kInvalidArgument, "no data directory given"};
  }
  if (::mkdir(options_.directory.c_str(), 0700) == 0) {
    // A store in a directory whose own name is lost with the power is lost too.
    const std::string parent = options_.directory + "/..";
    const FileHandle above(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (above.get() < 0 || ::fsync(above.get()) != 0) return SystemError("fsync " + parent, errno);
  } else if (errno != EEXIST) {
    return SystemError("mkdir " + options_.directory, errno);
  }
  const std::string path = options_.directory + "/lock";
  lock_ = FileHandle(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock_.get() < 0) return SystemError("open " + path, errno);
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SystemError("flock " + path, errno);
    char owner[32] = {};
    const ssize_t n = ::pread(lock_.get(), owner, sizeof owner - 1, 0);
    std::string who(owner, n > 0 ? static_cast<size_t>(n) : 0);
    while (!who.empty() && who.back() == '\n') who.pop_back();
    return Error{ErrorCode::kConflict, "the data directory " + options_.directory +
                                           " is open in another process" +
                                           (who.empty() ? "" : " (pid " + who + ")")};
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock_.get(), 0) != 0 ||
      ::pwrite(lock_.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return SystemError("write " + path, errno);
  }
  return {};
}

// A first start that was cut off, or found no room, leaves some partitions of a store that never served. Only what the list names is
// removed: in their place there may be files of a backup by now.
Status DataPlaneImpl::ForgetHalfMade() const {
  const std::string& directory = options_.directory;
  if (!HasPartitionList(directory, kMakingList)) return {};
  const auto list = ReadPartitionList(directory, kMakingList);
  if (!list.ok()) return list.error();
  const auto& uuids = list.value()->uuids;
  for (uint32_t i = 0; i < uuids.size(); ++i) {
    const std::string path = StorePath(directory, i);
    const auto superblock = SuperblockOf(path);
    if (!superblock || superblock->uuid != uuids[i]) continue;
    if (::unlink(path.c_str()) != 0) return SystemError("unlink " + path, errno);
  }
  const Status synced = SyncDirectory(directory);
  return synced.ok() ? ForgetPartitionList(directory, kMakingList) : synced;
}

// A directory keeps the number of partitions that it was made with: chunks are spread by it. With another number most of them would be
// looked for in the wrong place, found nowhere, and stored anew.
Result<uint32_t> DataPlaneImpl::CountPartitions(bool* create) const {
  const std::string& directory = options_.directory;
  uint32_t wanted = options_.reactors;
  if (wanted == 0) wanted = std::max(1U, std::thread::hardware_concurrency() / 2);
  wanted = std::min(wanted, kMostReactors);
  *create = true;
  if (options_.backend == Backend::kMemory) return wanted;
  if (HasPartitionList(directory, kBdevList)) {
    return Error{ErrorCode::kInvalidArgument, "the chunks of " + directory + " are on SPDK bdevs"};
  }
  const Status forgotten = ForgetHalfMade();
  if (!forgotten.ok()) return forgotten.error();
  uint32_t found = 0;
  uint32_t highest = 0;
  uint32_t made = 0;
  for (uint32_t i = 0; i < kMostReactors; ++i) {
    const std::string path = StorePath(directory, i);
    if (!Exists(path)) continue;
    ++found;
    highest = i + 1;
    if (made != 0) continue;
    if (const auto superblock = SuperblockOf(path)) made = superblock->partitions;
  }
  if (found == 0) return wanted;
  *create = false;
  if (made == 0) made = highest;
  if (found != made || highest != made) {
    return Error{ErrorCode::kInvalidArgument,
                 "the store in " + directory + " was made with " + std::to_string(made) +
                     (made == 1 ? " partition" : " partitions") + " (store-0.pando and so on); " +
                     std::to_string(found) + " are there, the last of them store-" +
                     std::to_string(highest - 1) + ".pando"};
  }
  if (options_.reactors != 0 && found != wanted) {
    Log(LogLevel::kWarn, "the store has " + std::to_string(found) + " partitions; asking for " +
                             std::to_string(wanted) + " reactors has no effect");
  }
  return found;
}

// The list is written before the first label and again when all stores are made, so that a first
// start may be cut off anywhere: the next one knows its own labels, and that nothing is lost with
// them.
Result<uint32_t> DataPlaneImpl::PrepareBdevs(bool* create) {
  const auto count = static_cast<uint32_t>(options_.bdevs.size());
  if (count == 0 || count > kMostReactors) {
    return Error{ErrorCode::kInvalidArgument, "the SPDK back end takes 1 to 64 bdevs"};
  }
  if (Exists(StorePath(options_.directory, 0))) {
    return Error{ErrorCode::kInvalidArgument,
                 "the chunks of " + options_.directory + " are in files of it, not on bdevs"};
  }
  auto found = ReadPartitionList(options_.directory, kBdevList);
  if (!found.ok()) return found.error();
  const bool memory =
      std::all_of(options_.bdevs.begin(), options_.bdevs.end(),
                  [](const BdevOptions& bdev) { return bdev.kind == BdevKind::kMalloc; });
  if (found.value()) bdevs_ = *found.value();
  if (bdevs_.made && memory) {
    return Error{ErrorCode::kInvalidArgument,
                 "the chunks of " + options_.directory + " are on other bdevs, not in memory"};
  }
  *create = !bdevs_.made;
  if (bdevs_.made && bdevs_.uuids.size() != count) {
    return Error{ErrorCode::kInvalidArgument,
                 options_.directory + " was made with " + std::to_string(bdevs_.uuids.size()) +
                     " bdevs and " + std::to_string(count) + " are configured"};
  }
  if (*create) {
    bdevs_.made = false;
    const size_t known = bdevs_.uuids.size();
    bdevs_.uuids.resize(count);
    for (size_t i = known; i < count; ++i) {
      if (::getrandom(bdevs_.uuids[i].data(), 16, 0) != 16) return SystemError("getrandom", errno);
    }
    // Memory leaves no trace: it is made anew each time.
    const Status written = memory ? Status() : WritePartitionList(options_.directory, kBdevList, bdevs_);
    if (!written.ok()) return written.error();
  }
  const Status started =
      LoadSpdkBackend()->Start({options_.spdk_memory_bytes, options_.bdevs}, options_.log);
  if (!started.ok()) return started.error();
  if (options_.capacity_bytes == 0) options_.capacity_bytes = uint64_t{count} << 50U;
  return count;
}

Status DataPlaneImpl::Open() {
  if (options_.log) {
    // Reactors log one at a time.
    options_.log = [this, sink = std::move(options_.log)](LogLevel level, std::string_view text) {
      const std::lock_guard lock(log_mutex_);
      sink(level, text);
    };
  }
  if (options_.backend == Backend::kSpdk && LoadSpdkBackend() == nullptr) {
    return Error{ErrorCode::kInvalidArgument, ProbeSpdk().reason};
  }
  if (options_.backend != Backend::kMemory) {
    const Status locked = LockDirectory();
    if (!locked.ok()) return locked;
  }
  bool create = false;
  const bool spdk = options_.backend == Backend::kSpdk;
  const auto count = spdk ? PrepareBdevs(&create) : CountPartitions(&create);
  if (!count.ok()) return count.error();
  const bool makes_files = create && !spdk && options_.backend != Backend::kMemory;
  StoreOptions store;
  store.partitions = count.value();
  store.segment_pages = kSegmentPages;
  const uint64_t segments =
      options_.capacity_bytes / (uint64_t{kSegmentPages} * kPageBytes) / count.value();
  if (segments < 8 || segments > (1U << 24U)) {
    return Error{ErrorCode::kInvalidArgument,
                 "capacity must be at least 512 MiB and at most 1 PiB a partition"};
  }
  store.capacity_segments = static_cast<uint32_t>(segments);
  store.cache_bytes = options_.cache_bytes / count.value();
  store.grow_ahead_segments = options_.grow_ahead_segments;
  store.log = options_.log;
  store.created_unix_ms =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                std::chrono::system_clock::now().time_since_epoch())
                                .count());
  PartitionList fresh;
  fresh.uuids.resize(count.value());
  for (auto& uuid : fresh.uuids) {
    if (::getrandom(uuid.data(), uuid.size(), 0) != static_cast<ssize_t>(uuid.size())) {
      return SystemError("getrandom", errno);
    }
  }
  if (makes_files) {
    const Status listed = WritePartitionList(options_.directory, kMakingList, fresh);
    if (!listed.ok()) return listed;
  }
  for (uint32_t i = 0; i < count.value(); ++i) {
    Reactor::Options reactor;
    reactor.index = i;
    reactor.count = count.value();
    reactor.plane = options_;
    reactor.store = store;
    reactor.store.partition = i;
    reactor.store.uuid = fresh.uuids[i];
    reactor.path = StorePath(options_.directory, i);
    reactor.create = create;
    if (spdk) reactor.bdev_uuid = bdevs_.uuids[i];
    reactors_.push_back(std::make_unique<Reactor>(std::move(reactor)));
    all_.push_back(reactors_.back().get());
  }
  std::vector<std::future<Result<std::string>>> opened;
  opened.reserve(all_.size());
  for (Reactor* reactor : all_) opened.push_back(reactor->Start(all_));
  Status status;
  for (auto& future : opened) {
    auto result = future.get();
    if (result.ok()) {
      backend_ = std::move(result).value();
    } else if (status.ok()) {
      status = result.error();
    }
  }
  // Before anything is acknowledged: the next start would make them anew.
  if (makes_files && status.ok()) status = ForgetPartitionList(options_.directory, kMakingList);
  if (spdk && create && HasPartitionList(options_.directory, kBdevList) && status.ok()) {
    bdevs_.made = true;
    status = WritePartitionList(options_.directory, kBdevList, bdevs_);
  }
  return status;
}

Result<std::unique_ptr<Port>> DataPlaneImpl::OpenPort(PortOptions options) {
  const std::lock_guard lock(mutex_);
  if (closed_) return Error{ErrorCode::kClosed, "the data plane is closed"};
  if (*open_ports_ >= kMostPorts) return Error{ErrorCode::kOverloaded, "64 ports are open"};
  Reactor& home = *all_[next_home_++ % all_.size()];
  auto port = ReactorPort::Create(home, all_, std::move(options));
  if (!port.ok()) return port.error();
  ++*open_ports_;
  port.value()->OnDestroy([counter = open_ports_] { --*counter; });
  return std::unique_ptr<Port>(std::move(port).value());
}

Status DataPlaneImpl::SetPlan(std::span<const ClassPlan> plan) {
  if (plan.empty() || plan.size() > kMostQosClasses ||
      !std::all_of(plan.begin(), plan.end(), IsUsablePlan)) {
    return Error{ErrorCode::kInvalidArgument,
                 "a plan has 1 to 64 classes: weights of 0.001 to 1e6, rates 0 or 0.001 to 1e12"};
  }
  const std::lock_guard lock(mutex_);
  if (closed_) return Error{ErrorCode::kClosed, "the data plane is closed"};
  // Chunks are spread over the partitions by a hash, so each gets an equal part of the work.
  const auto parts = static_cast<double>(all_.size());
  std::vector<ClassPlan> part(plan.begin(), plan.end());
  for (ClassPlan& numbers : part) {
    numbers.reservation /= parts;
    numbers.limit /= parts;
    numbers.burst /= parts;
  }
  for (Reactor* reactor : all_) reactor->Post([reactor, part] { reactor->SetPlan(part); });
  return {};
}

Status DataPlaneImpl::Close() {
  const std::lock_guard lock(mutex_);
  if (closed_) return close_status_;
  closed_ = true;
  // All ports of all reactors first: a request may be on its way between two of them.
  for (const auto& reactor : reactors_) reactor->ClosePorts();
  for (const auto& reactor : reactors_) {
    const Status status = reactor->Stop();
    if (!status.ok() && close_status_.ok()) close_status_ = status;
  }
  lock_.Reset();
  return close_status_;
}

}  // namespace

Result<std::unique_ptr<DataPlane>> DataPlane::Open(DataPlaneOptions options) {
  auto plane = std::make_unique<DataPlaneImpl>(std::move(options));
  const Status status = plane->Open();
  if (!status.ok()) return status.error();
  return std::unique_ptr<DataPlane>(std::move(plane));
}

bool HasRdma() { return rpc::HasRdma(); }

}  // namespace pando
