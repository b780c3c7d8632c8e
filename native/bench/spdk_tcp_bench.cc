// What rpc_bench over tcp is compared with: SPDK's NVMe/TCP target with a device in memory, asked by SPDK's own
// initiator over the loopback interface. A process each, one core each; both poll, and never sleep.
//   spdk_tcp_bench [--op get|put] [--bytes N] [--depth N] [--digest off|on] [--seconds S] [--warm-up S]
//                  [--cpus CLIENT,SERVER]
// Prints one line of JSON in the words of rpc_bench. `--digest on`: CRC-32C of headers and data, as chunk RPC always has
// of both. Needs neither hugepages nor PCI devices.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <spdk/env.h>
#include <spdk/event.h>
#include <spdk/log.h>
#include <spdk/nvme.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace {

constexpr const char* kSubsystem = "nqn.2026-11.pando:bench";
constexpr uint32_t kBlockBytes = 4096;
constexpr uint32_t kMostBytes = 4U << 20U;
constexpr uint64_t kDeviceBytes = 64U << 20U;
/// MiB of a process, without hugepages.
constexpr int kMemory = 768;
/// Polls of the I/O queue between two of the admin queue.
constexpr uint32_t kAdminEvery = 1U << 16U;

struct Options {
  bool writes = false;
  uint32_t bytes = 4096;
  uint32_t depth = 32;
  bool digest = false;
  double seconds = 2;
  double warm_up = 0.5;
  int client_cpu = 0;
  int server_cpu = 0;
};

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "spdk_tcp_bench: %s\n", what.c_str());
  std::exit(1);
}

uint64_t NowNs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

double CpuSeconds(clockid_t clock) {
  timespec time = {};
  if (::clock_gettime(clock, &time) != 0) Fail("the CPU time of the target cannot be read");
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// SPDK's target cannot be told to take any free one.
std::string FreePort() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const auto any = reinterpret_cast<sockaddr*>(&address);
  if (::bind(socket, any, length) != 0 || ::getsockname(socket, any, &length) != 0) {
    Fail("no free port");
  }
  ::close(socket);
  return std::to_string(ntohs(address.sin_port));
}

void OnLog(int level, const char* /*file*/, int /*line*/, const char* /*function*/, const char* format,
           va_list arguments) {
  if (level <= SPDK_LOG_ERROR) std::vfprintf(stderr, format, arguments);
}

// ---- The target

std::string TargetConfig(const std::string& port) {
  const std::string blocks = std::to_string(kDeviceBytes / kBlockBytes);
  return R"({"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_malloc_create","params":{"name":"memory","block_size":)" +
         std::to_string(kBlockBytes) + R"(,"num_blocks":)" + blocks +
         R"(}},{"method":"bdev_wait_for_examine"}]},{"subsystem":"nvmf","config":[)"
         R"({"method":"nvmf_create_transport","params":{"trtype":"TCP","max_io_size":1048576,"io_unit_size":131072}},)"
         R"({"method":"nvmf_create_subsystem","params":{"nqn":")" +
         std::string(kSubsystem) +
         R"(","allow_any_host":true}},{"method":"nvmf_subsystem_add_ns","params":{"nqn":")" +
         std::string(kSubsystem) +
         R"(","namespace":{"bdev_name":"memory"}}},{"method":"nvmf_subsystem_add_listener","params":{"nqn":")" +
         std::string(kSubsystem) +
         R"(","listen_address":{"trtype":"TCP","adrfam":"IPv4","traddr":"127.0.0.1","trsvcid":")" + port +
         R"("}}}]}]})";
}

int started = -1;

/// Until it is killed.
[[noreturn]] void Serve(const std::string& port, int cpu, int told) {
  started = told;
  std::string config = TargetConfig(port);
  static char eal[] = "--log-level=lib.eal:error --file-prefix=pando-target";
  const std::string mask = "[" + std::to_string(cpu) + "]";
  spdk_app_opts options = {};
  spdk_app_opts_init(&options, sizeof options);
  options.name = "pando-target";
  options.rpc_addr = nullptr;
  options.reactor_mask = mask.c_str();
  options.mem_size = kMemory;
  options.no_pci = options.no_huge = true;
  options.env_context = eal;
  options.log = OnLog;
  options.print_level = SPDK_LOG_ERROR;
  options.disable_cpumask_locks = true;
  options.json_data = config.data();
  options.json_data_size = config.size();
  const int code = spdk_app_start(
      &options, [](void*) { [[maybe_unused]] const ssize_t n = ::write(started, "!", 1); }, nullptr);
  std::exit(code == 0 ? 0 : 1);
}

