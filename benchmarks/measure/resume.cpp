// SPDX-License-Identifier: MIT
// A run that is killed and resumed ends with the same bits as one never stopped: the digits teachers distilled with
// labels, progressive time, accumulation 2 (odd parts), a constant-decay and a power-function average, checkpoints every
// 25 steps. bit_equal is the MLP's, unet_bit_equal the U-Net's, with bf16 activations.
//
// Every run is a program of its own (this one, executed again). It says each finished step through a pipe; at a step
// drawn at random, and a random part of a step later, it gets SIGKILL, which no program can see coming. Every fifth kill
// is drawn among the steps that a checkpoint follows, so that some land while the file is written. A second program
// resumes and runs to the end. Compared with the unbroken run, byte by byte: parameters, both moments, both averages,
// the counters and the last step's losses, as they lie in memory; the log; and the last checkpoint, which also holds the
// sums of the log. A resumed run in which one bit of one moment was flipped must differ, or the comparison sees nothing.
#include "digits/teacher.hpp"
#include "measure/measure.hpp"

#include <boot/io/parameters.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/sources.hpp>
#include <boot/train/checkpoint.hpp>
#include <boot/train/distiller.hpp>

#include <sys/wait.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using boot::cpu;
using boot::measure::json;

constexpr std::int64_t checkpoint_every = 25;

std::string checkpoint_folder(const std::string& folder) { return folder + "/checkpoints"; }

struct job {
  std::string network;  // mlp or unet
  std::string teacher;
  std::int64_t steps, batch;
  std::uint64_t seed;
  int threads;
};

/// What one program does: the run in `folder`, resumed if it can be, to its end.
template <class Network, boot::StorageScalar Activation>
int train(const job& j, const std::string& folder, bool flip_a_bit) {
  const cpu dev{.threads = j.threads};
  auto loaded = digits::new_teacher<Network>(dev);
  boot::load_parameters(j.teacher, loaded.parameters());
  const auto teacher = loaded.template with_activations<Activation>(dev);
  auto student = boot::student_of(dev, teacher, 0, j.seed);
  boot::bootstrap loss(teacher, student, digits::schedule(),
                       boot::bootstrap_options{.delta = 0.04,
                                               .boundary_fraction = 0.25,
                                               .weight = boot::weighting::upwind,
                                               .time = {.kind = boot::time_distribution::progressive}},
                       boot::label_source(digits::classes));
  boot::distiller trainer{
      dev,
      loss,
      {.steps = j.steps,
       .batch = j.batch,
       .seed = j.seed,
       .rate = {.peak = 3e-3},
       .optimizer = {.averages = {{.decay = 0.99}, {.relative_width = 0.1}}},
       .accumulation = 2,
       .folder = folder,
       .log_every = 7,  // no divisor of the checkpoints' distance: sums are open when one is written
       .progress = boot::progress_mode::off,
       .resume = !flip_a_bit}};
  boot::checkpoints keep(checkpoint_folder(folder), {.every = checkpoint_every, .keep_last = 2});
  trainer.use(keep);
  double last[4] = {};
  trainer.on_step([&](const boot::step_info& i) {
    last[0] = i.loss.total;
    last[1] = i.loss.part[0].second;
    last[2] = i.loss.part[1].second;
    last[3] = i.gradient_norm;
    const char said = '.';
    static_cast<void>(::write(STDOUT_FILENO, &said, 1) == 1);
  });
  if (flip_a_bit) {
    boot::require(trainer.resume(), "measure resume: no checkpoint to flip a bit in");
    float& value = trainer.optimizer().second_moment().data()[1000];
    value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) ^ 1u);
  }
  std::int64_t from = -1;
  if (const auto files = boot::list_checkpoints(keep.folder()); !files.empty()) from = files.front().step;
  const boot::run_result r = trainer.run();
  std::string bits;
  const auto add = [&](const void* data, std::size_t bytes) { bits.append(static_cast<const char*>(data), bytes); };
  const auto add_view = [&](boot::view<const float, cpu> v) {
    add(v.data(), static_cast<std::size_t>(v.size()) * sizeof(float));
  };
  add_view(student.parameters().values());
  add_view(trainer.optimizer().first_moment());
  add_view(trainer.optimizer().second_moment());
  for (std::size_t i = 0; i < trainer.optimizer().average_count(); ++i) add_view(trainer.optimizer().average(i));
  const std::int64_t counters[] = {r.step, trainer.step(), trainer.optimizer().updates(), r.skipped_steps};
  add(counters, sizeof counters);
  add(last, sizeof last);
  boot::atomic_write_file(folder + "/result.json",
                          json{{"resumed", r.resumed}, {"from", from}, {"loss", r.loss.total}}.dump());
  boot::atomic_write_file(folder + "/final.bin", bits);
  return r.finished ? 0 : 1;
}

