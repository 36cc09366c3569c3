// SPDX-License-Identifier: MIT
/// Whole files: written at once or not at all, read, mapped into memory, appended to. Errors name path, cause and
/// remedy.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/io/os_file.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if BOOT_HAS_POSIX
#  include <dirent.h>
#  include <sys/mman.h>
#endif

namespace boot::inline v0 {

namespace detail {
struct temporary_names {
  static inline std::mutex mutex;
  static inline std::uint64_t next = 0;
};

/// "<target>.boot-tmp-": what the temporary files of one target begin with.
[[nodiscard]] inline std::string temporary_stem(const std::string& target) {
  const std::size_t slash = target.rfind('/'), begin = slash == std::string::npos ? 0 : slash + 1;
  return target.substr(0, begin) + target.substr(begin, 200) + ".boot-tmp-";  // names have at most 255 bytes
}

/// Removes temporary files of `target` that killed programs left: nobody holds their lock, and their process is gone.
inline void remove_leftovers(const std::string& target) {
#if BOOT_HAS_POSIX
  const std::string folder = folder_of(target), stem = temporary_stem(target);
  const std::string start = stem.substr(stem.rfind('/') + 1);  // npos + 1 == 0
  DIR* entries = ::opendir(folder.c_str());
  if (entries == nullptr) return;
  while (const dirent* e = ::readdir(entries)) {
    const std::string_view name = e->d_name;
    if (name.substr(0, start.size()) != start) continue;
    char* end = nullptr;
    const long process = std::strtol(e->d_name + start.size(), &end, 10);
    if (process <= 0 || *end != '-' || name.find_last_not_of("0123456789") != static_cast<std::size_t>(end - e->d_name))
      continue;
    if (process != process_number() && (::kill(static_cast<pid_t>(process), 0) == 0 || errno != ESRCH)) continue;
    const std::string path = folder + "/" + e->d_name;
    os_file f;
    if (f.open(path, open_mode::read) == 0 && f.lock()) static_cast<void>(std::remove(path.c_str()));
  }
  ::closedir(entries);
#else
  static_cast<void>(target);
#endif
}
}  // namespace detail

/// Replaces the file at a path at once or not at all. Bytes go to a temporary file beside it; commit() makes them
/// durable and gives them the name. Whatever fails before, the old file stays as it was and the temporary is removed; a
/// temporary left by a killed program is removed by the next atomic_file of the same path. A symbolic link keeps
/// pointing at its target; a device or pipe is written directly. Every failure throws boot::error with path, cause and
/// remedy.
class atomic_file {
 public:
  /// Creates the temporary file.
  explicit atomic_file(std::string path) : path_(std::move(path)), target_(path_) {
    require(!path_.empty(), "boot: cannot write a file with an empty name; give a path");
    const detail::path_kind kind = detail::kind_of(path_);
    if (kind == detail::path_kind::folder) detail::fail_file("write", path_, EISDIR);
    if (kind == detail::path_kind::other) {
      if (const int code = file_.open(path_, detail::open_mode::device)) detail::fail_file("write", path_, code);
      return;
    }
#if BOOT_HAS_POSIX
    if (char* real = ::realpath(path_.c_str(), nullptr)) {
      target_ = real;
      std::free(real);  // NOLINT: realpath() asks for it
    }
#endif
    const std::lock_guard guard(detail::temporary_names::mutex);  // another thread's new file has its lock from here on
    detail::remove_leftovers(target_);
    int code = EEXIST;
    for (int tries = 0; code == EEXIST && tries < 1000; ++tries) {
      temporary_ = detail::temporary_stem(target_) + std::to_string(detail::process_number()) + "-" +
                   std::to_string(detail::temporary_names::next++);
      code = file_.open(temporary_, detail::open_mode::create);
    }
    if (code != 0) {
      temporary_.clear();
      detail::fail_file("write", path_, code);
    }
    static_cast<void>(file_.lock());
    if (kind == detail::path_kind::file) file_.copy_permissions(target_);
  }
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file() {
    static_cast<void>(file_.close());
    if (!temporary_.empty()) static_cast<void>(std::remove(temporary_.c_str()));
  }

