// SPDX-License-Identifier: MIT
/// Checkpoints: exact resume at every step and after SIGKILL, signals, damage, wrong configurations, full disks.
#include "support/catch.hpp"
#include "support/io.hpp"
#include "train_problem.hpp"

#include <boot/io/parameters.hpp>
#include <boot/objective/progressive_distillation.hpp>
#include <boot/train/checkpoint.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace boot_test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A run with checkpoints and logs in a folder.
struct kept_run {
  problem p;
  boot::checkpoints keep;
  boot::distiller<remembering_loss, boot::cpu> trainer;
  std::vector<std::string> messages;

  kept_run(const std::string& folder, std::uint64_t seed, boot::distiller_options options,
           boot::checkpoint_options files = {.every = 3, .keep_last = 3}, std::set<std::int64_t> bad = {})
      : p(seed), keep(folder, files), trainer(one_thread, p.loss, with_folder(std::move(options), folder)) {
    p.bad = std::move(bad);
    trainer.use(keep);
    trainer.on_message([this](std::string_view text) { messages.emplace_back(text); });
  }
  static boot::distiller_options with_folder(boot::distiller_options o, const std::string& folder) {
    o.folder = folder;
    o.log_csv = true;
    return o;
  }
};

boot::distiller_options resuming(boot::distiller_options o) {
  o.resume = true;
  return o;
}
std::string logs(const std::string& folder) {
  return boot::read_file(folder + "/log.jsonl") + boot::read_file(folder + "/log.csv");
}
void flip_byte(const std::string& path, std::size_t from_end) {
  std::string bytes = boot::read_file(path);
  bytes[bytes.size() - from_end] = static_cast<char>(bytes[bytes.size() - from_end] ^ 0x10);
  boot::atomic_write_file(path, std::string_view(bytes));
}

/// Lowers the limit on file sizes for a scope: the disk is "full" beyond it.
class file_size_limit {
 public:
  explicit file_size_limit(std::size_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit now = before_;
    now.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &now);
  }
  file_size_limit(const file_size_limit&) = delete;
  file_size_limit& operator=(const file_size_limit&) = delete;
  ~file_size_limit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE("a run resumed at any step boundary has the bits of an unbroken one") {
  const std::uint64_t seed = fresh_seed();
  INFO("seed " << seed);
  constexpr std::int64_t steps = 12;
  const std::set<std::int64_t> bad{2, 5, 6};
  temporary_folder folder;
  const std::string unbroken = folder.path("unbroken");
  const boot::checkpoint_options all{.every = 1, .keep_last = 0};
  kept_run whole(unbroken, seed, short_run(steps, seed), all, bad);
  REQUIRE(whole.trainer.run().skipped_steps == 3);
  REQUIRE(boot::list_checkpoints(unbroken).size() == steps);
  for (std::int64_t at = 0; at <= steps; ++at) {
    INFO("stopped after step " << at);
    const std::string broken = folder.path("broken" + std::to_string(at));
    {
      kept_run first(broken, seed, short_run(steps, seed), all, bad);
      first.trainer.run(at);
    }
    kept_run second(broken, seed + 1, resuming(short_run(steps, seed)), all, bad);  // other weights, to be replaced
    const auto result = second.trainer.run();
    CHECK(result.resumed == true);
    CHECK(result.finished);
    CHECK(result.skipped_steps == 3);
    CHECK(state_bits(second.trainer) == state_bits(whole.trainer));
    CHECK(logs(broken) == logs(unbroken));
    CHECK(second.p.loss.begun == whole.p.loss.begun);
    CHECK(second.p.loss.seen == whole.p.loss.seen);
    CHECK(second.p.loss.table == whole.p.loss.table);
    CHECK(second.p.loss.restored_calls == 1);
    // The files hold everything, so equal files are equal runs.
    CHECK(boot::read_file(second.keep.path_of(steps)) == boot::read_file(whole.keep.path_of(steps)));
  }
}

