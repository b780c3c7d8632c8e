#include "block/spdk/environment.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spdk/bdev.h>
#include <spdk/env.h>
#include <spdk/init.h>
#include <spdk/log.h>
#include <spdk/rpc.h>
#include <spdk/thread.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

#include "block/spdk/json_text.h"

namespace pando {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;
/// Of the thread: often enough for the admin queue of a controller, seldom enough to cost nothing.
constexpr std::chrono::milliseconds kWithControllers{2};
constexpr std::chrono::milliseconds kWithout{20};
constexpr size_t kMessages = 4095;
/// In a minute: a disk that fails gets a line from SPDK for each of its requests.
constexpr uint64_t kMostLogLines = 100;

// Pools of a size that a storage node has use for: each of its few threads keeps at most 128
// requests under way. Their defaults take 200 MB.
constexpr const char* kBufferPools =
    R"({"method":"iobuf_set_options","params":{"small_pool_count":2048,"large_pool_count":256}})";
// No other module of SPDK looks into our devices, or takes them for its own.
constexpr const char* kBdevOptions =
    R"({"method":"bdev_set_options","params":{"bdev_io_pool_size":8192,"bdev_io_cache_size":128,"bdev_auto_examine":false}},)"
    // SPDK leaves flushes out unless told otherwise, and reports success. And it must repeat
    // nothing: what a target held in a volatile cache may have gone with the connection, and a
    // flush that is repeated over a new one would succeed without it. Any other number of retries,
    // even 1, has SPDK repeat for ever what a lost connection cut off.
    R"({"method":"bdev_nvme_set_options","params":{"enable_flush":true,"bdev_retry_count":0,"ctrlr_loss_timeout_sec":0,"reconnect_delay_sec":0,"fast_io_fail_timeout_sec":0}})";

bool NeedsPci(const BdevOptions& bdev) { return bdev.kind == BdevKind::kNvme; }

uint64_t FreeHugepageBytes() {
  uint64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", error)) {
    const std::string name = entry.path().filename().string();  // hugepages-2048kB
    const size_t dash = name.find('-');
    uint64_t free = 0;
    std::ifstream(entry.path() / "free_hugepages") >> free;
    if (dash != std::string::npos)
      bytes += free * 1024 * std::strtoull(name.c_str() + dash + 1, nullptr, 10);
  }
  return bytes;
}

/// One of the CPUs that this process may use, as DPDK wants to be told.
std::string OneCpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  ::sched_getaffinity(0, sizeof cpus, &cpus);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &cpus)) return "[" + std::to_string(cpu) + "]";
  }
  return "0x1";
}

void OnLog(int level, const char*, int, const char*, const char* format, va_list arguments) {
  if (level > SPDK_LOG_NOTICE) return;
  char text[512];
  std::vsnprintf(text, sizeof text, format, arguments);
  std::string line = "SPDK: " + std::string(text);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  SpdkEnvironment::Get().Log(level <= SPDK_LOG_ERROR  ? LogLevel::kError
                             : level == SPDK_LOG_WARN ? LogLevel::kWarn
                                                      : LogLevel::kInfo,
                             line);
}

struct Answer {
  bool done = false;
  int code = 0;
  std::string text;  // what SPDK still reads from
};

void OnAnswer(int code, void* context) {
  // Held twice: by whoever waits, who may have given up, and by this call.
  const std::unique_ptr<std::shared_ptr<Answer>> held(
      static_cast<std::shared_ptr<Answer>*>(context));
  (*held)->code = code;
  (*held)->done = true;
}

/// host:port, [v6]:port
std::pair<std::string, std::string> HostAndPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return {host, colon == std::string::npos ? "4420" : address.substr(colon + 1)};
}

bool IsController(BdevKind kind) {
  return kind == BdevKind::kNvme || kind == BdevKind::kNvmeTcp || kind == BdevKind::kNvmeRdma;
}

std::string ControllerKey(const BdevOptions& options) {
  return options.target + " " + options.nqn + (options.kind == BdevKind::kNvmeRdma ? " rdma" : "");
}

}  // namespace

