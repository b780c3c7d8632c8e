// A directory of a test's own, gone with it.
#ifndef PANDO_TEST_SUPPORT_TEMPORARY_DIRECTORY_H_
#define PANDO_TEST_SUPPORT_TEMPORARY_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace pando {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pando-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace pando

#endif  // PANDO_TEST_SUPPORT_TEMPORARY_DIRECTORY_H_
