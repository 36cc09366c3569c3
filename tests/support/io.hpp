// SPDX-License-Identifier: MIT
/// What the tests of files share: a folder that goes away, the message of a boot::error, bytes of text.
#pragma once

#include <boot/core/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace boot_test {

/// A fresh folder, removed with all it holds at the end of the scope.
class temporary_folder {
 public:
  temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "boot-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    root_ = name;
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  /// The folder itself.
  [[nodiscard]] const std::string& root() const { return root_; }
  /// A path in it.
  [[nodiscard]] std::string path(const std::string& name) const { return root_ + "/" + name; }
  /// The names of what is in it, sorted.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& e : std::filesystem::directory_iterator(root_)) all.push_back(e.path().filename().string());
    std::sort(all.begin(), all.end());
    return all;
  }

 private:
  std::string root_;
};

/// The message of the boot::error that f throws; "(no error)" when it throws none.
template <class F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const boot::error& e) {
    return e.what();
  }
  return "(no error)";
}

/// The bytes of a string.
inline std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace boot_test
