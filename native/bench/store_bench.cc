// The chunk store against fio on the same file system, in interleaved rounds: medians and ratios.
//   store_bench DIRECTORY [--json FILE] [--rounds N] [--spdk]
// fio writes with io_uring + O_DIRECT + O_DSYNC over a file laid out before, and reads the part of
// it that is as long as what the store has to read from, at the same queue depth and block size.
// The store writes chunks of that size, each acknowledged when durable, and is asked in two ways:
//   store  by the thread that polls it, as fio's one thread submits and reaps: what a reactor's own
//          work pays, such as a request from another node
//   port   by another thread, through the rings, as JavaScript asks: with two more wake-ups
// With --spdk, and without fio: our io_uring back end against the SPDK back end on files of the
// same file system, both asked through the port. SPDK's aio bdev is flushed as ours is (O_DSYNC
// there, one fsync for all completed writes here); its uring bdev is not, which a store would be
// refused with.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "block/block_device.h"
#include "pando/data_plane.h"
#include "pando/port_client.h"
#include "reactor/port.h"
#include "store/chunk_store.h"

namespace pando {
namespace {

constexpr uint64_t kDepth = 32;
constexpr uint64_t kGrown = 5ULL << 30U;
constexpr uint64_t kGrownForSpdk = 2304ULL << 20U;
constexpr uint32_t kSmall = 4096;

struct Case {
  const char* name;
  bool write;
  uint32_t bytes;
  uint64_t operations;
};
constexpr Case kCases[] = {
    {"put 4 KiB", true, kSmall, 40000},
    {"put 64 KiB", true, 65536, 8000},
    {"put 1 MiB", true, 1 << 20, 768},
    {"get 4 KiB uncached", false, kSmall, 60000},
};

ChunkId IdOf(uint64_t number) {
  ChunkId id;
  uint64_t x = (number + 1) * 0x9E3779B97F4A7C15ULL;
  std::memcpy(id.bytes.data(), &x, 8);
  std::memcpy(id.bytes.data() + 8, &number, 8);
  return id;
}

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "store_bench: %s\n", what.c_str());
  std::exit(1);
}

// Which chunks there are to be read; the two sides ask one after the other for the same store.
struct Chunks {
  std::vector<uint64_t> small;
  uint64_t next = 0;
  std::mt19937_64 random{7};

  uint64_t Choose(const Case& test) {
    if (!test.write) return small[random() % small.size()];
    if (test.bytes == kSmall) small.push_back(next);
    return next++;
  }
};

void FillRandomly(std::span<std::byte> bytes) {
  std::mt19937_64 random(1);
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t value = random();
    std::memcpy(bytes.data() + i, &value, 8);
  }
}

void LogWarnings(LogLevel level, std::string_view text) {
  if (level >= LogLevel::kWarn) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
  }
}

void CheckDone(ErrorCode code) {
  if (code != ErrorCode::kOk) Fail("a request failed: " + std::string(ErrorCodeName(code)));
}

// Keeps kDepth requests under way. `submit(slot, id)` hands one over, `collect` waits for some and
// returns the slots of those that are done.
template <typename Submit, typename Collect>
double Drive(const Case& test, Chunks& chunks, Submit submit, Collect collect) {
  std::vector<uint64_t> free(kDepth);
  for (uint64_t i = 0; i < kDepth; ++i) free[i] = i;
  uint64_t issued = 0;
  uint64_t done = 0;
  const double start = Seconds();
  while (done < test.operations) {
    while (issued < test.operations && !free.empty()) {
      submit(free.back(), IdOf(chunks.Choose(test)));
      free.pop_back();
      ++issued;
    }
    const size_t before = free.size();
    collect(free);
    done += free.size() - before;
  }
  return static_cast<double>(test.operations) / (Seconds() - start);
}

