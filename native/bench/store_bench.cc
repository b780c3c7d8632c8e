// The chunk store against fio on the same file system, in interleaved rounds: medians and ratios.
//   store_bench DIRECTORY [--json FILE] [--rounds N]
// fio writes with io_uring + O_DIRECT + O_DSYNC over a file laid out before, at the same queue
// depth and block size; the store writes chunks of that size through a port, each acknowledged when
// durable.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "pando/data_plane.h"
#include "pando/port_client.h"

namespace pando {
namespace {

constexpr uint64_t kDepth = 32;
constexpr uint64_t kGrown = 5ULL << 30U;

struct Case {
  const char* name;
  bool write;
  uint32_t bytes;
  uint64_t operations;
};
constexpr Case kCases[] = {
    {"put 4 KiB", true, 4096, 40000},
    {"put 64 KiB", true, 65536, 8000},
    {"put 1 MiB", true, 1 << 20, 768},
    {"get 4 KiB uncached", false, 4096, 60000},
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

class StoreSide {
 public:
  explicit StoreSide(const std::string& directory) {
    DataPlaneOptions options;
    options.directory = directory;
    options.reactors = 1;
    options.cache_bytes = 0;
    options.capacity_bytes = kGrown;
    options.grow_ahead_segments = kGrown >> 26U;
    options.log = [](LogLevel level, std::string_view text) {
      if (level >= LogLevel::kWarn)
        std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
    };
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
    std::mt19937_64 random(1);
    for (size_t i = 0; i < client_->slab().size(); i += 8) {
      const uint64_t value = random();
      std::memcpy(client_->slab().data() + i, &value, 8);
    }
    while (Stats().grown_bytes < kGrown) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }

  ~StoreSide() {
    client_.reset();
    port_.reset();
    plane_.reset();
    ::close(doorbell_);
  }

  [[nodiscard]] std::string backend() const { return std::string(plane_->backend()); }

  double Run(const Case& test) {
    if (test.write) {
      const StoreStats before = Stats();
      const double rate = Drive(test, [this] { return next_id_++; });
      const StoreStats after = Stats();
      std::fprintf(stderr, "%s: %.0f op/s, %.1f records a batch\n", test.name, rate,
                   static_cast<double>(after.puts - before.puts) /
                       static_cast<double>(after.batches - before.batches));
      return rate;
    }
    std::uniform_int_distribution<uint64_t> pick(0, small_.size() - 1);
    return Drive(test, [&] { return small_[pick(random_)]; });
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

  template <typename Next>
  double Drive(const Case& test, Next next) {
    std::vector<uint64_t> free(kDepth);
    for (uint64_t i = 0; i < kDepth; ++i) free[i] = i;
    uint64_t issued = 0;
    uint64_t done = 0;
    const double start = Seconds();
    while (done < test.operations) {
      bool pushed = false;
      while (issued < test.operations && !free.empty()) {
        const uint64_t slot = free.back();
        free.pop_back();
        const uint64_t number = next();
        if (test.write && test.bytes == 4096) small_.push_back(number);
        SqEntry entry = {};
        entry.op = static_cast<uint8_t>(test.write ? PortOp::kPut : PortOp::kGet);
        entry.token = slot;
        entry.id = IdOf(number);
        entry.length = test.bytes;
        entry.slab_offset = slot << 20U;
        if (!client_->Push(entry)) Fail("queue full");
        ++issued;
        pushed = true;
      }
      if (pushed) client_->Publish();
      CqEntry completion;
      bool popped = false;
      while (client_->Pop(completion)) {
        if (completion.status != 0) {
          Fail("a request failed: " +
               std::string(ErrorCodeName(static_cast<ErrorCode>(completion.status))));
        }
        free.push_back(completion.token);
        ++done;
        popped = true;
      }
      if (!popped && !client_->Arm()) Sleep();
    }
    return static_cast<double>(test.operations) / (Seconds() - start);
  }

  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<Port> port_;
  std::unique_ptr<PortClient> client_;
  std::vector<uint64_t> small_;
  std::mt19937_64 random_{7};
  uint64_t next_id_ = 0;
  int doorbell_ = -1;
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
         "' --ioengine=io_uring --direct=1 --size=2g --iodepth=32 --output-format=terse "
         "--terse-version=3 " +
         more + " 2>/dev/null";
}

double RunFio(const std::string& file, const Case& test) {
  std::string more = "--bs=" + std::to_string(test.bytes) +
                     " --io_size=" + std::to_string(test.operations * test.bytes);
  more += test.write ? " --rw=write --sync=dsync --overwrite=1" : " --rw=randread --norandommap";
  std::string line = RunCommand(FioCommand(file, more));
  const size_t column = test.write ? 48 : 7;
  for (size_t i = 0; i < column; ++i) {
    const size_t semicolon = line.find(';');
    if (semicolon == std::string::npos) Fail("fio says: " + line);
    line.erase(0, semicolon + 1);
  }
  return std::atof(line.c_str());
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Main(int count, char** arguments) {
  std::string directory;
  std::string json_path;
  size_t rounds = 3;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--json" && i + 1 < count) {
      json_path = arguments[++i];
    } else if (argument == "--rounds" && i + 1 < count) {
      rounds = std::max(1UL, std::strtoul(arguments[++i], nullptr, 10));
    } else {
      directory = argument;
    }
  }
  if (directory.empty()) Fail("usage: store_bench DIRECTORY [--json FILE] [--rounds N]");
  std::filesystem::create_directories(directory);
  const std::string store_path = directory + "/store-bench";
  const std::string fio_path = directory + "/fio-bench";
  std::filesystem::remove_all(store_path);
  RunCommand(FioCommand(fio_path, "--rw=write --bs=1m --end_fsync=1"));

  std::vector<std::vector<double>> store(std::size(kCases));
  std::vector<std::vector<double>> fio(std::size(kCases));
  std::string backend;
  for (size_t round = 0; round < rounds; ++round) {
    {
      StoreSide side(store_path);
      backend = side.backend();
      for (size_t i = 0; i < std::size(kCases); ++i) {
        store[i].push_back(side.Run(kCases[i]));
        fio[i].push_back(RunFio(fio_path, kCases[i]));
      }
    }
    std::filesystem::remove_all(store_path);
  }
  std::filesystem::remove(fio_path);

  std::printf("back end %s, queue depth %llu, medians of %zu interleaved rounds\n", backend.c_str(),
              static_cast<unsigned long long>(kDepth), rounds);
  std::printf("%-20s %14s %14s %8s\n", "", "store op/s", "fio op/s", "ratio");
  std::string json = "{\n  \"backend\": \"" + backend + "\",\n  \"depth\": 32,\n  \"cases\": [\n";
  for (size_t i = 0; i < std::size(kCases); ++i) {
    const double ours = Median(store[i]);
    const double theirs = Median(fio[i]);
    std::printf("%-20s %14.0f %14.0f %8.2f\n", kCases[i].name, ours, theirs, ours / theirs);
    char line[256];
    std::snprintf(line, sizeof line,
                  "    {\"name\": \"%s\", \"store\": %.1f, \"fio\": %.1f, \"ratio\": %.3f}%s\n",
                  kCases[i].name, ours, theirs, ours / theirs,
                  i + 1 < std::size(kCases) ? "," : "");
    json += line;
  }
  json += "  ]\n}\n";
  if (!json_path.empty()) std::ofstream(json_path) << json;
  return 0;
}

}  // namespace
}  // namespace pando

int main(int count, char** arguments) { return pando::Main(count, arguments); }