/// This program once more, on `folder`.
class child {
 public:
  child(const job& j, const std::string& folder, bool flip_a_bit = false) {
    const std::vector<std::string> words{"measure_resume",
                                         "--child",
                                         folder,
                                         j.network,
                                         j.teacher,
                                         std::to_string(j.steps),
                                         std::to_string(j.batch),
                                         std::to_string(j.seed),
                                         std::to_string(j.threads),
                                         flip_a_bit ? "1" : "0"};
    std::vector<char*> arguments;
    for (const std::string& w : words) arguments.push_back(const_cast<char*>(w.c_str()));
    arguments.push_back(nullptr);
    int ends[2];
    boot::require(::pipe(ends) == 0, "measure resume: no pipe could be made; close some programs");
    process_ = ::fork();
    boot::require(process_ >= 0, "measure resume: no process could be started; close some programs");
    if (process_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(ends[0]);
      ::close(ends[1]);
      ::execv("/proc/self/exe", arguments.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    pipe_ = ends[0];
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child() {
    ::close(pipe_);
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      int status = 0;
      ::waitpid(process_, &status, 0);
    }
  }
  /// Waits until `count` steps were said in all; how many were.
  std::int64_t steps(std::int64_t count) {
    char said[64];
    while (said_ < count) {
      const auto room = std::min<std::int64_t>(64, count - said_);
      const ssize_t n = ::read(pipe_, said, static_cast<std::size_t>(room));
      if (n <= 0) break;
      said_ += n;
    }
    return said_;
  }
  /// SIGKILL, and the steps it had said; whether the signal is what ended it.
  bool kill() {
    ::kill(process_, SIGKILL);
    const int status = wait();
    steps(1 << 30);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }
  /// To its end; throws unless it ended well.
  void finish() {
    steps(1 << 30);
    const int status = wait();
    boot::require(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                  "measure resume: a run ended with status {}; its message is above", status);
  }
  [[nodiscard]] std::int64_t said() const { return said_; }

 private:
  int wait() {
    int status = 0;
    while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) continue;
    process_ = -1;
    return status;
  }
  pid_t process_ = -1;
  int pipe_ = -1;
  std::int64_t said_ = 0;
};

std::string bytes_of(const std::string& path) {
  const auto content = boot::measure::content_of(path);
  boot::require(content.has_value(), "measure resume: '{}' cannot be read; the run did not leave it", path);
  return *content;
}

/// What a finished run left, to be compared.
struct remains {
  std::string memory, log, checkpoint;
  explicit remains(const std::string& folder, std::int64_t steps)
      : memory(bytes_of(folder + "/final.bin")),
        log(bytes_of(folder + "/log.jsonl")),
        checkpoint(bytes_of(boot::checkpoints(checkpoint_folder(folder)).path_of(steps))) {}
  bool operator==(const remains&) const = default;
};

std::int64_t count_temporaries(const fs::path& folder) {
  std::int64_t n = 0;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    n += e.path().filename().string().find(".boot-tmp-") != std::string::npos ? 1 : 0;
  return n;
}

std::string fresh_folder(const fs::path& path) {
  fs::remove_all(path);
  fs::create_directories(path);
  return path.string();
}

/// One run, killed once and resumed.
json killed_and_resumed(const job& j, const std::string& folder, std::uint64_t number, const remains& unbroken,
                        double seconds_per_step) {
  std::mt19937_64 random(j.seed * 1000003 + number);
  for (int attempt = 1;; ++attempt) {
    boot::require(attempt <= 10, "measure resume: 10 kills in a row came too late; is the machine very busy?");
    const auto draw = [&](std::int64_t low, std::int64_t high) {  // both included
      return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
    };
    const std::int64_t at =
        number % 5 == 4 ? checkpoint_every * draw(1, (j.steps - 1) / checkpoint_every) : draw(0, j.steps - 1);
    const double later = 2 * static_cast<double>(random() >> 11) * 0x1p-53 * seconds_per_step;
    fresh_folder(folder);
    child first(j, folder);
    first.steps(at);
    std::this_thread::sleep_for(std::chrono::duration<double>(later));
    const bool killed = first.kill();
    if (!killed || first.said() >= j.steps || fs::exists(folder + "/final.bin")) continue;
    const std::int64_t half_written = count_temporaries(folder);
    const auto files = boot::list_checkpoints(checkpoint_folder(folder));
    child second(j, folder);
    second.finish();
    const json result = json::parse(bytes_of(folder + "/result.json"));
    const std::int64_t from = files.empty() ? 0 : files.front().step;
    boot::require(result["resumed"].get<bool>() == !files.empty() && second.said() == j.steps - from,
                  "measure resume: run {} was killed with a checkpoint of step {}, but the second program did {} steps",
                  number, from, second.said());
    const remains now(folder, j.steps);
    json value{{"equal", now == unbroken},
               {"memory", now.memory == unbroken.memory},
               {"log", now.log == unbroken.log},
               {"checkpoint", now.checkpoint == unbroken.checkpoint},
               {"killed_after_step", first.said()},
               {"resumed_from", from},
               {"half_written_files", half_written},
               {"temporaries_left", count_temporaries(folder)},
               {"attempts", attempt}};
    if (now == unbroken) fs::remove_all(folder);
    return value;
  }
}

/// How many of `runs` equal an unbroken one; worst of the seeds.
std::uint64_t runs_equal(boot::measure::measure_report& report, job j, std::uint64_t runs) {
  const fs::path base = report.cache_folder() / fmt::format("runs-{}-{}", j.network, ::getpid());
  struct remover {
    const fs::path& folder;
    bool keep = false;
    ~remover() {
      std::error_code ignored;
      if (!keep) fs::remove_all(folder, ignored);
    }
  } cleaner{base};
  std::uint64_t worst = runs;
  for (const std::uint64_t seed : report.seeds()) {
    j.seed = seed;
    const std::string what = fmt::format("{} seed {}", j.network, seed);
    const std::string whole = (base / fmt::format("unbroken-{}", seed)).string();
    double seconds_per_step = 0;
    std::optional<remains> unbroken;
    const auto reference = [&]() -> const remains& {
      if (unbroken) return *unbroken;
      fresh_folder(whole);
      child run(j, whole);
      run.steps(5);
      const auto begin = std::chrono::steady_clock::now();
      run.steps(checkpoint_every - 1);
      seconds_per_step = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() /
                         static_cast<double>(checkpoint_every - 6);
      run.finish();
      unbroken.emplace(whole, j.steps);
      report.progress("{}: unbroken run done, {:.1f} ms a step, {} bytes to compare", what, seconds_per_step * 1000,
                      unbroken->memory.size() + unbroken->log.size() + unbroken->checkpoint.size());
      return *unbroken;
    };
    const bool sees = report.cached("one flipped bit, " + what, [&] {
      const remains& r = reference();
      const std::string folder = fresh_folder(base / "flipped");
      const std::int64_t last = (j.steps - 1) / checkpoint_every * checkpoint_every;
      fs::create_directories(checkpoint_folder(folder));
      fs::copy(whole + "/log.jsonl", folder + "/log.jsonl");
      const auto name = fs::path(boot::checkpoints(checkpoint_folder(whole)).path_of(last));
      fs::copy(name, fs::path(checkpoint_folder(folder)) / name.filename());
      child run(j, folder, true);
      run.finish();
      return remains(folder, j.steps).memory != r.memory;
    });
    boot::require(sees, "measure resume: a flipped bit in the restored state changed nothing; the comparison is blind");
    std::uint64_t equal = 0, kills_while_writing = 0, before_first = 0;
    json kills = json::array();
    for (std::uint64_t k = 0; k < runs; ++k) {
      const json r = report.cached(fmt::format("run {} {}", k, what), [&] {
        const remains& whole_run = reference();
        return killed_and_resumed(j, (base / fmt::format("run-{}", k)).string(), k, whole_run, seconds_per_step);
      });
      equal += r["equal"].get<bool>() ? 1 : 0;
      if (!r["equal"].get<bool>()) cleaner.keep = true;
      kills_while_writing += r["half_written_files"].get<int>() > 0 ? 1 : 0;
      before_first += r["resumed_from"].get<int>() == 0 ? 1 : 0;
      kills.push_back({r["killed_after_step"], r["resumed_from"]});
      report.progress("{}, run {}: killed after step {}{}, resumed from {}: {}", what, k,
                      r["killed_after_step"].get<int>(),
                      r["half_written_files"].get<int>() > 0 ? " while a checkpoint was written" : "",
                      r["resumed_from"].get<int>(), r["equal"].get<bool>() ? "equal" : "DIFFERENT " + r.dump());
    }
    report.beside(what + ": killed after step, resumed from", kills);
    report.beside(what + ": kills while a checkpoint was written", kills_while_writing);
    report.beside(what + ": kills before the first checkpoint", before_first);
    worst = std::min(worst, equal);
  }
  return worst;
}

int measure(int argc, char** argv) {
  boot::measure::measure_report report(
      "resume",
      {{"bit_equal", "== 20", "runs killed at a random moment and resumed that equal an unbroken one: MLP"},
       {"unet_bit_equal", "== 20", "the same: U-Net, bf16 activations"}},
      {0});
  if (const auto status = report.parse(argc, argv)) return *status;
  const std::uint64_t runs = report.quick() ? 3 : 20;
  const std::string data = (report.root() / "examples/data").string() + "/";
  const job mlp{"mlp",
                data + digits::choice<boot::mlp>::teacher_file,
                report.quick() ? 60 : 300,
                65,
                0,
                report.options().threads};
  const job unet{"unet",
                 data + digits::choice<boot::unet2d>::teacher_file,
                 report.quick() ? 60 : 150,
                 25,
                 0,
                 report.options().threads};
  for (const job& j : {mlp, unet}) {
    report.setting(j.network + " steps", j.steps);
    report.setting(j.network + " batch", j.batch);
  }
  report.setting("runs", runs);
  report.setting("accumulation", 2);
  report.setting("checkpoint_every", checkpoint_every);
  for (const auto& [key, j] : {std::pair{"bit_equal", mlp}, std::pair{"unet_bit_equal", unet}})
    if (report.wants(key))
      report.row(key, static_cast<double>(runs_equal(report, j, runs)), fmt::format("of {}", runs));
  report.config("note", "small odd batches, to keep 20 runs short; parts that differ by one sample");
  return report.finish();
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 10 && std::string_view(argv[1]) == "--child") {
    const job j{argv[3], argv[4], std::stoll(argv[5]), std::stoll(argv[6]), std::stoull(argv[7]), std::stoi(argv[8])};
    const bool flip_a_bit = std::string_view(argv[9]) == "1";
    return j.network == "mlp" ? train<boot::mlp, float>(j, argv[2], flip_a_bit)
                              : train<boot::unet2d, boot::bf16>(j, argv[2], flip_a_bit);
  }
  return measure(argc, argv);
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