class PortSide {
 public:
  explicit PortSide(const std::string& directory, uint64_t grown = kGrown,
                    Backend with = Backend::kUring, const std::vector<BdevOptions>& bdevs = {}) {
    DataPlaneOptions options;
    options.directory = directory;
    options.backend = with;
    options.bdevs = bdevs;
    options.spdk_memory_bytes = 256 << 20;
    options.reactors = 1;
    options.cache_bytes = 0;
    options.capacity_bytes = grown;
    options.grow_ahead_segments = static_cast<uint32_t>(grown >> 26U);
    options.log = LogWarnings;
    auto plane = DataPlane::Open(options);
    if (!plane.ok()) Fail(plane.error().message);
    plane_ = std::move(plane).value();
    PortOptions port_options;
    port_options.slab_bytes = kDepth << 20U;
    // As a JavaScript thread waits: asleep on an eventfd that the doorbell writes.
    doorbell_ = ::eventfd(0, EFD_CLOEXEC);
    port_options.doorbell = [fd = doorbell_] {
      const uint64_t one = 1;
      if (::write(fd, &one, sizeof one) < 0) Fail("doorbell");
    };
    auto port = plane_->OpenPort(port_options);
    if (!port.ok()) Fail(port.error().message);
    port_ = std::move(port).value();
    client_ = std::make_unique<PortClient>(*port_);
    FillRandomly(client_->slab());
    while (Stats().grown_bytes < grown) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }

  ~PortSide() {
    client_.reset();
    port_.reset();
    plane_.reset();
    ::close(doorbell_);
  }

  [[nodiscard]] std::string backend() const { return std::string(plane_->backend()); }

  double Run(const Case& test, Chunks& chunks) {
    bool pushed = false;
    const auto submit = [&](uint64_t slot, const ChunkId& id) {
      SqEntry entry = {};
      entry.op = static_cast<uint8_t>(test.write ? PortOp::kPut : PortOp::kGet);
      entry.token = slot;
      entry.id = id;
      entry.length = test.bytes;
      entry.slab_offset = slot << 20U;
      if (!client_->Push(entry)) Fail("queue full");
      pushed = true;
    };
    return Drive(test, chunks, submit, [&](std::vector<uint64_t>& free) {
      if (std::exchange(pushed, false)) client_->Publish();
      CqEntry completion;
      const size_t before = free.size();
      while (client_->Pop(completion)) {
        CheckDone(static_cast<ErrorCode>(completion.status));
        free.push_back(completion.token);
      }
      if (free.size() == before && !client_->Arm()) Sleep();
    });
  }

 private:
  void Sleep() const {
    uint64_t count = 0;
    if (::read(doorbell_, &count, sizeof count) < 0) Fail("doorbell");
  }

  StoreStats Stats() {
    SqEntry entry = {};
    entry.op = static_cast<uint8_t>(PortOp::kStats);
    if (!client_->Push(entry)) Fail("queue full");
    client_->Publish();
    CqEntry completion;
    while (!client_->Pop(completion)) {
      if (!client_->Arm()) Sleep();
    }
    StoreStats stats;
    std::memcpy(&stats, client_->slab().data(), sizeof stats);
    return stats;
  }

  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<Port> port_;
  std::unique_ptr<PortClient> client_;
  int doorbell_ = -1;
};

// The store that a data plane has made and left, on this thread.
class StoreSide {
 public:
  explicit StoreSide(const std::string& directory) {
    if (!slab_.Map(kDepth << 20U)) Fail("no memory");
    auto device = OpenUringDevice({directory + "/store-0.pando", false, LogWarnings});
    if (!device.ok()) Fail(device.error().message);
    device_ = std::move(device).value();
    StoreOptions options;
    options.capacity_segments = kGrown >> 26U;
    options.cache_bytes = 0;
    options.now_us = [] { return static_cast<uint64_t>(Seconds() * 1e6); };
    options.log = LogWarnings;
    auto store = ChunkStore::Open(*device_, options);
    if (!store.ok()) Fail(store.error().message);
    store_ = std::move(store).value();
    FillRandomly(slab_.span());
  }

  ~StoreSide() {
    if (!store_->Close().ok()) Fail("the store did not close");
    store_.reset();
    device_->Close();
  }