TEST_CASE("a run in double precision resumes exactly") {
  schedule times{{0.001, 0.999}};
  const boot::gaussian_mixture<schedule> teacher(times, {{1, {1.0, 0.3}, 0.2, 0}});
  temporary_folder folder;
  std::string end[2];
  for (const int broken : {0, 1}) {
    const std::string path = folder.path(std::to_string(broken));
    for (const std::int64_t until : {broken == 0 ? 9 : 4, 9}) {
      boot::network_model<boot::mlp, boot::cpu, double> student(
          one_thread, boot::mlp({.features = 2, .width = 8, .hidden_layers = 1, .target_time = true}),
          {boot::prediction_kind::v}, 3);
      boot::bootstrap loss{teacher, student, times};
      boot::distiller trainer{one_thread, loss, resuming(short_run(9, 5))};
      boot::checkpoints keep{path, {.every = 2}};
      trainer.use(keep);
      trainer.run(until);
      end[broken] = state_bits(trainer);
    }
  }
  CHECK(end[0] == end[1]);
}

TEST_CASE("an objective with phases resumes exactly within and between them") {
  const std::uint64_t seed = fresh_seed();
  INFO("seed " << seed);
  schedule times{{0.001, 0.999}};
  const boot::gaussian_mixture<schedule> teacher(times, {{1, {1.0, 0.3}, 0.2, 0}, {2, {-0.8, -0.5}, 0.3, 1}});
  temporary_folder folder;
  const auto train = [&](const std::string& name, std::vector<std::int64_t> stops) {
    std::string end;
    for (const std::int64_t until : stops) {
      network student(one_thread, boot::mlp({.features = 2, .width = 8, .hidden_layers = 1, .target_time = true}),
                      {boot::prediction_kind::v}, 3);
      boot::progressive_distillation loss{teacher, student, times, {.first_steps = 4, .phase_steps = 5}};
      boot::distiller trainer{one_thread, loss, resuming(short_run(15, seed))};
      boot::checkpoints keep{folder.path(name), {.every = 0}};
      trainer.use(keep);
      trainer.run(until);
      CHECK(loss.phase() == (until - 1) / 5);
      end = state_bits(trainer);
    }
    return end;
  };
  const std::string unbroken = train("unbroken", {15});
  CHECK(train("between", {5, 10, 15}) == unbroken);
  CHECK(train("within", {3, 6, 12, 15}) == unbroken);
}

TEST_CASE("a run killed at random moments and resumed has the bits of an unbroken one") {
  const std::uint64_t seed = fresh_seed();
  INFO("seed " << seed);
  constexpr std::int64_t steps = 60;
  const std::set<std::int64_t> bad{7, 30, 31};
  temporary_folder folder;
  kept_run whole(folder.path("unbroken"), seed, short_run(steps, seed), {.every = 7}, bad);
  whole.trainer.run();
  const std::string broken = folder.path("broken");
  std::mt19937_64 random(seed);
  int kills = 0;
  bool finished = false;
  for (int attempt = 0; attempt < 100 && !finished; ++attempt) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        kept_run run(broken, seed, resuming(short_run(steps, seed)), {.every = 7}, bad);
        run.trainer.on_step([](const boot::step_info&) { usleep(1000); });
        _exit(run.trainer.run().finished ? 0 : 1);
      } catch (...) {
        _exit(2);
      }
    }
    if (kills < 5) {
      std::this_thread::sleep_for(std::chrono::microseconds(5000 + random() % 50000));
      kill(child, SIGKILL);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) {
      CHECK(WTERMSIG(status) == SIGKILL);
      ++kills;
    } else {
      REQUIRE(WEXITSTATUS(status) == 0);
      finished = true;
    }
  }
  REQUIRE(finished);
  INFO("killed " << kills << " times");
  for (const auto& e : std::filesystem::directory_iterator(broken))  // what a killed write left is gone
    CHECK(e.path().filename().string().find("tmp") == std::string::npos);
  CHECK(boot::read_file(broken + "/step-0000000060.safetensors") == boot::read_file(whole.keep.path_of(steps)));
  CHECK(logs(broken) == logs(folder.path("unbroken")));
}

