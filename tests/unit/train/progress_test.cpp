// SPDX-License-Identifier: MIT
/// The progress line: its text, when it is written, and where it is quiet.
#include "support/catch.hpp"

#include <boot/train/progress.hpp>

#include <algorithm>
#include <cstdio>
#include <string>

using Catch::Matchers::ContainsSubstring;

namespace {

/// A file that lives as long as the scope.
class scratch_file {
 public:
  scratch_file() : file_(std::tmpfile()) { REQUIRE(file_ != nullptr); }
  scratch_file(const scratch_file&) = delete;
  scratch_file& operator=(const scratch_file&) = delete;
  ~scratch_file() { std::fclose(file_); }
  [[nodiscard]] std::FILE* file() const { return file_; }
  [[nodiscard]] std::string text() const {
    std::string all;
    std::rewind(file_);
    for (int c = std::fgetc(file_); c != EOF; c = std::fgetc(file_)) all += static_cast<char>(c);
    return all;
  }

 private:
  std::FILE* file_;
};

boot::step_info info_at(std::int64_t step, std::int64_t steps = 100) {
  boot::step_info i{.step = step, .steps = steps, .gradient_norm = 0.25};
  i.loss.total = 0.5;
  i.loss.part[0] = {"bootstrap", 0.4};
  i.loss.part[1] = {"boundary", 0.2};
  return i;
}

std::string written(boot::progress_mode mode, std::int64_t every) {
  const scratch_file to;
  {
    boot::progress_line line(mode, every, to.file());
    for (std::int64_t i = 0; i < 100; ++i) line.show(info_at(i));
    line.say("a warning");
  }
  return to.text();
}

}  // namespace

TEST_CASE("the line has steps, rate, time left, losses, norm") {
  CHECK(boot::progress_text(info_at(24), 5) ==
        "25/100  5 it/s  0:15 left  loss 0.5 (bootstrap 0.4, boundary 0.2)  |g| 0.25");
  auto i = info_at(99);
  i.skipped_steps = 3;
  i.loss.part = {};
  CHECK(boot::progress_text(i, 0) == "100/100  loss 0.5  |g| 0.25  skipped 3");
}

TEST_CASE("durations") {
  CHECK(boot::duration_text(0) == "0:00");
  CHECK(boot::duration_text(59.6) == "1:00");
  CHECK(boot::duration_text(3723) == "1:02:03");
  CHECK(boot::duration_text(1e30) == "?");
  CHECK(boot::duration_text(-1) == "?");
}

TEST_CASE("each mode writes what it should") {
  CHECK(written(boot::progress_mode::automatic, 0) == "a warning\n");  // no terminal: quiet
  CHECK(written(boot::progress_mode::off, 10).empty());
  const std::string plain = written(boot::progress_mode::plain, 40);
  CHECK_THAT(plain, ContainsSubstring("40/100") && ContainsSubstring("80/100") && ContainsSubstring("100/100"));
  CHECK(std::count(plain.begin(), plain.end(), '\n') == 4);
  CHECK(plain.find('\r') == std::string::npos);
  CHECK(written(boot::progress_mode::automatic, 50).find("50/100") != std::string::npos);
  const std::string live = written(boot::progress_mode::on, 0);
  CHECK(live.substr(0, 6) == "\r1/100");
  CHECK_THAT(live, ContainsSubstring("\r100/100"));
  CHECK_THAT(live, ContainsSubstring("\033[K\na warning\n"));
}
