// Chunk RPC over one transport: a process that serves a memory store, and in this one a loop that asks
// it as a reactor asks another node: session and driver on one thread, nothing between.
//   rpc_bench --transport tcp|shm|ipoib|rdma [--address A] [--network I] [--op get|has|put] [--bytes N] [--depth N]
//             [--chunks N] [--seal off|auto] [--seconds S] [--warm-up S] [--wait interrupt|adaptive|busy] [--cpus CLIENT,SERVER]
// Prints one line of JSON. Every payload is checked by its CRC on both sides, as always; a put brings a
// chunk that is there already, so that the store's log is not what is measured.
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "block/aligned_buffer.h"
#include "pando/data_plane.h"
#include "pando/peer_layout.h"
#include "pando/port_client.h"
#include "rpc/client_session.h"
#include "rpc/drivers.h"

namespace pando::rpc {
namespace {

constexpr uint64_t kSpinUs = 50;
constexpr uint64_t kTickUs = 2000;
constexpr uint64_t kMostChunkBytesStored = 64U << 20U;

struct Options {
  std::string transport = "tcp";
  std::string address;
  std::string network;  // ipoib: its interface
  Op op = Op::kGet;
  uint32_t bytes = 4096;
  uint32_t depth = 1;
  uint32_t chunks = 4096;  // at most: as many as 64 MiB
  double seconds = 2;
  double warm_up = 0.5;
  WaitMode wait = WaitMode::kAdaptive;
  int client_cpu = -1;
  int server_cpu = -1;
  SealMode seal = SealMode::kOff;
  std::string op_name = "get";
  std::string wait_name = "adaptive";
};

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "rpc_bench: %s\n", what.c_str());
  std::exit(1);
}

uint64_t NowNs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

double CpuSeconds(clockid_t clock) {
  timespec time = {};
  if (::clock_gettime(clock, &time) != 0) Fail("the CPU time of the server cannot be read");
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

void StayOn(int cpu) {
  if (cpu < 0) return;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(cpu), &cpus);
  if (::sched_setaffinity(0, sizeof cpus, &cpus) != 0) Fail("there is no CPU " + std::to_string(cpu));
}

Identity IdentityOf(uint8_t node) {
  Identity identity;
  identity.node.fill(node);
  identity.region.fill(1);
  identity.map_epoch = 1;
  return identity;
}

// ---- The side that serves

/// Until the other end of `until` is closed. Writes the address it listens at to `told`.
void Serve(const Options& options, int told, int until) {
  DataPlaneOptions plane_options;
  plane_options.backend = Backend::kMemory;
  plane_options.reactors = 1;
  plane_options.wait = options.wait;
  plane_options.capacity_bytes = 1ULL << 30U;
  // What is read comes from the device and is verified, every time.
  plane_options.cache_bytes = 0;
  auto plane = DataPlane::Open(plane_options);
  if (!plane.ok()) Fail(plane.error().message);
  PortOptions port_options;
  port_options.slab_bytes = 1U << 20U;
  auto port = plane.value()->OpenPort(port_options);
  if (!port.ok()) Fail(port.error().message);
  {
    PortClient client(*port.value());
    auto* page = reinterpret_cast<PeerPage*>(client.slab().data());
    *page = {};
    std::strncpy(page->kind, options.transport.c_str(), sizeof page->kind - 1);
    std::strncpy(page->network, options.network.c_str(), sizeof page->network - 1);
    std::strncpy(page->address, options.address.c_str(), sizeof page->address - 1);
    const Identity identity = IdentityOf(1);
    page->node = identity.node;
    page->region = identity.region;
    page->map_epoch = identity.map_epoch;
    page->timeout_ms = 5000;
    page->request_credits = 256;
    page->byte_credits = 64U << 20U;
    page->max_sessions = 16;
    page->seal = static_cast<uint32_t>(options.seal);
    PeerSqEntry entry = {};
    entry.token = 1;
    entry.op = static_cast<uint8_t>(kPeerListen);
    if (!client.Push(std::bit_cast<SqEntry>(entry))) Fail("a port without room");
    client.Publish();
    CqEntry completion;
    while (!client.Pop(completion)) std::this_thread::sleep_for(std::chrono::microseconds(100));
    if (completion.status != 0) Fail(std::string("listening: ") + page->message);
    const std::string address = page->address;
    if (::write(told, address.data(), address.size() + 1) < 0) Fail("nobody wants the address");
  }
  char byte = 0;
  while (::read(until, &byte, 1) > 0) {
  }
  port.value()->Close();
  port.value().reset();
  if (!plane.value()->Close().ok()) Fail("the store did not close");
}

