// The SPDK back end on bdevs that need no hardware. Skipped, with the reason, where the build has
// no SPDK. What holds for every back end is in data_plane_test.cc, which runs on SPDK too.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "block/spdk/backend.h"
#include "pando/data_plane.h"
#include "pando/port_client.h"
#include "support/store_harness.h"

namespace pando {
namespace {

constexpr uint64_t kDisk = 1ULL << 30U;

class SpdkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!ProbeSpdk().reason.empty()) GTEST_SKIP() << ProbeSpdk().reason;
    std::string pattern = (std::filesystem::temp_directory_path() / "pando-spdk-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override {
    Close();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  std::string MakeDisk(const std::string& name, uint64_t bytes = kDisk) {
    const std::string path = folder_ + "/" + name;
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(bytes)), 0);
    ::close(fd);
    return path;
  }
  static BdevOptions Aio(const std::string& path) {
    BdevOptions bdev;
    bdev.target = path;
    return bdev;
  }
  Status TryOpen(const std::vector<BdevOptions>& bdevs, const std::string& directory = "data") {
    DataPlaneOptions options;
    options.directory = folder_ + "/" + directory;
    options.backend = Backend::kSpdk;
    options.bdevs = bdevs;
    options.spdk_memory_bytes = 900ULL << 20U;
    options.capacity_bytes = 0;
    options.cache_bytes = 0;
    options.grow_ahead_segments = 1;
    options.log = [this](LogLevel level, std::string_view text) {
      log_ += std::string(text) + "\n";
      if (level >= LogLevel::kError)
        std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
    };
    auto plane = DataPlane::Open(options);
    if (!plane.ok()) return plane.error();
    plane_ = std::move(plane).value();
    auto port = plane_->OpenPort({});
    EXPECT_TRUE(port.ok());
    port_ = std::move(port).value();
    client_ = std::make_unique<PortClient>(*port_);
    return {};
  }
  void Close() {
    client_.reset();
    port_.reset();
    if (plane_) {
      const Status status = plane_->Close();
      EXPECT_TRUE(status.ok()) << status.error().message;
    }
    plane_.reset();
  }
  CqEntry Call(SqEntry entry) {
    EXPECT_TRUE(client_->Push(entry));
    client_->Publish();
    CqEntry completion = {};
    while (!client_->Pop(completion)) std::this_thread::yield();
    return completion;
  }
  ErrorCode Put(uint64_t number, size_t length) {
    const Bytes bytes = MakeBytes(number, length);
    std::copy(bytes.begin(), bytes.end(), client_->slab().begin());
    SqEntry entry = {};
    entry.op = static_cast<uint8_t>(PortOp::kPut);
    entry.id = MakeId(number);
    entry.length = static_cast<uint32_t>(length);
    return static_cast<ErrorCode>(Call(entry).status);
  }
  bool IsWhole(uint64_t number, size_t length) {
    SqEntry entry = {};
    entry.op = static_cast<uint8_t>(PortOp::kGet);
    entry.id = MakeId(number);
    entry.length = kMaxChunkBytes;
    entry.slab_offset = 8 << 20;
    const CqEntry completion = Call(entry);
    const auto out = client_->slab().subspan(8 << 20, completion.length);
    return completion.status == 0 && AreBytesOf(number, length, out);
  }
  void KillAndCount(const BdevOptions& disk);
  void ExpectAllSizes(const BdevOptions& bdev, bool survives) {
    const std::vector<size_t> lengths = {1, 4096, 5000, 65536, 300000, 1 << 20, kMaxChunkBytes};
    ASSERT_TRUE(TryOpen({bdev}).ok()) << log_;
    EXPECT_EQ(plane_->backend(), "spdk");
    for (size_t i = 0; i < lengths.size(); ++i)
      ASSERT_EQ(Put(i, lengths[i]), ErrorCode::kOk) << lengths[i];
    for (size_t i = 0; i < lengths.size(); ++i) EXPECT_TRUE(IsWhole(i, lengths[i])) << lengths[i];
    Close();
    const Status again = TryOpen({bdev});
    ASSERT_TRUE(again.ok()) << again.error().message;
    for (size_t i = 0; i < lengths.size(); ++i)
      EXPECT_EQ(IsWhole(i, lengths[i]), survives) << lengths[i];
  }

  std::string folder_;
  std::string log_;
  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<Port> port_;
  std::unique_ptr<PortClient> client_;
};