// ---- The side that asks

class Initiator {
 public:
  Initiator(const Options& options, const std::string& port) : options_(options) {
    static char eal[] = "--log-level=lib.eal:error --file-prefix=pando-initiator";
    const std::string mask = "[" + std::to_string(options.client_cpu) + "]";
    spdk_log_open(OnLog);
    spdk_env_opts env = {};
    env.opts_size = sizeof env;
    spdk_env_opts_init(&env);
    env.name = "pando-initiator";
    env.core_mask = mask.c_str();
    env.mem_size = kMemory;
    env.no_pci = env.no_huge = true;
    env.env_context = eal;
    if (spdk_env_init(&env) != 0) Fail("SPDK's environment does not start");
    spdk_nvme_transport_id target = {};
    const std::string text =
        "trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:" + port + " subnqn:" + kSubsystem;
    if (spdk_nvme_transport_id_parse(&target, text.c_str()) != 0) Fail("no address of a target");
    spdk_nvme_ctrlr_opts controller = {};
    spdk_nvme_ctrlr_get_default_ctrlr_opts(&controller, sizeof controller);
    controller.header_digest = controller.data_digest = options.digest;
    controller_ = spdk_nvme_connect(&target, &controller, sizeof controller);
    if (controller_ == nullptr) Fail("the target is not there");
    namespace_ = spdk_nvme_ctrlr_get_ns(controller_, 1);
    if (namespace_ == nullptr || spdk_nvme_ns_get_sector_size(namespace_) != kBlockBytes) {
      Fail("the target has another device");
    }
    spdk_nvme_io_qpair_opts queue = {};
    spdk_nvme_ctrlr_get_default_io_qpair_opts(controller_, &queue, sizeof queue);
    // What the target takes. Long transfers are cut in pieces, each a request, which wait for a place.
    queue.io_queue_size = 128;
    queue.io_queue_requests = 4096;
    queue_ = spdk_nvme_ctrlr_alloc_io_qpair(controller_, &queue, sizeof queue);
    if (queue_ == nullptr) Fail("no queue");
    asked_.resize(options.depth);
    for (Asked& asked : asked_) {
      asked.owner = this;
      asked.memory = spdk_dma_zmalloc(options.bytes, kBlockBytes, nullptr);
      if (asked.memory == nullptr) Fail("no memory");
    }
    samples_.reserve(4U << 20U);
  }
  void Close() {
    for (const Asked& asked : asked_) spdk_dma_free(asked.memory);
    spdk_nvme_ctrlr_free_io_qpair(queue_);
    spdk_nvme_detach(controller_);
    spdk_env_fini();
  }
  uint64_t Ask(double seconds) {
    samples_.clear();
    until_ = NowNs() + static_cast<uint64_t>(seconds * 1e9);
    for (Asked& asked : asked_) Start(asked);
    for (uint32_t turn = 1; in_flight_ > 0; ++turn) {
      if (spdk_nvme_qpair_process_completions(queue_, 0) < 0) Fail("the connection is gone");
      if (turn % kAdminEvery == 0) spdk_nvme_ctrlr_process_admin_completions(controller_);
    }
    return samples_.size();
  }
  std::vector<uint32_t>& samples() { return samples_; }

 private:
  struct Asked {
    Initiator* owner = nullptr;
    void* memory = nullptr;
    uint64_t sent_ns = 0;
  };
  void Start(Asked& asked) {
    const uint32_t blocks = options_.bytes / kBlockBytes;
    const uint64_t block = (next_++ % (kDeviceBytes / options_.bytes)) * blocks;
    asked.sent_ns = NowNs();
    ++in_flight_;
    const auto done = [](void* context, const spdk_nvme_cpl* completion) {
      auto* const of = static_cast<Asked*>(context);
      if (spdk_nvme_cpl_is_error(completion)) Fail("a request failed");
      of->owner->Done(*of);
    };
    const int code =
        options_.writes
            ? spdk_nvme_ns_cmd_write(namespace_, queue_, asked.memory, block, blocks, done, &asked, 0)
            : spdk_nvme_ns_cmd_read(namespace_, queue_, asked.memory, block, blocks, done, &asked, 0);
    if (code != 0) Fail("a request was not taken");
  }
  void Done(Asked& asked) {
    const uint64_t now = NowNs();
    --in_flight_;
    samples_.push_back(static_cast<uint32_t>(std::min<uint64_t>(now - asked.sent_ns, UINT32_MAX)));
    if (now < until_) Start(asked);
  }