  /// Adds bytes.
  void write(std::span<const std::byte> bytes) { write(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }
  /// \copydoc write
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Puts the new contents in place of the old; nothing may be written afterwards.
  void commit() {
    if (temporary_.empty()) {
      if (const int code = file_.close()) detail::fail_file("write", path_, code);
      return;
    }
    int code = file_.sync();
    if constexpr (BOOT_HAS_POSIX == 0) {  // other systems do not rename open files
      if (code == 0) code = file_.close();
    }
    if (code == 0) code = detail::replace_file(temporary_, target_);
    if (code != 0) detail::fail_file("write", path_, code);
    temporary_.clear();
    static_cast<void>(file_.close());  // last: as long as the temporary has its name, its lock says it is in use
    detail::sync_folder(detail::folder_of(target_));
  }

 private:
  void write(const char* bytes, std::size_t count) {
    require(file_.is_open(), "boot: atomic_file '{}' was written after commit(); write first, commit last", path_);
    if (const int code = file_.write(bytes, count)) detail::fail_file("write", path_, code);
  }

  std::string path_, target_, temporary_;
  detail::os_file file_;
};

/// Writes a whole file at once or not at all, see atomic_file.
inline void atomic_write_file(const std::string& path, std::string_view bytes) {
  atomic_file file(path);
  file.write(bytes);
  file.commit();
}
/// \copydoc atomic_write_file
inline void atomic_write_file(const std::string& path, std::span<const std::byte> bytes) {
  atomic_write_file(path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

namespace detail {
inline void read_rest(os_file& file, const std::string& path, std::string& contents) {
  std::size_t used = contents.size();
  for (;;) {
    if (contents.size() - used < 65536) contents.resize(contents.size() * 2 + 65536);
    std::size_t got = 0;
    if (const int code = file.read(contents.data() + used, contents.size() - used, got)) fail_file("read", path, code);
    if (got == 0) break;
    used += got;
  }
  contents.resize(used);
}
}  // namespace detail

/// The contents of a file; throws boot::error when it cannot be read.
[[nodiscard]] inline std::string read_file(const std::string& path) {
  detail::os_file file;
  if (const int code = file.open(path, detail::open_mode::read)) detail::fail_file("read", path, code);
  std::int64_t bytes = 0;
  if (const int code = file.size(bytes)) detail::fail_file("read", path, code);
  std::string contents(static_cast<std::size_t>(bytes), '\0');
  std::size_t used = 0;
  for (std::size_t got = 1; used < contents.size() && got > 0; used += got)
    if (const int code = file.read(contents.data() + used, contents.size() - used, got))
      detail::fail_file("read", path, code);
  contents.resize(used);
  if (bytes == 0) detail::read_rest(file, path, contents);  // files without a size: pipes, /proc
  return contents;
}

/// A file mapped into memory, read-only; read into memory where mapping is not possible. Move-only. Files replaced by
/// atomic_file while mapped stay readable here with their old contents; one that another program cuts short meanwhile
/// ends this one with SIGBUS, as mappings do.
class mapped_file {
 public:
  mapped_file() = default;
  /// Maps the file; throws boot::error when it cannot be read.
  explicit mapped_file(const std::string& path) {
#if BOOT_HAS_POSIX
    detail::os_file file;
    if (const int code = file.open(path, detail::open_mode::read)) detail::fail_file("read", path, code);
    std::int64_t bytes = 0;
    if (const int code = file.size(bytes)) detail::fail_file("read", path, code);
    if (bytes > 0) {
      void* p = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ, MAP_PRIVATE, file.number(), 0);
      if (p != MAP_FAILED) {
        map_ = p;
        map_bytes_ = static_cast<std::size_t>(bytes);
        return;
      }
    }
#endif
    const std::string contents = read_file(path);
    const auto* first = reinterpret_cast<const std::byte*>(contents.data());
    copy_.assign(first, first + contents.size());
  }
  mapped_file(mapped_file&& other) noexcept
      : map_(std::exchange(other.map_, nullptr)),
        map_bytes_(std::exchange(other.map_bytes_, 0)),
        copy_(std::exchange(other.copy_, {})) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    std::swap(map_, other.map_);
    std::swap(map_bytes_, other.map_bytes_);
    std::swap(copy_, other.copy_);
    return *this;
  }
  ~mapped_file() {
#if BOOT_HAS_POSIX
    if (map_ != nullptr) ::munmap(map_, map_bytes_);
#endif
  }

  /// The whole file.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    if (map_ != nullptr) return {static_cast<const std::byte*>(map_), map_bytes_};
    return {copy_.data(), copy_.size()};
  }

 private:
  void* map_ = nullptr;
  std::size_t map_bytes_ = 0;
  std::vector<std::byte> copy_;
};

/// A file that grows by whole records: write() adds all of its bytes or none. Unbuffered, so that a killed program
/// loses no record it has written.
class append_file {
 public:
  /// Opens `path`, keeping its contents or emptying it; throws boot::error when it cannot be written.
  append_file(std::string path, bool keep_contents) : path_(std::move(path)) {
    const auto mode = keep_contents ? detail::open_mode::append : detail::open_mode::fresh;
    if (const int code = file_.open(path_, mode)) detail::fail_file("write", path_, code);
    if (const int code = file_.size(bytes_)) detail::fail_file("write", path_, code);
  }
  /// Adds a record; on failure the file is cut back to what it was and boot::error thrown.
  void write(std::string_view record) {
    if (const int code = file_.write(record.data(), record.size())) {
      static_cast<void>(file_.truncate(bytes_));
      detail::fail_file("write", path_, code);
    }
    bytes_ += static_cast<std::int64_t>(record.size());
  }
  /// Where it lies.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Its size in bytes.
  [[nodiscard]] std::int64_t size() const noexcept { return bytes_; }

 private:
  std::string path_;
  detail::os_file file_;
  std::int64_t bytes_ = 0;
};

}  // namespace boot::inline v0