// REQUIRES: this process has not started SPDK, or it could not be forked.
void SpdkTest::KillAndCount(const BdevOptions& disk) {
  uint64_t acknowledged = 0;
  for (int round = 0; round < 3; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      // SPDK starts in the child: the parent has not started it yet.
      ::close(ends[0]);
      if (!TryOpen({disk}).ok()) ::_exit(1);
      for (uint64_t i = acknowledged;; ++i) {
        if (Put(i, 1000 + i * 977 % 200000) != ErrorCode::kOk) ::_exit(2);
        if (::write(ends[1], &i, sizeof i) != sizeof i) ::_exit(3);
      }
    }
    ::close(ends[1]);
    uint64_t last = 0;
    const uint64_t enough = acknowledged + 60;
    while (::read(ends[0], &last, sizeof last) == sizeof last) {
      acknowledged = last + 1;
      if (acknowledged == enough) ::kill(child, SIGKILL);
    }
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "exit " << WEXITSTATUS(status);
    ASSERT_GE(acknowledged, enough);
  }
  ASSERT_TRUE(TryOpen({disk}).ok());
  for (uint64_t i = 0; i < acknowledged; ++i) EXPECT_TRUE(IsWhole(i, 1000 + i * 977 % 200000)) << i;
}

// The first of all: see KillAndCount.
TEST_F(SpdkTest, EveryAcknowledgedChunkIsThereAfterAKill) { KillAndCount(Aio(MakeDisk("disk"))); }

// In the lab (test/lab), or by hand on a device that may be overwritten and whose beginning is
// zeros.
TEST_F(SpdkTest, AnNvmeDeviceInUserSpaceKeepsWhatItAcknowledged) {
  const char* address = ::getenv("PANDO_SPDK_NVME");
  if (address == nullptr) GTEST_SKIP() << "PANDO_SPDK_NVME names no device in user space";
  BdevOptions device;
  device.kind = BdevKind::kNvme;
  device.target = address;
  KillAndCount(device);
  Close();
  const std::vector<size_t> lengths = {1, 4096, 300000, kMaxChunkBytes};
  ASSERT_TRUE(TryOpen({device}).ok()) << log_;
  for (size_t i = 0; i < lengths.size(); ++i)
    ASSERT_EQ(Put(100000 + i, lengths[i]), ErrorCode::kOk) << lengths[i];
  Close();
  EXPECT_EQ(TryOpen({device}, "other").code(), ErrorCode::kConflict);
  ASSERT_TRUE(TryOpen({device}).ok()) << log_;
  for (size_t i = 0; i < lengths.size(); ++i) EXPECT_TRUE(IsWhole(100000 + i, lengths[i]));
}

TEST_F(SpdkTest, ChunksOnAFileThroughAioSurviveARestart) {
  ExpectAllSizes(Aio(MakeDisk("disk")), true);
}

TEST_F(SpdkTest, ChunksGoThroughBounceBuffersWhole) {
  BdevOptions bdev = Aio(MakeDisk("disk"));
  bdev.bounce = true;
  ExpectAllSizes(bdev, true);
}

TEST_F(SpdkTest, ChunksOnAFileThroughUringWork) {
  BdevOptions bdev = Aio(MakeDisk("disk"));
  bdev.kind = BdevKind::kUring;
  bdev.may_lose = true;
  ExpectAllSizes(bdev, true);
}

TEST_F(SpdkTest, MemoryForgets) {
  BdevOptions bdev;
  bdev.kind = BdevKind::kMalloc;
  bdev.size_bytes = 640 << 20;
  bdev.may_lose = true;
  ExpectAllSizes(bdev, false);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/data/bdevs.pando"));
}

TEST_F(SpdkTest, UringOnAFileIsRefusedBecauseItCannotFlush) {
  BdevOptions bdev = Aio(MakeDisk("disk"));
  bdev.kind = BdevKind::kUring;
  const Status status = TryOpen({bdev});
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(status.error().message.find("use kind aio"), std::string::npos)
      << status.error().message;
}

TEST_F(SpdkTest, ADiskThatHoldsSomethingIsNeverWrittenTo) {
  const std::string path = MakeDisk("disk");
  std::fstream(path, std::ios::in | std::ios::out).seekp(1024).write("file system", 11);
  const Status status = TryOpen({Aio(path)});
  EXPECT_EQ(status.code(), ErrorCode::kConflict);
  EXPECT_NE(status.error().message.find("not blank"), std::string::npos) << status.error().message;
  std::string kept(11, ' ');
  std::ifstream(path).seekg(1024).read(kept.data(), 11);
  EXPECT_EQ(kept, "file system");
}

