// SPDX-License-Identifier: MIT
/// Another program's JSON lines: answers, chatter between them, and every way it can let us down. The peers are shells.
#include "support/catch.hpp"

#include <boot/config.hpp>

#if BOOT_HAS_POSIX

#  include "../../../benchmarks/measure/peer.hpp"

#  include <boot/bench/statistics.hpp>

#  include <random>

using boot::measure::peer;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

/// A shell that says it is ready and then runs `script`.
std::vector<std::string> shell(const std::string& script) {
  return {"/bin/sh", "-c", R"(echo '{"ready": true, "version": "1.2"}'; )" + script};
}

const std::string echo = R"(while read -r line; do printf '{"got": %s}\n' "$line"; done)";

bool exists(pid_t id) { return ::kill(id, 0) == 0; }

}  // namespace

TEST_CASE("a peer greets and answers each request", "[bench][measure]") {
  peer p(shell(echo));
  CHECK(p.ready()["version"] == "1.2");
  std::mt19937_64 engine(std::random_device{}());
  for (int i = 0; i < 20; ++i) {
    const auto number = engine();
    CHECK(p.request(json{{"n", number}})["got"]["n"] == number);
  }
  CHECK(p.request(std::string("17")) == "{\"got\": 17}");
  CHECK_THROWS_WITH(p.request(std::string("1\n2")), ContainsSubstring("send one line"));
  const std::string text(300'000, 'x');  // more than a pipe holds
  CHECK(p.request(json{{"text", text}})["got"]["text"] == text);
}

TEST_CASE("chatter between the answers is passed over", "[bench][measure]") {
  peer p(
      {"/bin/sh", "-c",
       R"(echo 'a warning'; echo; echo '{"ready": true}'; while read -r line; do echo 'busy'; echo '{"ok": 1}'; done)"});
  CHECK(p.request(json::object())["ok"] == 1);
  CHECK(p.request(json::object())["ok"] == 1);
}

TEST_CASE("a peer takes turns with a function of ours", "[bench][measure]") {
  peer p(shell(R"(while read -r line; do echo '{"seconds": 0.5}'; done)"));
  const auto r = boot::bench::paired_rounds([] { return .25; },
                                            [&] {
                                              return p.request(json{{"steps", 1}})["seconds"].get<double>();
                                            });
  CHECK(r.ratio.median == .5);
}

TEST_CASE("a peer that goes leaves no process behind", "[bench][measure]") {
  pid_t id = 0;
  {
    peer p(shell(echo));
    id = p.id();
    CHECK(exists(id));
  }
  CHECK_FALSE(exists(id));
  {
    peer stubborn({"/bin/sh", "-c", R"(echo '{"ready": true}'; trap '' TERM; while :; do sleep .05; done)"},
                  {.quit_seconds = .05});
    id = stubborn.id();
  }
  CHECK_FALSE(exists(id));
}

TEST_CASE("a peer that cannot start says why", "[bench][measure]") {
  CHECK_THROWS_WITH(peer({"/no/such/program", "--serve"}),
                    ContainsSubstring("cannot start the peer '/no/such/program"));
  CHECK_THROWS_WITH(peer(std::vector<std::string>{}), ContainsSubstring("give a program"));
  CHECK_THROWS_WITH(peer({"/bin/sh", "-c", "exit 3"}),
                    ContainsSubstring("ended with status 3 before it could get ready"));
  CHECK_THROWS_WITH(peer({"/bin/sh", "-c", "echo '{\"other\": 1}'"}), ContainsSubstring("--serve"));
  CHECK_THROWS_WITH(peer({"/bin/sh", "-c", "echo '{broken'"}), ContainsSubstring("--serve"));
  CHECK_THROWS_WITH(peer({"/bin/sh", "-c", "exec sleep 60"}, {.ready_seconds = .05}),
                    ContainsSubstring("did not get ready"));
}

TEST_CASE("a peer that dies or hangs is an error, not our end", "[bench][measure]") {
  SECTION("it answers once and leaves") {
    peer p(shell(R"(read -r line; echo '{"ok": 1}'; exit 4)"));
    CHECK(p.request(json::object())["ok"] == 1);
    CHECK_THROWS_WITH(p.request(json::object()), ContainsSubstring("ended with status 4"));
    CHECK_THROWS_WITH(p.request(json::object()), ContainsSubstring("not running any more"));
  }
  SECTION("it is killed") {
    peer p(shell(R"(read -r line; kill -9 $$)"));
    CHECK_THROWS_WITH(p.request(json::object()), ContainsSubstring("signal 9"));
  }
  SECTION("it never answers") {
    peer p(shell("exec sleep 60"), {.request_seconds = .05});
    const pid_t id = p.id();
    CHECK_THROWS_WITH(p.request(json{{"case", "slow"}}),
                      ContainsSubstring("did not answer {\"case\":\"slow\"} within 0.05 s"));
    CHECK_THROWS_WITH(p.request(json::object()), ContainsSubstring("not running any more"));
    CHECK(id > 0);
  }
  SECTION("it never reads") {
    peer p(shell("exec sleep 60"), {.request_seconds = .05});
    CHECK_THROWS_WITH(p.request(json(std::string(300'000, 'x'))), ContainsSubstring("did not read"));
  }
  SECTION("it answers what is no JSON") {
    peer p(shell(R"(while read -r line; do echo '{oops'; done)"));
    CHECK_THROWS_WITH(p.request(json::object()), ContainsSubstring("no JSON"));
  }
}

#endif