TEST_CASE("SIGTERM and SIGINT finish the step, save and return") {
  for (const int number : {SIGTERM, SIGINT}) {
    temporary_folder folder;
    kept_run run(folder.root(), 4, short_run(50, 4), {.every = 0});
    run.trainer.on_step([&](const boot::step_info& i) {
      if (i.step == 6) std::raise(number);
    });
    const auto before = std::signal(number, SIG_DFL);
    std::signal(number, before);
    const auto result = run.trainer.run();
    CHECK(result.interrupted);
    CHECK(result.signal == number);
    CHECK(result.step == 7);
    REQUIRE(run.messages.size() == 1);
    CHECK_THAT(run.messages[0], ContainsSubstring("after step 7 of 50: saved"));
    const auto files = boot::list_checkpoints(folder.root());
    REQUIRE(files.size() == 1);
    CHECK(files[0].step == 7);
    const auto after = std::signal(number, SIG_DFL);
    CHECK(after == before);  // the handlers are those of before
    std::signal(number, after);
    kept_run again(folder.root(), 4, resuming(short_run(50, 4)));
    CHECK(again.trainer.run().finished);
  }
}

TEST_CASE("after too many bad steps the last good state is kept") {
  temporary_folder folder;
  std::set<std::int64_t> bad;
  for (std::int64_t i = 4; i < 40; ++i) bad.insert(i);
  auto options = short_run(20, 4);
  options.max_skips = 3;
  kept_run run(folder.root(), 4, options, {.every = 0}, bad);
  const std::string message = message_of([&] { run.trainer.run(); });
  CHECK_THAT(message, ContainsSubstring("and saved"));
  kept_run again(folder.root(), 5, resuming(options));
  REQUIRE(again.trainer.resume());
  CHECK(again.trainer.step() == 7);
  CHECK(bits(again.p.student.parameters().values()) == bits(run.p.student.parameters().values()));
  for (const float v : boot::to_host(one_thread, again.p.student.parameters().values())) REQUIRE(std::isfinite(v));
  CHECK(again.trainer.run().finished);  // the teacher has been mended
}

TEST_CASE("a damaged newest checkpoint is passed over") {
  const std::uint64_t seed = fresh_seed();
  temporary_folder folder;
  const std::string unbroken = folder.path("unbroken");
  kept_run whole(unbroken, seed, short_run(12, seed));
  whole.trainer.run();
  struct damage {
    const char* what;
    void (*make)(const std::string& path);
  };
  const damage kinds[] = {
      {"cut", [](const std::string& path) { CHECK(truncate(path.c_str(), 700) == 0); }},
      {"cut near the end",
       [](const std::string& path) {
         CHECK(truncate(path.c_str(), static_cast<off_t>(boot::read_file(path).size()) - 4) == 0);
       }},
      {"empty", [](const std::string& path) { CHECK(truncate(path.c_str(), 0) == 0); }},
      {"a bit of the data", [](const std::string& path) { flip_byte(path, 999); }},
      {"a bit of the last number", [](const std::string& path) { flip_byte(path, 1); }},
      {"a digit of the step",
       [](const std::string& path) {
         std::string bytes = boot::read_file(path);
         const std::size_t at = bytes.find("\"number.updates\":\"6\"");
         REQUIRE(at != std::string::npos);
         bytes[at + 18] = '7';
         boot::atomic_write_file(path, std::string_view(bytes));
       }},
  };
  int number = 0;
  for (const auto& kind : kinds) {
    INFO(kind.what);
    const std::string broken = folder.path("broken" + std::to_string(number++));
    {
      kept_run first(broken, seed, short_run(12, seed));
      first.trainer.run(6);
      kind.make(first.keep.path_of(6));
    }
    kept_run second(broken, seed + 1, resuming(short_run(12, seed)), {.every = 3, .keep_last = 1});
    REQUIRE(second.trainer.resume());
    CHECK(second.trainer.step() == 3);
    REQUIRE(second.messages.size() == 1);
    CHECK_THAT(second.messages[0], ContainsSubstring("step-0000000006"));
    CHECK_THAT(second.messages[0], ContainsSubstring("trying the one before"));
    second.trainer.run(5);  // saves step 5; the damaged later file must not push the whole ones out
    CHECK(second.trainer.step() == 5);
    CHECK(std::string(boot::list_checkpoints(broken).at(1).path) == second.keep.path_of(5));
    CHECK(second.trainer.run().finished);
    CHECK(state_bits(second.trainer) == state_bits(whole.trainer));
    CHECK(logs(broken) == logs(unbroken));
  }
}