SpdkEnvironment& SpdkEnvironment::Get() {
  // Never destroyed: SPDK may log until the very end.
  static auto* const environment = new SpdkEnvironment;
  return *environment;
}

Status SpdkEnvironment::Start(const SpdkProcessOptions& options, const LogSink& log) {
  const std::lock_guard lock(start_mutex_);
  std::vector<std::string> wanted;
  uint64_t memory = options.memory_bytes;
  for (const BdevOptions& bdev : options.bdevs) {
    if (NeedsPci(bdev)) wanted.push_back(bdev.target);
    // Bookkeeping and bounce buffers of a device, and some slack for the allocator.
    memory += (bdev.kind == BdevKind::kMalloc ? bdev.size_bytes + bdev.size_bytes / 64 : 0) +
              24 * kMebibyte;
  }
  if (tried_) {
    if (!started_.ok()) return started_;
    for (const std::string& address : wanted) {
      if (std::find(pci_addresses_.begin(), pci_addresses_.end(), address) ==
          pci_addresses_.end()) {
        return Error{ErrorCode::kInvalidArgument, "SPDK runs in this process already, without " +
                                                      address + ": start the process again"};
      }
    }
    return {};
  }
  if (!wanted.empty() && FreeHugepageBytes() < memory) {
    return Error{
        ErrorCode::kInvalidArgument,
        "NVMe devices in user space need " + std::to_string(memory / kMebibyte) +
            " MiB of hugepages, and there are " + std::to_string(FreeHugepageBytes() / kMebibyte) +
            " MiB: sysctl vm.nr_hugepages=" + std::to_string(memory / (2 * kMebibyte) + 1)};
  }
  tried_ = true;
  memory_bytes_ = memory;
  pci_addresses_ = std::move(wanted);
  const LogToken token = AddLog(log);
  thread_ = std::thread([this] { Run(); });
  Do([&] { started_ = Initialize(options); });
  RemoveLog(token);
  // Its destructors and DPDK's run at exit; nothing may be polling by then.
  std::atexit([] { Get().Stop(); });
  return started_;
}

Status SpdkEnvironment::Initialize(const SpdkProcessOptions&) {
  spdk_log_open(OnLog);
  spdk_log_set_level(SPDK_LOG_NOTICE);
  spdk_log_set_print_level(SPDK_LOG_DISABLED);
  static std::string cpu = OneCpu();
  // SPDK keeps pointers into these.
  static char quiet[] = "--log-level=lib.eal:error";
  // Without huge pages the prefix names nothing but an empty folder, and one does for all.
  static char no_files[] = "--log-level=lib.eal:error --file-prefix=pando";
  static auto* const allowed = new std::vector<spdk_pci_addr>;
  spdk_env_opts options = {};
  options.opts_size = sizeof options;
  spdk_env_opts_init(&options);
  options.name = "pando";
  options.shm_id = -1;
  options.core_mask = cpu.c_str();
  options.mem_size = static_cast<int>(memory_bytes_ / kMebibyte);
  options.env_context = pci_addresses_.empty() ? no_files : quiet;
  options.no_pci = pci_addresses_.empty();
  // Only a device that reads and writes our memory by itself needs memory that never moves.
  options.no_huge = pci_addresses_.empty();
  for (const std::string& text : pci_addresses_) {
    spdk_pci_addr address = {};
    if (spdk_pci_addr_parse(&address, text.c_str()) != 0) {
      return Error{ErrorCode::kInvalidArgument, "'" + text + "' is not a PCI address"};
    }
    allowed->push_back(address);
  }
  if (!allowed->empty()) {
    options.pci_allowed = allowed->data();
    options.num_pci_addr = allowed->size();
  }
  cpu_set_t before;
  CPU_ZERO(&before);
  ::sched_getaffinity(0, sizeof before, &before);
  if (spdk_env_init(&options) < 0) {
    return Error{ErrorCode::kIoError,
                 "SPDK's environment did not start (" + std::to_string(memory_bytes_ / kMebibyte) +
                     " MiB of memory); its own words are on stderr: " + LastWords()};
  }
  ::sched_setaffinity(0, sizeof before, &before);  // DPDK put this thread on one CPU
  if (spdk_thread_lib_init_ext(nullptr, nullptr, 0, kMessages) != 0) {
    return Error{ErrorCode::kIoError, "SPDK's thread library did not start: " + LastWords()};
  }
  spdk_thread_ = spdk_thread_create("pando", nullptr);
  if (spdk_thread_ == nullptr)
    return Error{ErrorCode::kIoError, "SPDK made no thread: " + LastWords()};
  spdk_set_thread(spdk_thread_);
  spdk_rpc_set_state(SPDK_RPC_STARTUP);
  Status status = Configure("iobuf", kBufferPools);
  if (status.ok()) status = Configure("bdev", kBdevOptions);
  if (!status.ok()) return status;
  auto answer = std::make_shared<Answer>();
  spdk_subsystem_init(OnAnswer, new std::shared_ptr<Answer>(answer));
  if (!PollUntil(answer->done) || answer->code != 0) {
    return Error{ErrorCode::kIoError, "SPDK's subsystems did not start: " + LastWords()};
  }
  spdk_rpc_set_state(SPDK_RPC_RUNTIME);
  return {};
}