// ---- The side that asks

class Client final : public SessionHost {
 public:
  Client(const Options& options, TransportDriver& driver) : options_(options), driver_(driver) {
    const size_t slot_bytes = RoundUp(std::max<uint32_t>(options.bytes, 4096), 4096);
    memory_ = AlignedBuffer(slot_bytes * options.depth);
    if (!driver_.AddMemory(memory_.span()).ok()) Fail("the memory cannot be registered");
    chunks_ = std::clamp<uint64_t>(kMostChunkBytesStored / options.bytes, 1, options.chunks);
    calls_.resize(options.depth);
    for (uint32_t i = 0; i < options.depth; ++i) {
      Asked& asked = calls_[i];
      asked.client = this;
      asked.call.memory = memory_.data() + i * slot_bytes;
      asked.call.context = &asked;
      asked.call.done = [](ClientCall* call) {
        auto* done = static_cast<Asked*>(call->context);
        done->client->Done(*done);
      };
    }
    samples_.reserve(4U << 20U);
  }
  ~Client() { driver_.RemoveMemory(memory_.span()); }

  uint64_t now_us() const override { return now_us_; }
  void FillNonce(Nonce& nonce) override {
    if (::getrandom(nonce.data(), nonce.size(), 0) < 0) Fail("no random bytes");
  }
  BufferPool& pool() override { std::abort(); }
  void Submit(PortSlot* /*slot*/) override { std::abort(); }
  bool Admit(Session& /*session*/) override { return true; }
  void Over(Session& session) override {
    if (!leaving_) Fail("the session ended: " + (session.end().ok() ? "" : session.end().error().message));
    over_ = true;
  }

  void Connect(const std::string& address) {
    auto connection = driver_.Connect(address);
    if (!connection.ok()) Fail(connection.error().message);
    SessionOptions session_options;
    session_options.identity = IdentityOf(2);
    session_options.seal = options_.seal;
    now_us_ = NowNs() / 1000;
    session_ = std::make_unique<ClientSession>(
        *this, std::move(session_options), &counters_, [](ClientSession*) {}, nullptr);
    session_->Begin(std::move(connection).value());
    TurnUntil([this] { return session_->open(); });
  }
  void Store() {
    std::memset(memory_.data(), 0x5A, memory_.span().size());
    next_ = 0;
    Run(Op::kPut, [this] { return next_ >= chunks_; });
  }
  /// For so long; returns what was done.
  uint64_t Ask(Op op, double seconds) {
    samples_.clear();
    const uint64_t until = NowNs() + static_cast<uint64_t>(seconds * 1e9);
    Run(op, [until] { return NowNs() >= until; });
    return samples_.size();
  }
  void Leave() {
    leaving_ = true;
    session_->Leave(1000);
    TurnUntil([this] { return over_; });
    session_.reset();
  }
  std::vector<uint32_t>& samples() { return samples_; }

 private:
  struct Asked {
    Client* client = nullptr;
    ClientCall call;
    uint64_t sent_ns = 0;
  };