TEST_F(SpdkTest, ADirectoryKnowsItsDisksAndADiskItsDirectory) {
  const BdevOptions first = Aio(MakeDisk("first"));
  const BdevOptions second = Aio(MakeDisk("second"));
  const BdevOptions blank = Aio(MakeDisk("blank"));
  ASSERT_TRUE(TryOpen({first, second}).ok());
  for (uint64_t i = 0; i < 40; ++i) ASSERT_EQ(Put(i, 5000), ErrorCode::kOk);
  Close();
  EXPECT_EQ(TryOpen({second, first}).code(), ErrorCode::kConflict);
  EXPECT_EQ(TryOpen({first, blank}).code(), ErrorCode::kConflict);
  EXPECT_EQ(TryOpen({first}).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(TryOpen({first}, "other").code(), ErrorCode::kConflict);
  DataPlaneOptions files;
  files.directory = folder_ + "/data";
  EXPECT_FALSE(DataPlane::Open(files).ok());
  ASSERT_TRUE(TryOpen({first, second}).ok());
  for (uint64_t i = 0; i < 40; ++i) EXPECT_TRUE(IsWhole(i, 5000));
}

TEST_F(SpdkTest, AFirstStartThatWasCutOffIsTakenUpAgain) {
  const BdevOptions disk = Aio(MakeDisk("disk"));
  ASSERT_TRUE(TryOpen({disk}).ok());
  Close();
  // As the list is until the stores are made.
  const std::string list = folder_ + "/data/bdevs.pando";
  std::stringstream text;
  text << std::ifstream(list).rdbuf();
  std::string cut = text.str();
  cut.replace(cut.find("\nmade\n"), 6, "\nbeing made\n");
  std::ofstream(list, std::ios::trunc) << cut;
  ASSERT_TRUE(TryOpen({disk}).ok());
  EXPECT_EQ(Put(1, 100), ErrorCode::kOk);
  Close();
  std::ofstream(list, std::ios::trunc) << cut.substr(0, cut.size() / 2);
  EXPECT_EQ(TryOpen({disk}).code(), ErrorCode::kCorruptChunk);
}

TEST_F(SpdkTest, AReadThatTheDiskFailsIsAnErrorAndTheRestIsServed) {
  const BdevOptions disk = Aio(MakeDisk("disk"));
  ASSERT_TRUE(TryOpen({disk}).ok());
  for (uint64_t i = 0; i < 60; ++i) ASSERT_EQ(Put(i, kMaxChunkBytes), ErrorCode::kOk);
  // The store's first chunks end at about 250 MiB; the rest of the file goes away under it.
  std::filesystem::resize_file(disk.target, 128U << 20U);
  EXPECT_TRUE(IsWhole(0, kMaxChunkBytes));
  EXPECT_FALSE(IsWhole(59, kMaxChunkBytes));
  EXPECT_TRUE(IsWhole(1, kMaxChunkBytes));
  EXPECT_NE(log_.find("a request failed"), std::string::npos) << log_;
}

// A limit on the size of files stands for a disk that refuses to write: EFBIG comes back from it.
TEST_F(SpdkTest, AWriteThatTheDiskFailsStopsThePartitionAndLosesNothing) {
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const BdevOptions disk = Aio(MakeDisk("disk"));
  for (const bool bounce : {false, true}) {
    BdevOptions bdev = disk;
    bdev.bounce = bounce;
    ASSERT_TRUE(TryOpen({bdev}).ok()) << log_;
    const uint64_t base = bounce ? 1000 : 0;
    for (uint64_t i = 0; i < 20; ++i) ASSERT_EQ(Put(base + i, kMaxChunkBytes), ErrorCode::kOk);
    const rlimit less = {8U << 20U, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &less), 0);
    EXPECT_NE(Put(base + 20, kMaxChunkBytes), ErrorCode::kOk);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_NE(Put(base + 21, kMaxChunkBytes), ErrorCode::kOk) << "the device is not trusted again";
    for (uint64_t i = 0; i < 20; ++i) EXPECT_TRUE(IsWhole(base + i, kMaxChunkBytes)) << i;
    client_.reset();
    port_.reset();
    EXPECT_FALSE(plane_->Close().ok());
    plane_.reset();
  }
  ASSERT_TRUE(TryOpen({disk}).ok());
  for (uint64_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(IsWhole(i, kMaxChunkBytes)) << i;
    EXPECT_TRUE(IsWhole(1000 + i, kMaxChunkBytes)) << i;
  }
}

TEST_F(SpdkTest, ADiskFillsUpWithAClearError) {
  ASSERT_TRUE(TryOpen({Aio(MakeDisk("disk", 600 << 20))}).ok());
  ErrorCode code = ErrorCode::kOk;
  uint64_t count = 0;
  while (code == ErrorCode::kOk && count < 200) code = Put(count++, kMaxChunkBytes);
  EXPECT_EQ(code, ErrorCode::kInsufficientStorage);
  EXPECT_GT(count, 40U) << log_;  // most of so small a disk is held back for the collector
  EXPECT_TRUE(IsWhole(0, kMaxChunkBytes));
  Close();
  EXPECT_EQ(TryOpen({Aio(MakeDisk("little", 100 << 20))}, "small").code(),
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace pando
