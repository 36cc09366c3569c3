// SPDX-License-Identifier: MIT
/// io/file.hpp: whole or not at all, on good disks, full disks and impossible paths.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/io/file.hpp>

#include <sys/resource.h>
#include <sys/wait.h>

#include <random>
#include <thread>

using boot_test::message_of;
using boot_test::temporary_folder;
using Catch::Matchers::ContainsSubstring;

namespace {

/// Lowers the largest file this process may write; SIGXFSZ keeps its deadly default.
class file_size_limit {
 public:
  explicit file_size_limit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &old_);
    rlimit low = old_;
    low.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &low);
  }
  ~file_size_limit() { setrlimit(RLIMIT_FSIZE, &old_); }

 private:
  rlimit old_{};
};

}  // namespace

TEST_CASE("a file is written and read back whole", "[io][file]") {
  const temporary_folder folder;
  std::mt19937_64 random(std::random_device{}());
  for (const std::size_t n : {0u, 1u, 65535u, 65536u, 65537u, 1000003u}) {
    std::string bytes(n, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    boot::atomic_write_file(folder.path("data"), std::string_view(bytes));
    CHECK(boot::read_file(folder.path("data")) == bytes);
    const boot::mapped_file map(folder.path("data"));
    CHECK(std::string_view(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size()) == bytes);
  }
  CHECK(folder.names() == std::vector<std::string>{"data"});
}

TEST_CASE("files without a size are read to their end", "[io][file]") {
  CHECK(boot::read_file("/proc/self/status").find("Pid:") != std::string::npos);
  CHECK(boot::mapped_file("/proc/self/status").bytes().size() > 100);
}

TEST_CASE("a file that is not committed leaves the old one and nothing else", "[io][file]") {
  const temporary_folder folder;
  boot::atomic_write_file(folder.path("model"), std::string_view("old"));
  {
    boot::atomic_file file(folder.path("model"));
    file.write(std::string_view("half of the new"));
    CHECK(folder.names().size() == 2);
    CHECK(boot::read_file(folder.path("model")) == "old");
  }
  CHECK(folder.names() == std::vector<std::string>{"model"});
  CHECK(boot::read_file(folder.path("model")) == "old");
  boot::atomic_file file(folder.path("model"));
  file.write(std::string_view("new"));
  file.commit();
  CHECK(boot::read_file(folder.path("model")) == "new");
  CHECK_THAT(message_of([&] { file.write(std::string_view("more")); }), ContainsSubstring("after commit()"));
}

TEST_CASE("a mapping outlives the replacement of its file", "[io][file]") {
  const temporary_folder folder;
  boot::atomic_write_file(folder.path("f"), std::string_view("first"));
  boot::mapped_file map(folder.path("f"));
  boot::atomic_write_file(folder.path("f"), std::string_view("2nd"));
  const boot::mapped_file moved = std::move(map);
  CHECK(std::string_view(reinterpret_cast<const char*>(moved.bytes().data()), moved.bytes().size()) == "first");
}

TEST_CASE("permissions and symbolic links survive a replacement", "[io][file]") {
  const temporary_folder folder;
  boot::atomic_write_file(folder.path("real"), std::string_view("a"));
  REQUIRE(chmod(folder.path("real").c_str(), 0640) == 0);
  REQUIRE(symlink("real", folder.path("link").c_str()) == 0);
  boot::atomic_write_file(folder.path("link"), std::string_view("b"));
  CHECK(boot::read_file(folder.path("real")) == "b");
  struct stat s {};
  REQUIRE(lstat(folder.path("link").c_str(), &s) == 0);
  CHECK(S_ISLNK(s.st_mode));
  REQUIRE(stat(folder.path("real").c_str(), &s) == 0);
  CHECK((s.st_mode & 0777) == 0640);
}

TEST_CASE("what a killed writer left is removed by the next one", "[io][file]") {
  const temporary_folder folder;
  boot::atomic_write_file(folder.path("model"), std::string_view("old"));
  const pid_t child = fork();
  if (child == 0) {
    boot::atomic_file file(folder.path("model"));
    file.write(std::string_view("never finished"));
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(folder.names().size() == 2);
  CHECK(boot::read_file(folder.path("model")) == "old");
  boot::atomic_write_file(folder.path("model.boot-tmp-7-notes"), std::string_view("a user's own file"));
  boot::atomic_file running(folder.path("model"));  // in use: must stay
  boot::atomic_write_file(folder.path("model"), std::string_view("new"));
  CHECK(folder.names().size() == 3);
  running.write(std::string_view("newest"));
  running.commit();
  CHECK(boot::read_file(folder.path("model")) == "newest");
  CHECK(folder.names() == std::vector<std::string>{"model", "model.boot-tmp-7-notes"});
}

TEST_CASE("several threads may write one file; it is whole at every moment", "[io][file]") {
  const temporary_folder folder;
  const std::string path = folder.path("shared");
  boot::atomic_write_file(path, std::string_view(std::string(50000, 'a')));
  std::vector<std::thread> writers;
  std::atomic<int> failures{0};
  for (const char c : {'b', 'c'})
    writers.emplace_back([&, c] {
      try {
        for (int i = 0; i < 20; ++i) boot::atomic_write_file(path, std::string_view(std::string(50000, c)));
      } catch (const boot::error&) {
        ++failures;
      }
    });
  for (int i = 0; i < 50; ++i) {
    const std::string seen = boot::read_file(path);
    REQUIRE(seen == std::string(50000, seen.empty() ? '?' : seen[0]));
  }
  for (auto& w : writers) w.join();
  CHECK(failures == 0);
  CHECK(folder.names() == std::vector<std::string>{"shared"});
}

TEST_CASE("a full disk, a size limit and impossible paths are named, and the old file stays", "[io][file][disk]") {
  const temporary_folder folder;
  boot::atomic_write_file(folder.path("model"), std::string_view("old"));
  const std::string large(1 << 20, 'x');

  const std::string full = message_of([&] { boot::atomic_write_file("/dev/full", std::string_view(large)); });
  CHECK_THAT(full, ContainsSubstring("'/dev/full'") && ContainsSubstring("No space left") &&
                       ContainsSubstring("free some space"));
  CHECK(boot::detail::kind_of("/dev/full") == boot::detail::path_kind::other);  // still the device

  std::string limited;
  {
    const file_size_limit limit(4096);
    limited = message_of([&] { boot::atomic_write_file(folder.path("model"), std::string_view(large)); });
  }
  CHECK_THAT(limited,
             ContainsSubstring("model") && ContainsSubstring("File too large") && ContainsSubstring("ulimit -f"));
  CHECK(boot::read_file(folder.path("model")) == "old");
  CHECK(folder.names() == std::vector<std::string>{"model"});

  const auto attempt = [&](const std::string& path) {
    return message_of([&] { boot::atomic_write_file(path, std::string_view("x")); });
  };
  CHECK_THAT(attempt(folder.path("model") + "/below"),
             ContainsSubstring("Not a directory") && ContainsSubstring("correct the path"));
  CHECK_THAT(attempt(folder.path("no/such")),
             ContainsSubstring("No such file") && ContainsSubstring("create it first"));
  CHECK_THAT(attempt("/proc/boot"), ContainsSubstring("'/proc/boot'") && ContainsSubstring("takes no new ones"));
  CHECK_THAT(attempt(folder.root()), ContainsSubstring("Is a directory") && ContainsSubstring("name of a file in it"));
  CHECK_THAT(attempt(""), ContainsSubstring("empty name"));
  CHECK_THAT(attempt(folder.path(std::string(300, 'n'))),
             ContainsSubstring("File name too long") && ContainsSubstring("shorter"));
  CHECK_THAT(message_of([&] { static_cast<void>(boot::read_file(folder.path("none"))); }),
             ContainsSubstring("cannot read") && ContainsSubstring("none") && ContainsSubstring("check the name"));
  CHECK_THAT(message_of([&] { boot::mapped_file map(folder.root()); }), ContainsSubstring("Is a directory"));
  CHECK(folder.names() == std::vector<std::string>{"model"});
}

TEST_CASE("an appended record is there whole or not at all", "[io][file][disk]") {
  const temporary_folder folder;
  boot::append_file file(folder.path("log"), false);
  file.write("first\n");
  std::string limited;
  {
    const file_size_limit limit(10);
    limited = message_of([&] { file.write("second record\n"); });
  }
  CHECK_THAT(limited, ContainsSubstring("File too large"));
  CHECK(boot::read_file(folder.path("log")) == "first\n");
  file.write("third\n");
  CHECK(boot::read_file(folder.path("log")) == "first\nthird\n");
  CHECK(file.size() == 12);
  CHECK_THAT(message_of([] { boot::append_file("/dev/full", true).write("x"); }), ContainsSubstring("No space left"));
}