Status SpdkEnvironment::Configure(const std::string& subsystem, const std::string& calls) {
  {
    const std::lock_guard lock(log_mutex_);
    last_words_.clear();
  }
  auto answer = std::make_shared<Answer>();
  answer->text =
      "{\"subsystems\":[{\"subsystem\":" + JsonString(subsystem) + ",\"config\":[" + calls + "]}]}";
  spdk_subsystem_load_config(answer->text.data(), static_cast<ssize_t>(answer->text.size()),
                             OnAnswer, new std::shared_ptr<Answer>(answer), true);
  if (!PollUntil(answer->done)) return Error{ErrorCode::kIoError, "SPDK does not answer"};
  if (answer->code != 0) return Error{ErrorCode::kIoError, LastWords()};
  return {};
}

bool SpdkEnvironment::PollUntil(const bool& done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kConfigureSeconds);
  while (!done) {
    if (spdk_thread_poll(spdk_thread_, 0, 0) == 0) std::this_thread::yield();
    if (std::chrono::steady_clock::now() > deadline) return done;
  }
  return true;
}

void SpdkEnvironment::Run() {
  // Signals are the process's own threads' business; the threads that DPDK makes inherit this.
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  ::pthread_setname_np(::pthread_self(), "pando-spdk");
  for (;;) {
    const std::function<void()>* work = nullptr;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, controllers_.empty() ? kWithout : kWithControllers,
                        [this] { return work_ != nullptr || stopping_; });
      if (stopping_ && work_ == nullptr) return;
      work = work_;
    }
    if (work != nullptr) {
      (*work)();
      const std::lock_guard lock(mutex_);
      work_ = nullptr;
      changed_.notify_all();
    }
    if (spdk_thread_ != nullptr) spdk_thread_poll(spdk_thread_, 0, 0);
  }
}

void SpdkEnvironment::Do(const std::function<void()>& work) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return work_ == nullptr; });
  work_ = &work;
  changed_.notify_all();
  changed_.wait(lock, [this, &work] { return work_ != &work; });
}

void SpdkEnvironment::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

Result<std::string> SpdkEnvironment::CreateBdev(const BdevOptions& options) {
  Result<std::string> result = Error{ErrorCode::kInternal, "not run"};
  Do([&] { result = CreateHere(options); });
  return result;
}

void SpdkEnvironment::DeleteBdev(const BdevOptions& options, const std::string& name) {
  Do([&] { DeleteHere(options, name); });
}