  const Options& options_;
  spdk_nvme_ctrlr* controller_ = nullptr;
  spdk_nvme_ns* namespace_ = nullptr;
  spdk_nvme_qpair* queue_ = nullptr;
  std::vector<Asked> asked_;
  std::vector<uint32_t> samples_;
  uint64_t until_ = 0;
  uint64_t next_ = 0;
  uint32_t in_flight_ = 0;
};

double PercentileUs(std::vector<uint32_t>& samples, double part) {
  const auto at = samples.begin() +
                  static_cast<std::ptrdiff_t>(part * static_cast<double>(samples.size() - 1));
  std::nth_element(samples.begin(), at, samples.end());
  return *at / 1000.0;
}

void Measure(const Options& options, const std::string& port, pid_t target) {
  clockid_t target_clock = 0;
  if (::clock_getcpuclockid(target, &target_clock) != 0) Fail("the target is gone");
  Initiator initiator(options, port);
  initiator.Ask(options.warm_up);
  const double client_before = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
  const double server_before = CpuSeconds(target_clock);
  const uint64_t begun = NowNs();
  const auto operations = static_cast<double>(initiator.Ask(options.seconds));
  const double seconds = static_cast<double>(NowNs() - begun) * 1e-9;
  const double client_cpu = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - client_before;
  const double server_cpu = CpuSeconds(target_clock) - server_before;
  const double gib = operations * options.bytes / (1U << 30U);
  std::printf(
      "{\"transport\": \"nvme-tcp\", \"op\": \"%s\", \"bytes\": %u, \"depth\": %u, \"digest\": %s, "
      "\"operationsPerSecond\": %.1f, \"mibPerSecond\": %.1f, \"p50Us\": %.2f, \"p90Us\": %.2f, "
      "\"p99Us\": %.2f, \"clientCpuSecondsPerGib\": %.4f, \"serverCpuSecondsPerGib\": %.4f}\n",
      options.writes ? "put" : "get", options.bytes, options.depth, options.digest ? "true" : "false",
      operations / seconds, gib * 1024 / seconds, PercentileUs(initiator.samples(), 0.5),
      PercentileUs(initiator.samples(), 0.9), PercentileUs(initiator.samples(), 0.99),
      client_cpu / gib, server_cpu / gib);
  std::fflush(stdout);
  initiator.Close();
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) Fail(name + " wants a value");
    const std::string value = argv[i + 1];
    if (name == "--op") {
      options.writes = value == "put";
    } else if (name == "--bytes") {
      options.bytes = static_cast<uint32_t>(std::stoul(value));
    } else if (name == "--depth") {
      options.depth = static_cast<uint32_t>(std::stoul(value));
    } else if (name == "--digest") {
      options.digest = value == "on";
    } else if (name == "--seconds") {
      options.seconds = std::stod(value);
    } else if (name == "--warm-up") {
      options.warm_up = std::stod(value);
    } else if (name == "--cpus") {
      if (std::sscanf(value.c_str(), "%d,%d", &options.client_cpu, &options.server_cpu) != 2) {
        Fail("--cpus wants CLIENT,SERVER");
      }
    } else {
      Fail("there is no option " + name);
    }
  }
  if (options.bytes < kBlockBytes || options.bytes > kMostBytes || options.bytes % kBlockBytes != 0 ||
      options.depth < 1 || options.depth > 64) {
    Fail("--bytes is a multiple of 4096 up to 4194304, --depth 1 to 64");
  }
  return options;
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  const std::string port = FreePort();
  std::array<int, 2> told = {};
  if (::pipe(told.data()) != 0) Fail("no pipe");
  const pid_t target = ::fork();
  if (target < 0) Fail("no second process");
  if (target == 0) {
    // Whatever ends the measuring ends us too.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(told[0]);
    Serve(port, options.server_cpu, told[1]);
  }
  ::close(told[1]);
  char byte = 0;
  if (::read(told[0], &byte, 1) != 1) Fail("the target did not begin");
  Measure(options, port, target);
  ::kill(target, SIGKILL);
  ::waitpid(target, nullptr, 0);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return Main(argc, argv); }
