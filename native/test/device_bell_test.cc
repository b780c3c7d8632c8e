// Whoever waits for a device and for other things, too, sleeps over the device's descriptor: it must ring for whatever
// completes, and only then.
#include <gtest/gtest.h>

#include <sys/epoll.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "block/block_device.h"
#include "block/file_handle.h"

namespace pando {
namespace {

using OpenDevice = Result<std::unique_ptr<BlockDevice>> (*)(const FileDeviceOptions&);

class DeviceBellTest : public testing::TestWithParam<OpenDevice> {
 protected:
  DeviceBellTest() : path_(std::filesystem::temp_directory_path() / ("pando-bell-" + std::to_string(::getpid()))) {
    std::ofstream(path_) << std::string(1 << 20, 'x');
  }
  ~DeviceBellTest() override { std::filesystem::remove(path_); }

  std::filesystem::path path_;
};

TEST_P(DeviceBellTest, ItRingsForEachCompletionOverWhichSomebodySleeps) {
  auto opened = GetParam()({path_, false, {}});
  if (!opened.ok()) GTEST_SKIP() << opened.error().message;
  const std::unique_ptr<BlockDevice> device = std::move(opened).value();
  const FileHandle sleep(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {};
  event.events = EPOLLIN | (device->tells_edges() ? uint32_t{EPOLLET} : 0);
  ASSERT_EQ(::epoll_ctl(sleep.get(), EPOLL_CTL_ADD, device->event_fd(), &event), 0);
  int vain = 0;
  for (int round = 0; round < 30; ++round) {
    BlockRequest request;
    request.op = BlockRequest::Op::kFlush;
    request.result = 1;
    bool done = false;
    request.context = &done;
    request.done = [](BlockRequest* finished) { *static_cast<bool*>(finished->context) = true; };
    device->Submit(&request);
    // Nobody looks at the device meanwhile. One that does not ring is looked at after a while, so that the test can end; a slow disk
    // has not finished then either.
    bool rang = true;
    while (device->Poll(0) == 0 && !done) rang = ::epoll_wait(sleep.get(), &event, 1, 200) == 1;
    vain += rang ? 0 : 1;
    while (!done) device->Poll(1000);
    EXPECT_EQ(request.result, 0);
  }
  EXPECT_LT(vain, 5) << "completions that nothing rang for";
  // Then there is nothing: an edge that came late is the last one.
  device->Wake();
  while (device->Poll(0) > 0) {
  }
  for (int late = 0; ::epoll_wait(sleep.get(), &event, 1, 20) == 1; ++late) ASSERT_LT(late, 10);
  device->Close();
}

INSTANTIATE_TEST_SUITE_P(All, DeviceBellTest, testing::Values(&OpenUringDevice, &OpenPosixDevice),
                         [](const testing::TestParamInfo<OpenDevice>& tested) {
                           return std::string(tested.index == 0 ? "Uring" : "Posix");
                         });

}  // namespace
}  // namespace pando
