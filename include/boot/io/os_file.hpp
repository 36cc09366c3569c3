// SPDX-License-Identifier: MIT
/// The system calls behind io/file.hpp: open, read, write, sync, replace. Every function returns 0 or an errno value.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>

#include <fmt/core.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <system_error>
#include <utility>

#if BOOT_HAS_POSIX
#  include <fcntl.h>
#  include <sys/file.h>
#  include <sys/stat.h>
#  include <unistd.h>

#  include <csignal>
#endif

namespace boot::inline v0::detail {

enum class open_mode {
  read,
  create,
  append,
  fresh,
  device
};                                                      // create: must not exist; fresh: emptied; device: as it is
enum class path_kind { missing, file, folder, other };  // other: a device, a pipe, a socket

/// The folder a path lies in.
[[nodiscard]] inline std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

#if BOOT_HAS_POSIX

/// Going over RLIMIT_FSIZE raises SIGXFSZ, which ends the program; while one of these lives it is an error code
/// instead.
class size_signal_blocked {
 public:
  size_signal_blocked() noexcept {
    sigemptyset(&set_);
    sigaddset(&set_, SIGXFSZ);
    sigset_t waiting;
    was_waiting_ = sigpending(&waiting) == 0 && sigismember(&waiting, SIGXFSZ) == 1;
    changed_ = pthread_sigmask(SIG_BLOCK, &set_, &old_) == 0;
  }
  size_signal_blocked(const size_signal_blocked&) = delete;
  size_signal_blocked& operator=(const size_signal_blocked&) = delete;
  ~size_signal_blocked() {
    if (!changed_) return;
    sigset_t waiting;
    if (!was_waiting_ && sigpending(&waiting) == 0 && sigismember(&waiting, SIGXFSZ) == 1) {
      int number = 0;
      static_cast<void>(sigwait(&set_, &number));  // ours: taken, not delivered
    }
    static_cast<void>(pthread_sigmask(SIG_SETMASK, &old_, nullptr));
  }

