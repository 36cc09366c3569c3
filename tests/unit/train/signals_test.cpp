// SPDX-License-Identifier: MIT
/// The signal guard: catches, restores, leaves ignored signals alone, lets a second signal through.
#include "support/catch.hpp"

#include <boot/train/signals.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace {
volatile std::sig_atomic_t mine = 0;
void my_handler(int) { mine = mine + 1; }
}  // namespace

TEST_CASE("a signal becomes a flag, and handlers come back") {
  const auto before = std::signal(SIGTERM, my_handler);
  mine = 0;
  {
    const boot::signal_guard guard(true);
    CHECK(guard.caught() == 0);
    std::raise(SIGTERM);
    CHECK(guard.caught() == SIGTERM);
    CHECK(mine == 0);
    const boot::signal_guard inner(true);  // nested: the same flag
    CHECK(inner.caught() == SIGTERM);
  }
  std::raise(SIGTERM);
  CHECK(mine == 1);
  {
    const boot::signal_guard off(false);
    std::raise(SIGTERM);
    CHECK(off.caught() == 0);
  }
  CHECK(mine == 2);
  {
    const boot::signal_guard again(true);
    CHECK(again.caught() == 0);  // an old signal is forgotten
  }
  std::signal(SIGTERM, before);
}

TEST_CASE("an ignored signal stays ignored") {
  const auto before = std::signal(SIGINT, SIG_IGN);
  {
    const boot::signal_guard guard(true);
    std::raise(SIGINT);
    CHECK(guard.caught() == 0);
  }
  CHECK(std::signal(SIGINT, before) == SIG_IGN);
}

TEST_CASE("a second signal ends the program") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::signal(SIGINT, SIG_DFL);
    const boot::signal_guard guard(true);
    std::raise(SIGINT);
    if (guard.caught() != SIGINT) _exit(3);
    std::raise(SIGINT);
    _exit(4);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGINT);
}