TEST_CASE("a folder where every checkpoint is damaged is not started anew in silence") {
  temporary_folder folder;
  {
    kept_run run(folder.root(), 1, short_run(4, 1), {.every = 2});
    run.trainer.run();
  }
  for (const auto& f : boot::list_checkpoints(folder.root())) flip_byte(f.path, 50);
  kept_run again(folder.root(), 1, resuming(short_run(4, 1)));
  const std::string before = state_bits(again.trainer);
  CHECK_THAT(message_of([&] { again.trainer.run(); }), ContainsSubstring("none of the 2 checkpoints"));
  CHECK(state_bits(again.trainer) == before);
}

TEST_CASE("another configuration is refused, field by field") {
  temporary_folder folder;
  {
    kept_run run(folder.root(), 1, short_run(20, 1));
    run.trainer.run(6);
  }
  const auto message_with = [&](auto change) {
    auto options = resuming(short_run(20, 1));
    change(options);
    kept_run run(folder.root(), 1, options);
    const std::string before = state_bits(run.trainer);
    const std::string message = message_of([&] { run.trainer.run(); });
    CHECK(state_bits(run.trainer) == before);
    CHECK_THAT(message, ContainsSubstring("ignore_configuration = true"));
    return message;
  };
  CHECK_THAT(message_with([](auto& o) { o.batch = 32; }), ContainsSubstring("batch is 24 in the checkpoint, 32 now"));
  CHECK_THAT(message_with([](auto& o) { o.accumulation = 1; }), ContainsSubstring("accumulation is 2"));
  CHECK_THAT(message_with([](auto& o) { o.steps = 30; }), ContainsSubstring("steps is 20"));
  CHECK_THAT(message_with([](auto& o) { o.seed = 9; }), ContainsSubstring("seed is 1 in the checkpoint, 9 now"));
  CHECK_THAT(message_with([](auto& o) { o.rate.peak = 0.1; }), ContainsSubstring("rate.peak is 0.003"));
  CHECK_THAT(message_with([](auto& o) { o.rate.decay = boot::rate_decay::constant; }), ContainsSubstring("rate.decay"));
  CHECK_THAT(message_with([](auto& o) { o.optimizer.beta2 = 0.99; }), ContainsSubstring("optimizer.beta2 is 0.999"));
  CHECK_THAT(message_with([](auto& o) { o.optimizer.averages[1].relative_width = 0.05; }),
             ContainsSubstring("optimizer.averages[1].relative_width is 0.1 in the checkpoint, 0.05 now"));
  CHECK_THAT(message_with([](auto& o) { o.optimizer.averages.pop_back(); }),
             ContainsSubstring("averages[1].decay is 0.999 in the checkpoint, not there now"));
  {
    kept_run run(folder.root(), 1, resuming(short_run(20, 1)));
    run.p.loss.words = "second";
    CHECK_THAT(message_of([&] { run.trainer.run(); }),
               ContainsSubstring("objective is first in the checkpoint, second now"));
  }
  {
    kept_run run(folder.root(), 1, resuming(short_run(20, 1)));
    run.p.student.parameters().layout().assign_group({.name = "biases", .weight_decay = 0}, [](std::string_view n) {
      return n.find("bias") != std::string_view::npos;
    });
    CHECK_THAT(message_of([&] { run.trainer.run(); }), ContainsSubstring("parameter group 'biases'"));
  }
  auto longer = resuming(short_run(30, 1));
  kept_run run(folder.root(), 1, longer, {.every = 3, .ignore_configuration = true});
  CHECK(run.trainer.run().resumed);
  CHECK(run.trainer.step() == 30);
}