 private:
  sigset_t set_{}, old_{};
  bool was_waiting_ = false, changed_ = false;
};

/// An open file. Move-only.
class os_file {
 public:
  os_file() = default;
  os_file(os_file&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  os_file& operator=(os_file&& other) noexcept {
    if (this != &other) {
      static_cast<void>(close());
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~os_file() { static_cast<void>(close()); }

  [[nodiscard]] int open(const std::string& path, open_mode mode) noexcept {
    int flags = O_CLOEXEC;
    switch (mode) {
      case open_mode::read:
        flags |= O_RDONLY;
        break;
      case open_mode::create:
        flags |= O_WRONLY | O_CREAT | O_EXCL;
        break;
      case open_mode::append:
        flags |= O_WRONLY | O_CREAT | O_APPEND;
        break;
      case open_mode::fresh:
        flags |= O_WRONLY | O_CREAT | O_APPEND | O_TRUNC;
        break;
      case open_mode::device:
        flags |= O_WRONLY;
        break;
    }
    int fd = -1;
    do fd = ::open(path.c_str(), flags, 0666);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return errno;
    static_cast<void>(close());
    fd_ = fd;
    return 0;
  }
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int number() const noexcept { return fd_; }
  [[nodiscard]] int read(void* to, std::size_t bytes, std::size_t& got) noexcept {
    ssize_t n = 0;
    do n = ::read(fd_, to, bytes < at_once ? bytes : at_once);
    while (n < 0 && errno == EINTR);
    got = n < 0 ? 0 : static_cast<std::size_t>(n);
    return n < 0 ? errno : 0;
  }
  [[nodiscard]] int write(const char* from, std::size_t bytes) noexcept {
    const size_signal_blocked guard;
    while (bytes > 0) {
      const ssize_t n = ::write(fd_, from, bytes < at_once ? bytes : at_once);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      from += n;
      bytes -= static_cast<std::size_t>(n);
    }
    return 0;
  }
  [[nodiscard]] int sync() noexcept { return ::fsync(fd_) == 0 || errno == EINVAL ? 0 : errno; }
  [[nodiscard]] int truncate(std::int64_t bytes) noexcept { return ::ftruncate(fd_, bytes) == 0 ? 0 : errno; }
  [[nodiscard]] int size(std::int64_t& bytes) const noexcept {
    struct stat s {};
    if (::fstat(fd_, &s) != 0) return errno;
    bytes = s.st_size;
    return S_ISDIR(s.st_mode) ? EISDIR : 0;
  }
  /// Closing may report what a network disk refused, so it counts.
  [[nodiscard]] int close() noexcept {
    if (fd_ < 0) return 0;
    const int code = ::close(std::exchange(fd_, -1)) == 0 || errno == EINTR ? 0 : errno;
    return code;
  }
  /// Takes the advisory lock if nobody has it.
  [[nodiscard]] bool lock() noexcept { return ::flock(fd_, LOCK_EX | LOCK_NB) == 0; }
  /// Gives the file the permissions `path` has.
  void copy_permissions(const std::string& path) noexcept {
    struct stat s {};
    if (::stat(path.c_str(), &s) == 0) static_cast<void>(::fchmod(fd_, s.st_mode & 07777));
  }

 private:
  static constexpr std::size_t at_once = std::size_t{1} << 30;  // Linux moves at most 2 GiB in one call
  int fd_ = -1;
};

[[nodiscard]] inline path_kind kind_of(const std::string& path) noexcept {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0) return path_kind::missing;
  return S_ISREG(s.st_mode) ? path_kind::file : S_ISDIR(s.st_mode) ? path_kind::folder : path_kind::other;
}
[[nodiscard]] inline int process_number() noexcept { return static_cast<int>(::getpid()); }
[[nodiscard]] inline int replace_file(const std::string& from, const std::string& to) noexcept {
  return std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}
/// Makes the new name itself durable; disks that cannot are left alone.
inline void sync_folder(const std::string& folder) noexcept {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  static_cast<void>(::fsync(fd));
  static_cast<void>(::close(fd));
}

#else  // the C library alone

/// An open file. Move-only.
class os_file {
 public:
  os_file() = default;
  os_file(os_file&& other) noexcept : file_(std::exchange(other.file_, nullptr)) {}
  os_file& operator=(os_file&& other) noexcept {
    if (this != &other) {
      static_cast<void>(close());
      file_ = std::exchange(other.file_, nullptr);
    }
    return *this;
  }
  ~os_file() { static_cast<void>(close()); }

  [[nodiscard]] int open(const std::string& path, open_mode mode) noexcept {
    static constexpr const char* modes[] = {"rb", "wbx", "ab", "wb", "r+b"};
    errno = 0;
    std::FILE* f = std::fopen(path.c_str(), modes[static_cast<int>(mode)]);
    if (f == nullptr) return errno != 0 ? errno : EIO;
    static_cast<void>(close());
    file_ = f;
    return 0;
  }
  [[nodiscard]] bool is_open() const noexcept { return file_ != nullptr; }
  [[nodiscard]] int read(void* to, std::size_t bytes, std::size_t& got) noexcept {
    got = std::fread(to, 1, bytes, file_);
    return got < bytes && std::ferror(file_) != 0 ? EIO : 0;
  }
  [[nodiscard]] int write(const char* from, std::size_t bytes) noexcept {
    errno = 0;
    const bool good = std::fwrite(from, 1, bytes, file_) == bytes && std::fflush(file_) == 0;
    return good ? 0 : errno != 0 ? errno : EIO;
  }
  [[nodiscard]] int sync() noexcept { return std::fflush(file_) == 0 ? 0 : EIO; }
  [[nodiscard]] int truncate(std::int64_t) noexcept { return EINVAL; }  // the C library has no such call
  [[nodiscard]] int size(std::int64_t& bytes) const noexcept {
    const long here = std::ftell(file_);
    if (here < 0 || std::fseek(file_, 0, SEEK_END) != 0) return EIO;
    bytes = std::ftell(file_);
    return bytes >= 0 && std::fseek(file_, here, SEEK_SET) == 0 ? 0 : EIO;
  }
  [[nodiscard]] int close() noexcept {
    return file_ == nullptr || std::fclose(std::exchange(file_, nullptr)) == 0 ? 0 : EIO;
  }
  [[nodiscard]] bool lock() noexcept { return true; }
  void copy_permissions(const std::string&) noexcept {}

 private:
  std::FILE* file_ = nullptr;
};

[[nodiscard]] inline path_kind kind_of(const std::string& path) noexcept {
  std::FILE* f = std::fopen(path.c_str(), "rb");
  if (f == nullptr) return path_kind::missing;
  static_cast<void>(std::fclose(f));
  return path_kind::file;
}
[[nodiscard]] inline int process_number() noexcept { return 0; }
[[nodiscard]] inline int replace_file(const std::string& from, const std::string& to) noexcept {
  static_cast<void>(std::remove(to.c_str()));  // rename() of other systems does not replace
  return std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}
inline void sync_folder(const std::string&) noexcept {}

#endif

/// What the person at the keyboard can do about an errno value.
[[nodiscard]] inline std::string remedy(const std::string& path, int code) {
  const std::string folder = folder_of(path);
  switch (code) {
    case ENOENT:
      return kind_of(folder) == path_kind::folder
                 ? "check the name; folder '" + folder + "' exists, but has no such file or takes no new ones"
                 : "folder '" + folder + "' is not there; create it first or correct the path";
    case ENOTDIR:
      return "a part of the path is a file where a folder is needed; correct the path";
    case EISDIR:
      return "this is a folder; give the name of a file in it";
    case EACCES:
    case EPERM:
      return "choose a place you have permission for, or change the permissions of it";
    case EROFS:
      return "the disk is mounted read-only; choose another place";
    case ENOSPC:
      return "free some space or choose another disk, then try again";
    case EFBIG:
      return "the file-size limit of this process is reached; raise it (ulimit -f) or write less";
    case EMFILE:
    case ENFILE:
      return "too many files are open; close some or raise the limit (ulimit -n)";
    case ENAMETOOLONG:
      return "choose a shorter name";
    case ENOMEM:
      return "free some memory and try again";
#if BOOT_HAS_POSIX
    case EDQUOT:
      return "your share of the disk is used up; free some space or choose another disk";
#endif
    default:
      return "check the disk and the path, then try again";
  }
}

/// Throws boot::error: "cannot <what> '<path>': <cause>; <remedy>".
[[noreturn]] inline void fail_file(const char* what, const std::string& path, int code) {
  fail("boot: cannot {} '{}': {}; {}", what, path, std::generic_category().message(code), remedy(path, code));
}

}  // namespace boot::inline v0::detail
