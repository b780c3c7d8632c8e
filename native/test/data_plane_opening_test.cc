// Which directories a data plane opens, and which it refuses.
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "pando/data_plane.h"
#include "support/temporary_directory.h"

namespace pando {
namespace {

DataPlaneOptions OptionsOf(const TemporaryDirectory& directory, uint32_t reactors) {
  DataPlaneOptions options;
  options.directory = directory.path();
  options.capacity_bytes = 2ULL << 30U;
  options.reactors = reactors;
  return options;
}

TEST(DataPlaneOpening, ASecondProcessIsRefusedWithAClearError) {
  TemporaryDirectory directory;
  DataPlaneOptions options = OptionsOf(directory, 1);
  auto first = DataPlane::Open(options);
  ASSERT_TRUE(first.ok()) << first.error().message;
  auto second = DataPlane::Open(options);
  EXPECT_EQ(second.code(), ErrorCode::kConflict);
  EXPECT_NE(second.error().message.find("open in another process"), std::string::npos);
  EXPECT_TRUE(first.value()->Close().ok());
  auto third = DataPlane::Open(options);
  EXPECT_TRUE(third.ok());
}

TEST(DataPlaneOpening, ADirectoryKeepsItsPartitions) {
  TemporaryDirectory directory;
  DataPlaneOptions options = OptionsOf(directory, 2);
  { ASSERT_TRUE(DataPlane::Open(options).ok()); }
  options.reactors = 1;
  std::string logged;
  options.log = [&](LogLevel, std::string_view text) { logged += text; };
  auto again = DataPlane::Open(options);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again.value()->partitions(), 2U);
  EXPECT_NE(logged.find("partitions"), std::string::npos);
}

// Chunks are spread by the number of partitions.
TEST(DataPlaneOpening, AStoreWithoutOneOfItsPartitionsIsNotOpened) {
  TemporaryDirectory directory;
  DataPlaneOptions options = OptionsOf(directory, 3);
  { ASSERT_TRUE(DataPlane::Open(options).ok()); }
  const auto file = [&](int number) {
    return directory.path() + "/store-" + std::to_string(number) + ".pando";
  };
  for (int missing = 0; missing < 3; ++missing) {
    const std::string aside = directory.path() + "/aside";
    std::filesystem::rename(file(missing), aside);
    const auto refused = DataPlane::Open(options);
    EXPECT_EQ(refused.code(), ErrorCode::kInvalidArgument) << missing;
    EXPECT_NE(refused.error().message.find("made with 3 partitions"), std::string::npos)
        << refused.error().message;
    EXPECT_FALSE(std::filesystem::exists(file(missing)));
    std::filesystem::rename(aside, file(missing));
    EXPECT_TRUE(DataPlane::Open(options).ok()) << missing;
  }
  std::filesystem::copy_file(file(2), file(3));
  EXPECT_EQ(DataPlane::Open(options).code(), ErrorCode::kInvalidArgument);
  std::filesystem::remove(file(3));

  // One of a store of another size, in the place of its own.
  TemporaryDirectory other;
  options.directory = other.path();
  options.reactors = 2;
  { ASSERT_TRUE(DataPlane::Open(options).ok()); }
  options.directory = directory.path();
  std::filesystem::copy_file(other.path() + "/store-1.pando", file(1),
                             std::filesystem::copy_options::overwrite_existing);
  const auto mixed = DataPlane::Open(options);
  EXPECT_EQ(mixed.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(mixed.error().message.find("a store of 2 partitions"), std::string::npos);
}

// The list is there from before the first partition until after the last one.
TEST(DataPlaneOpening, AFirstStartThatWasCutOffIsMadeAnewAndNothingElseIs) {
  TemporaryDirectory directory;
  DataPlaneOptions options = OptionsOf(directory, 2);
  const std::string list = directory.path() + "/making.pando";
  const std::string files[2] = {directory.path() + "/store-0.pando",
                                directory.path() + "/store-1.pando"};
  const auto uuid = [](const std::string& path) {
    std::array<char, 32> head = {};
    std::ifstream(path, std::ios::binary).read(head.data(), head.size());
    std::stringstream hex;
    for (size_t i = 16; i < 32; ++i) {
      hex << std::hex << (static_cast<uint8_t>(head[i]) >> 4U) << (head[i] & 15);
    }
    return hex.str();
  };
  const auto write_list = [&] {
    std::ofstream(list, std::ios::trunc)
        << "pando making 1\nbeing made\n" << uuid(files[0]) << '\n' << uuid(files[1]) << "\nend\n";
  };
  // A directory in the place of the second partition: it cannot be made.
  std::filesystem::create_directory(files[1] + ".new");
  std::ofstream(files[1] + ".new/in-the-way");
  EXPECT_FALSE(DataPlane::Open(options).ok());
  EXPECT_TRUE(std::filesystem::exists(list));
  std::filesystem::remove_all(files[1] + ".new");
  for (const int made : {3, 0, 1, 2}) {
    {
      auto plane = DataPlane::Open(options);
      ASSERT_TRUE(plane.ok()) << plane.error().message;
      EXPECT_EQ(plane.value()->partitions(), 2U);
      EXPECT_FALSE(std::filesystem::exists(list));
    }
    write_list();
    for (int i = 0; i < 2; ++i) {
      if (((made >> i) & 1) == 0) std::filesystem::remove(files[i]);
    }
  }
  // What stands there in the meantime has come from elsewhere: a backup.
  TemporaryDirectory backup;
  options.directory = backup.path();
  { ASSERT_TRUE(DataPlane::Open(options).ok()); }
  options.directory = directory.path();
  const auto its = [&](int i) {
    return backup.path() + "/store-" + std::to_string(i) + ".pando";
  };
  for (int i = 0; i < 2; ++i) {
    std::filesystem::copy_file(its(i), files[i],
                               std::filesystem::copy_options::overwrite_existing);
  }
  ASSERT_TRUE(DataPlane::Open(options).ok());
  for (int i = 0; i < 2; ++i) EXPECT_EQ(uuid(files[i]), uuid(its(i)));
  EXPECT_FALSE(std::filesystem::exists(list));
  std::ofstream(list) << "pando making 1\nbeing";
  EXPECT_EQ(DataPlane::Open(options).code(), ErrorCode::kCorruptChunk);
}

}  // namespace
}  // namespace pando