Result<std::string> SpdkEnvironment::CreateHere(const BdevOptions& options) {
  std::string name = "pando" + std::to_string(next_name_++);
  const std::string named = "\"name\":" + JsonString(name);
  std::string calls;
  switch (options.kind) {
    case BdevKind::kAio:
    case BdevKind::kUring: {
      // A file has no block size of its own, a device knows its own.
      const std::string block =
          std::filesystem::is_block_file(options.target) ? "" : ",\"block_size\":4096";
      calls = JsonCall(options.kind == BdevKind::kAio ? "bdev_aio_create" : "bdev_uring_create",
                       named + ",\"filename\":" + JsonString(options.target) + block);
      break;
    }
    case BdevKind::kMalloc:
      calls = JsonCall("bdev_malloc_create", named + ",\"block_size\":4096,\"num_blocks\":" +
                                                 std::to_string(options.size_bytes / kPageBytes));
      break;
    default: {
      Controller& controller = controllers_[ControllerKey(options)];
      if (controller.users == 0) {
        std::string where;
        if (options.kind == BdevKind::kNvme) {
          where = ",\"trtype\":\"PCIe\",\"traddr\":" + JsonString(options.target);
        } else {
          const auto [host, port] = HostAndPort(options.target);
          where = std::string(",\"trtype\":") +
                  (options.kind == BdevKind::kNvmeTcp ? "\"TCP\"" : "\"RDMA\"") +
                  ",\"adrfam\":" + (host.find(':') == std::string::npos ? "\"IPv4\"" : "\"IPv6\"") +
                  ",\"traddr\":" + JsonString(host) + ",\"trsvcid\":" + JsonString(port) +
                  ",\"subnqn\":" + JsonString(options.nqn);
        }
        const Status attached =
            Configure("bdev", JsonCall("bdev_nvme_attach_controller", named + where));
        if (!attached.ok()) {
          controllers_.erase(ControllerKey(options));
          return attached.error();
        }
        controller.name = name;
      }
      ++controller.users;
      return controller.name + "n" + std::to_string(options.name_space);
    }
  }
  const Status created = Configure("bdev", calls);
  if (!created.ok()) return created.error();
  return name;
}

void SpdkEnvironment::DeleteHere(const BdevOptions& options, const std::string& name) {
  std::string method = "bdev_nvme_detach_controller";
  std::string target = name;
  if (IsController(options.kind)) {
    const auto found = controllers_.find(ControllerKey(options));
    if (found == controllers_.end() || --found->second.users > 0) return;
    target = found->second.name;
    controllers_.erase(found);
  } else {
    method = options.kind == BdevKind::kAio     ? "bdev_aio_delete"
             : options.kind == BdevKind::kUring ? "bdev_uring_delete"
                                                : "bdev_malloc_delete";
  }
  const Status deleted = Configure("bdev", JsonCall(method, "\"name\":" + JsonString(target)));
  if (!deleted.ok())
    Log(LogLevel::kWarn, "bdev " + target + " was not removed: " + deleted.error().message);
}

SpdkEnvironment::LogToken SpdkEnvironment::AddLog(LogSink sink) {
  const std::lock_guard lock(log_mutex_);
  return logs_.insert(logs_.end(), std::move(sink));
}

void SpdkEnvironment::RemoveLog(LogToken token) {
  const std::lock_guard lock(log_mutex_);
  logs_.erase(token);
}

void SpdkEnvironment::Log(LogLevel level, const std::string& text) {
  const std::lock_guard lock(log_mutex_);
  constexpr size_t kMostWords = 600;
  if (level >= LogLevel::kWarn && last_words_.size() < kMostWords) {
    last_words_ += (last_words_.empty() ? "" : "; ") + text;
  }
  if (logs_.empty() || !logs_.back()) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - log_minute_ >= std::chrono::minutes(1)) {
    if (log_lines_ > kMostLogLines) {
      logs_.back()(LogLevel::kWarn, "SPDK said " + std::to_string(log_lines_ - kMostLogLines) +
                                        " lines more than are logged in a minute");
    }
    log_minute_ = now;
    log_lines_ = 0;
  }
  if (++log_lines_ <= kMostLogLines) logs_.back()(level, text);
}

std::string SpdkEnvironment::LastWords() {
  const std::lock_guard lock(log_mutex_);
  return last_words_.empty() ? "SPDK gave no reason" : last_words_;
}

}  // namespace pando