TEST_CASE("another student is refused by the names of its parameters") {
  temporary_folder folder;
  {
    kept_run run(folder.root(), 1, short_run(20, 1));
    run.trainer.run(3);
  }
  problem wide(1, 32);
  boot::checkpoints keep(folder.root(), {.ignore_configuration = true});
  boot::distiller trainer{one_thread, wide.loss, short_run(20, 1)};
  trainer.use(keep);
  const std::string before = state_bits(trainer);
  const std::string message = message_of([&] { static_cast<void>(trainer.resume()); });
  CHECK_THAT(message, ContainsSubstring("does not fit this run"));
  CHECK_THAT(message,
             ContainsSubstring("'student.time_embedding.linear_1.bias' is F32 [16] in the checkpoint, F32 [32] now"));
  CHECK_THAT(message, ContainsSubstring("and ") && ContainsSubstring(" more"));
  CHECK(state_bits(trainer) == before);
}

TEST_CASE("the last k checkpoints are kept, and any reader can read the student") {
  temporary_folder folder;
  kept_run run(folder.root(), 1, short_run(20, 1), {.every = 3, .keep_last = 2});
  run.trainer.run();
  std::vector<std::int64_t> steps;
  for (const auto& f : boot::list_checkpoints(folder.root())) steps.push_back(f.step);
  CHECK(steps == std::vector<std::int64_t>{20, 18});
  CHECK(folder.names() ==
        std::vector<std::string>{"log.csv", "log.jsonl", "step-0000000018.safetensors", "step-0000000020.safetensors"});
  problem other(2);
  boot::load_parameters(run.keep.path_of(20), other.student.parameters(), {.prefix = "student."});
  CHECK(bits(other.student.parameters().values()) == bits(run.p.student.parameters().values()));
  boot::load_parameters(run.keep.path_of(20), other.student.parameters(), {.prefix = "average1."});
  CHECK(bits(other.student.parameters().values()) == bits(run.trainer.optimizer().average(1)));
}

TEST_CASE("a fresh run does not mix with an earlier one") {
  temporary_folder folder;
  {
    kept_run run(folder.root(), 1, short_run(9, 1));
    run.trainer.run();
  }
  const std::string before = logs(folder.root());
  kept_run fresh(folder.root(), 2, short_run(6, 2));
  const std::string message = message_of([&] { fresh.trainer.run(); });
  CHECK_THAT(message, ContainsSubstring("earlier run up to step 9"));
  CHECK_THAT(message, ContainsSubstring("resume = true"));
  CHECK(logs(folder.root()) == before);  // nothing lost
  CHECK(boot::list_checkpoints(folder.root()).size() == 3);
  kept_run replacing(folder.root(), 2, short_run(6, 2), {.every = 3, .replace = true});
  CHECK(replacing.trainer.run().finished);
  CHECK(boot::list_checkpoints(folder.root()).size() == 2);
}

TEST_CASE("resume without a checkpoint starts anew, resume of a finished run does nothing") {
  temporary_folder folder;
  kept_run run(folder.root(), 1, resuming(short_run(5, 1)));
  const auto result = run.trainer.run();
  CHECK_FALSE(result.resumed);
  CHECK(result.step == 5);
  const std::string before = logs(folder.root()) + boot::read_file(run.keep.path_of(5));
  kept_run again(folder.root(), 2, resuming(short_run(5, 1)));
  bool stepped = false;
  again.trainer.on_step([&](const boot::step_info&) { stepped = true; });
  CHECK(again.trainer.run().finished);
  CHECK_FALSE(stepped);
  CHECK(state_bits(again.trainer) == state_bits(run.trainer));
  CHECK(logs(folder.root()) + boot::read_file(run.keep.path_of(5)) == before);
}