  double Run(const Case& test, Chunks& chunks) {
    const StoreStats before = store_->Stats();
    for (size_t i = 0; i < kDepth; ++i) {
      slots_[i].number = i;
      slots_[i].finished = &finished_;
      slots_[i].request.done = [](StoreRequest* request) {
        auto* slot = static_cast<Slot*>(request->context);
        CheckDone(request->status);
        slot->finished->push_back(slot->number);
      };
    }
    const auto submit = [&](uint64_t slot, const ChunkId& id) {
      StoreRequest& request = slots_[slot].request;
      const auto done = request.done;
      request = StoreRequest{};
      request.done = done;
      request.context = &slots_[slot];
      request.op = test.write ? PortOp::kPut : PortOp::kGet;
      request.id = id;
      request.data = slab_.span().data() + (slot << 20U);
      request.length = test.bytes;
      store_->Submit(&request);
    };
    const double rate = Drive(test, chunks, submit, [&](std::vector<uint64_t>& free) {
      size_t work = store_->Poll();
      work += device_->Poll(0);
      work += store_->Poll();
      if (work == 0) device_->Poll(std::min<uint64_t>(store_->NextTimerUs(), 1000000));
      free.insert(free.end(), finished_.begin(), finished_.end());
      finished_.clear();
    });
    if (test.write) {
      const StoreStats after = store_->Stats();
      std::fprintf(stderr, "%s: %.0f op/s, %.1f records a batch\n", test.name, rate,
                   static_cast<double>(after.puts - before.puts) /
                       static_cast<double>(after.batches - before.batches));
    }
    return rate;
  }

 private:
  struct Slot {
    StoreRequest request;
    uint64_t number = 0;
    std::vector<uint64_t>* finished = nullptr;
  };

  Region slab_;
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<ChunkStore> store_;
  std::array<Slot, kDepth> slots_;
  std::vector<uint64_t> finished_;
};

std::string RunCommand(const std::string& command) {
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) Fail("cannot run fio");
  std::string output;
  char buffer[4096];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
  if (::pclose(pipe) != 0) Fail("fio failed: " + output);
  return output;
}

std::string FioCommand(const std::string& file, const std::string& more) {
  return "fio --name=bench --filename='" + file +
         "' --ioengine=io_uring --direct=1 --iodepth=32 --output-format=terse "
         "--terse-version=3 " +
         more + " 2>/dev/null";
}

double RunFio(const std::string& file, const Case& test, const Chunks& chunks) {
  std::string more = "--bs=" + std::to_string(test.bytes) +
                     " --io_size=" + std::to_string(test.operations * test.bytes);
  more += test.write ? " --size=2g --rw=write --sync=dsync --overwrite=1"
                     : " --rw=randread --norandommap --size=" +
                           std::to_string(chunks.small.size() * test.bytes);
  std::string line = RunCommand(FioCommand(file, more));
  const size_t column = test.write ? 48 : 7;
  for (size_t i = 0; i < column; ++i) {
    const size_t semicolon = line.find(';');
    if (semicolon == std::string::npos) Fail("fio says: " + line);
    line.erase(0, semicolon + 1);
  }
  return std::atof(line.c_str());
}

struct Rates {
  std::vector<double> ours;
  std::vector<double> fio;
};
using Ratios = std::array<Rates, std::size(kCases)>;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int CompareWithSpdk(const std::string& directory, size_t rounds) {
  if (!ProbeSpdk().reason.empty()) Fail(ProbeSpdk().reason);
  struct Way {
    const char* name;
    Backend backend;
    BdevKind kind;
    std::array<std::vector<double>, std::size(kCases)> rates;
  };
  std::array<Way, 3> ways = {{{"uring", Backend::kUring, BdevKind::kAio, {}},
                              {"spdk aio", Backend::kSpdk, BdevKind::kAio, {}},
                              {"spdk uring, unflushed", Backend::kSpdk, BdevKind::kUring, {}}}};
  const std::string store_path = directory + "/store-bench";
  const std::string disk_path = directory + "/disk-bench";
  for (size_t round = 0; round < rounds; ++round) {
    for (Way& way : ways) {
      std::filesystem::remove_all(store_path);
      std::filesystem::remove(disk_path);
      BdevOptions bdev;
      bdev.kind = way.kind;
      bdev.target = disk_path;
      bdev.may_lose = way.kind == BdevKind::kUring;
      if (way.backend == Backend::kSpdk) {
        std::ofstream(disk_path).flush();
        std::filesystem::resize_file(disk_path, kGrownForSpdk + (4 << 20));
      }
      PortSide side(store_path, kGrownForSpdk, way.backend, {bdev});
      Chunks chunks;
      for (size_t i = 0; i < std::size(kCases); ++i)
        way.rates[i].push_back(side.Run(kCases[i], chunks));
    }
  }
  std::filesystem::remove_all(store_path);
  std::filesystem::remove(disk_path);
  std::printf(
      "%s; queue depth %llu, medians of %zu interleaved rounds; in brackets against uring\n",
      ProbeSpdk().version.c_str(), static_cast<unsigned long long>(kDepth), rounds);
  for (size_t i = 0; i < std::size(kCases); ++i) {
    std::printf("%-20s", kCases[i].name);
    for (const Way& way : ways) {
      const double rate = Median(way.rates[i]);
      std::printf("  %s %.0f/s (%.2f)", way.name, rate, rate / Median(ways[0].rates[i]));
    }
    std::printf("\n");
  }
  return 0;
}