  void Start(Asked& asked) {
    ClientCall& call = asked.call;
    call.op = op_;
    call.length = op_ == Op::kHas ? 0 : options_.bytes;
    const uint64_t number = next_++ % chunks_ + 1;
    std::memcpy(call.chunk.bytes.data(), &number, sizeof number);
    if (op_ == Op::kPut) std::memcpy(call.memory, &number, sizeof number);
    asked.sent_ns = NowNs();
    ++in_flight_;
    session_->Submit(&call);
  }
  void Done(Asked& asked) {
    const ClientCall& call = asked.call;
    if (call.status != ErrorCode::kOk || (op_ == Op::kGet && call.out_bytes != options_.bytes)) {
      Fail("a request failed with status " + std::to_string(static_cast<int>(call.status)));
    }
    --in_flight_;
    samples_.push_back(static_cast<uint32_t>(
        std::min<uint64_t>(NowNs() - asked.sent_ns, UINT32_MAX)));
    again_.push_back(&asked);
  }
  template <class Over>
  void Run(Op op, Over over) {
    op_ = op;
    again_.clear();
    for (Asked& asked : calls_) again_.push_back(&asked);
    TurnUntil([&] {
      if (!over()) {
        // Swapped: what is answered in Submit goes to the next turn.
        starting_.swap(again_);
        for (Asked* asked : starting_) Start(*asked);
        starting_.clear();
        return false;
      }
      return in_flight_ == 0;
    });
  }

  /// What the loop of a reactor does, for one driver.
  template <class Reached>
  void TurnUntil(Reached reached) {
    uint64_t idle_since = 0;
    while (!reached()) {
      now_us_ = NowNs() / 1000;
      const size_t work = driver_.Poll(now_us_);
      if (now_us_ - ticked_us_ >= kTickUs) {
        ticked_us_ = now_us_;
        session_->Tick();
      }
      if (work > 0) {
        idle_since = 0;
        continue;
      }
      if (options_.wait == WaitMode::kBusy) continue;
      if (options_.wait == WaitMode::kAdaptive) {
        if (idle_since == 0) idle_since = now_us_;
        if (now_us_ - idle_since < kSpinUs) continue;
      }
      idle_since = 0;
      if (!driver_.Arm()) continue;
      pollfd waiting{driver_.event_fd(), POLLIN, 0};
      ::poll(&waiting, 1, 5);
    }
  }

  const Options& options_;
  TransportDriver& driver_;
  AlignedBuffer memory_;
  uint64_t chunks_ = 1;
  PeerCounters counters_ = {};
  std::unique_ptr<ClientSession> session_;
  std::vector<Asked> calls_;
  std::vector<Asked*> again_;
  std::vector<Asked*> starting_;
  std::vector<uint32_t> samples_;
  Op op_ = Op::kPut;
  uint64_t next_ = 0;
  uint32_t in_flight_ = 0;
  uint64_t now_us_ = 0;
  uint64_t ticked_us_ = 0;
  bool leaving_ = false;
  bool over_ = false;
};

double PercentileUs(std::vector<uint32_t>& samples, double part) {
  const auto at = samples.begin() + static_cast<std::ptrdiff_t>(
                                        part * static_cast<double>(samples.size() - 1));
  std::nth_element(samples.begin(), at, samples.end());
  return *at / 1000.0;
}