TEST_CASE("a checkpoint the disk refuses is an error, and nothing is lost") {
  const std::uint64_t seed = fresh_seed();
  temporary_folder folder;
  kept_run whole(folder.path("unbroken"), seed, short_run(12, seed));
  whole.trainer.run();
  kept_run run(folder.path("full"), seed, short_run(12, seed));
  run.trainer.run(3);
  const auto names_before = boot::list_checkpoints(folder.path("full"));
  REQUIRE(names_before.size() == 1);
  const std::string kept = boot::read_file(names_before[0].path);
  {
    const file_size_limit full(kept.size() - 1000);
    const std::string message = message_of([&] { run.trainer.run(); });
    CHECK_THAT(message, ContainsSubstring("step-0000000006"));
    CHECK_THAT(message, ContainsSubstring("ulimit -f"));
  }
  CHECK(run.trainer.step() == 6);
  const auto names_after = boot::list_checkpoints(folder.path("full"));
  REQUIRE(names_after.size() == 1);
  CHECK(boot::read_file(names_after[0].path) == kept);
  CHECK(run.trainer.run().finished);  // there is room again: the run goes on from where it stood
  CHECK(state_bits(run.trainer) == state_bits(whole.trainer));
  CHECK(logs(folder.path("full")) == logs(folder.path("unbroken")));
}

TEST_CASE("a log record the disk refuses is written when there is room again") {
  const std::uint64_t seed = fresh_seed();
  temporary_folder folder;
  kept_run whole(folder.path("unbroken"), seed, short_run(12, seed), {.every = 0});
  whole.trainer.run();
  const std::string all = boot::read_file(folder.path("unbroken/log.jsonl"));
  const std::string csv = boot::read_file(folder.path("unbroken/log.csv"));
  for (const std::size_t room : {all.size() / 2, all.size() - 3, csv.size() - 3}) {
    INFO(room << " bytes");
    const std::string path = folder.path("full" + std::to_string(room));
    kept_run run(path, seed, short_run(12, seed), {.every = 0});
    {
      const file_size_limit full(room);
      CHECK_THAT(message_of([&] { run.trainer.run(); }),
                 ContainsSubstring(path + "/log.") && ContainsSubstring("ulimit -f"));
    }
    CHECK(run.trainer.run().finished);
    CHECK(logs(path) == all + csv);
    CHECK(state_bits(run.trainer) == state_bits(whole.trainer));
  }
}

TEST_CASE("wrong folders and options of checkpoints are named") {
  temporary_folder folder;
  CHECK_THAT(message_of([] { boot::checkpoints k(""); }), ContainsSubstring("need a folder"));
  CHECK_THAT(message_of([&] { boot::checkpoints k(folder.root(), {.every = -1}); }), ContainsSubstring("every = -1"));
  CHECK_THAT(message_of([&] { boot::checkpoints k(folder.root(), {.keep_last = -2}); }),
             ContainsSubstring("keep_last = -2"));
  boot::atomic_write_file(folder.path("file"), std::string_view("x"));
  CHECK_THAT(message_of([&] { boot::checkpoints k(folder.path("file")); }), ContainsSubstring("is not a folder"));
  CHECK_THAT(message_of([] { boot::checkpoints k("/proc/none/of/this"); }), ContainsSubstring("/proc/none"));
}

TEST_CASE("files that are no checkpoints are told apart") {
  temporary_folder folder;
  const std::vector<float> values{1, 2};
  const std::vector<boot::safetensors_entry> entries{boot::entry_of("student.x", {2}, std::span<const float>(values))};
  kept_run run(folder.root(), 1, resuming(short_run(5, 1)));
  boot::write_safetensors(run.keep.path_of(1), entries);
  CHECK_THAT(message_of([&] { run.trainer.run(); }), ContainsSubstring("no metadata 'format'"));
  boot::write_safetensors(run.keep.path_of(1), entries, {{"format", "boot-checkpoint-9"}});
  kept_run second(folder.root(), 1, resuming(short_run(5, 1)));
  CHECK_THAT(message_of([&] { second.trainer.run(); }), ContainsSubstring("boot-checkpoint-9"));
  boot::atomic_write_file(folder.path("step-x.safetensors"), std::string_view("x"));
  boot::atomic_write_file(folder.path("step-.safetensors"), std::string_view("x"));
  CHECK(boot::list_checkpoints(folder.root()).size() == 1);
  CHECK(boot::list_checkpoints(folder.path("nowhere")).empty());
}