int Main(int count, char** arguments) {
  std::string directory;
  std::string json_path;
  size_t rounds = 3;
  bool spdk = false;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--json" && i + 1 < count) {
      json_path = arguments[++i];
    } else if (argument == "--rounds" && i + 1 < count) {
      rounds = std::max(1UL, std::strtoul(arguments[++i], nullptr, 10));
    } else if (argument == "--spdk") {
      spdk = true;
    } else {
      directory = argument;
    }
  }
  if (directory.empty()) Fail("usage: store_bench DIRECTORY [--json FILE] [--rounds N] [--spdk]");
  std::filesystem::create_directories(directory);
  if (spdk) return CompareWithSpdk(directory, rounds);
  const std::string store_path = directory + "/store-bench";
  const std::string fio_path = directory + "/fio-bench";
  std::filesystem::remove_all(store_path);
  RunCommand(FioCommand(fio_path, "--rw=write --bs=1m --size=2g --end_fsync=1"));

  // For each case of each way: the rate, and fio's right after it.
  Ratios store;
  Ratios port;
  std::string backend;
  for (size_t round = 0; round < rounds; ++round) {
    Chunks chunks;
    const auto measure = [&](auto& side, Ratios& ratios) {
      for (size_t i = 0; i < std::size(kCases); ++i) {
        ratios[i].ours.push_back(side.Run(kCases[i], chunks));
        ratios[i].fio.push_back(RunFio(fio_path, kCases[i], chunks));
      }
    };
    {
      PortSide side(store_path);
      backend = side.backend();
      measure(side, port);
    }
    {
      StoreSide side(store_path);
      measure(side, store);
    }
    std::filesystem::remove_all(store_path);
  }
  std::filesystem::remove(fio_path);

  std::printf("back end %s, queue depth %llu, medians of %zu interleaved rounds\n", backend.c_str(),
              static_cast<unsigned long long>(kDepth), rounds);
  std::printf("%-20s %12s %12s %8s %14s %12s %8s\n", "", "store op/s", "fio op/s", "ratio",
              "port op/s", "fio op/s", "ratio");
  std::string json = "{\n  \"backend\": \"" + backend + "\",\n  \"depth\": 32,\n  \"cases\": [\n";
  for (size_t i = 0; i < std::size(kCases); ++i) {
    const double direct = Median(store[i].ours);
    const double direct_fio = Median(store[i].fio);
    const double ported = Median(port[i].ours);
    const double ported_fio = Median(port[i].fio);
    std::printf("%-20s %12.0f %12.0f %8.2f %14.0f %12.0f %8.2f\n", kCases[i].name, direct,
                direct_fio, direct / direct_fio, ported, ported_fio, ported / ported_fio);
    char line[320];
    std::snprintf(line, sizeof line,
                  "    {\"name\": \"%s\", \"store\": %.1f, \"fio\": %.1f, \"ratio\": %.3f, "
                  "\"port\": %.1f, \"portFio\": %.1f, \"portRatio\": %.3f}%s\n",
                  kCases[i].name, direct, direct_fio, direct / direct_fio, ported, ported_fio,
                  ported / ported_fio, i + 1 < std::size(kCases) ? "," : "");
    json += line;
  }
  json += "  ]\n}\n";
  if (!json_path.empty()) std::ofstream(json_path) << json;
  return 0;
}

}  // namespace
}  // namespace pando

int main(int count, char** arguments) { return pando::Main(count, arguments); }