void Measure(const Options& options, const std::string& address, pid_t server) {
  StayOn(options.client_cpu);
  auto driver = MakeDriver(options.transport, options.network);
  if (!driver.ok()) Fail(driver.error().message);
  clockid_t server_clock = 0;
  if (::clock_getcpuclockid(server, &server_clock) != 0) Fail("the server is gone");
  Client client(options, *driver.value());
  client.Connect(address);
  client.Store();
  client.Ask(options.op, options.warm_up);
  const double client_before = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
  const double server_before = CpuSeconds(server_clock);
  const uint64_t begun = NowNs();
  const auto operations = static_cast<double>(client.Ask(options.op, options.seconds));
  const double seconds = static_cast<double>(NowNs() - begun) * 1e-9;
  const double client_cpu = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - client_before;
  const double server_cpu = CpuSeconds(server_clock) - server_before;
  client.Leave();
  const double gib = operations * options.bytes / (1U << 30U);
  std::printf(
      "{\"transport\": \"%s\", \"op\": \"%s\", \"bytes\": %u, \"depth\": %u, \"wait\": \"%s\", "
      "\"operationsPerSecond\": %.1f, \"mibPerSecond\": %.1f, \"p50Us\": %.2f, \"p90Us\": %.2f, "
      "\"p99Us\": %.2f, \"clientCpuSecondsPerGib\": %.4f, \"serverCpuSecondsPerGib\": %.4f}\n",
      options.transport.c_str(), options.op_name.c_str(), options.bytes, options.depth,
      options.wait_name.c_str(), operations / seconds, gib * 1024 / seconds,
      PercentileUs(client.samples(), 0.5), PercentileUs(client.samples(), 0.9),
      PercentileUs(client.samples(), 0.99), client_cpu / gib, server_cpu / gib);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) Fail(name + " wants a value");
    const std::string value = argv[i + 1];
    if (name == "--transport") {
      options.transport = value;
    } else if (name == "--address") {
      options.address = value;
    } else if (name == "--network") {
      options.network = value;
    } else if (name == "--seal") {
      options.seal = value == "auto" ? SealMode::kAuto : SealMode::kOff;
    } else if (name == "--op") {
      options.op_name = value;
      options.op = value == "put" ? Op::kPut : value == "has" ? Op::kHas : Op::kGet;
    } else if (name == "--bytes") {
      options.bytes = static_cast<uint32_t>(std::stoul(value));
    } else if (name == "--chunks") {
      options.chunks = std::max<uint32_t>(1, static_cast<uint32_t>(std::stoul(value)));
    } else if (name == "--depth") {
      options.depth = static_cast<uint32_t>(std::stoul(value));
    } else if (name == "--seconds") {
      options.seconds = std::stod(value);
    } else if (name == "--warm-up") {
      options.warm_up = std::stod(value);
    } else if (name == "--wait") {
      options.wait_name = value;
      options.wait = value == "busy"        ? WaitMode::kBusy
                     : value == "interrupt" ? WaitMode::kInterrupt
                                            : WaitMode::kAdaptive;
    } else if (name == "--cpus") {
      if (std::sscanf(value.c_str(), "%d,%d", &options.client_cpu, &options.server_cpu) != 2) {
        Fail("--cpus wants CLIENT,SERVER");
      }
    } else {
      Fail("there is no option " + name);
    }
  }
  if (options.bytes < 8 || options.bytes > kMaxChunkBytes || options.depth < 1 || options.depth > 256) {
    Fail("--bytes is 8 to 4194304, --depth 1 to 256");
  }
  return options;
}

int Main(int argc, char** argv) {
  Options options = Parse(argc, argv);
  std::filesystem::path folder;
  if (options.address.empty() && options.transport == "shm") {
    std::string name = (std::filesystem::temp_directory_path() / "pando-rpc-bench-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) Fail("no temporary folder");
    folder = name;
    options.address = (folder / "socket").string();
  } else if (options.address.empty()) {
    options.address = "127.0.0.1:0";
  }
  std::array<int, 2> told = {};
  std::array<int, 2> until = {};
  if (::pipe(told.data()) != 0 || ::pipe(until.data()) != 0) Fail("no pipe");
  const pid_t server = ::fork();
  if (server < 0) Fail("no second process");
  if (server == 0) {
    // Whatever ends the measuring ends us too.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(told[0]);
    ::close(until[1]);
    StayOn(options.server_cpu);
    Serve(options, told[1], until[0]);
    std::exit(0);
  }
  ::close(told[1]);
  ::close(until[0]);
  std::array<char, 256> address = {};
  if (::read(told[0], address.data(), address.size() - 1) <= 0) Fail("the server did not begin");
  Measure(options, address.data(), server);
  ::close(until[1]);
  int status = 0;
  ::waitpid(server, &status, 0);
  if (!folder.empty()) std::filesystem::remove_all(folder);
  return status == 0 ? 0 : 1;
}

}  // namespace
}  // namespace pando::rpc

int main(int argc, char** argv) { return pando::rpc::Main(argc, argv); }
