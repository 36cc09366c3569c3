// SPDX-License-Identifier: MIT
/// What every measure shares: the command line, rows against their bars, the table, the JSON line, resumable results.
#pragma once

#include <boot/bench/report.hpp>
#include <boot/core/error.hpp>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iostream>  // CLI11 prints its help there
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::measure {

/// Ordered, so that results read in the order of the rows.
using json = nlohmann::ordered_json;

/// A bound such as "<= 0.75", ">= 0.7", "== 5", "< 1" or "> 2".
class bar {
 public:
  /// Reads the text; throws boot::error when it is not a comparison and a number.
  explicit bar(std::string text) : text_(std::move(text)) {
    const std::size_t end = text_.find_first_not_of("<>=");
    require(end != std::string::npos, "measure: bar '{}' has no number; write it as \"<= 0.75\"", text_);
    sign_ = text_.substr(0, end);
    require(sign_ == "<=" || sign_ == ">=" || sign_ == "==" || sign_ == "<" || sign_ == ">",
            "measure: bar '{}' does not begin with <=, >=, ==, < or >; write it as \"<= 0.75\"", text_);
    char* rest = nullptr;
    const std::string number = text_.substr(end);
    bound_ = std::strtod(number.c_str(), &rest);
    require(rest != number.c_str() && *rest == '\0' && std::isfinite(bound_),
            "measure: bar '{}' has no finite number after '{}'; write it as \"<= 0.75\"", text_, sign_);
  }
  /// Whether `value` keeps the bar; one that is not finite never does.
  [[nodiscard]] bool holds(double value) const {
    if (!std::isfinite(value)) return false;
    if (sign_ == "<=") return value <= bound_;
    if (sign_ == ">=") return value >= bound_;
    if (sign_ == "<") return value < bound_;
    if (sign_ == ">") return value > bound_;
    return value == bound_;
  }
  /// As it was written.
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_, sign_;
  double bound_ = 0;
};

/// A row that a measure can run.
struct row_spec {
  std::string key;          ///< its key in the JSON object
  std::string bar;          ///< see class bar
  std::string what;         ///< one line for people
  bool on_request = false;  ///< only run when --row names it or the program calls only()
};

/// What the command line said; a program's own options are added to measure_report::app().
struct common_options {
  std::vector<std::string> rows;     ///< --row, empty: all
  std::vector<std::uint64_t> seeds;  ///< --seed, else the program's defaults
  int threads = 0;                   ///< --threads, 0: all
  bool quick = false;                ///< --quick: smaller, for a look; its figures are not the measure's
  bool fresh = false;                ///< --fresh: ignore what an earlier run finished
  bool commit_results = false;       ///< --commit-results: write benchmarks/results/NAME.json
  std::string out;                   ///< --out FILE
};

/// What a shell command prints, without the last line end; nothing when it fails.
inline std::optional<std::string> output_of(const std::string& command) {
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return std::nullopt;
  std::string out;
  char buffer[4096];
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  if (::pclose(pipe) != 0) return std::nullopt;
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

/// A text as one word of a shell command.
inline std::string shell_word(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// The nearest folder at or above the current one that holds include/boot; the current one when there is none.
inline std::filesystem::path source_root() {
  const std::filesystem::path here = std::filesystem::current_path();
  for (std::filesystem::path p = here;; p = p.parent_path()) {
    if (std::filesystem::exists(p / "include" / "boot" / "config.hpp")) return p;
    if (p == p.parent_path()) return here;
  }
}

/// The commit of the sources and whether files differ from it (benchmarks/results aside), "unknown" without git.
inline json source_state(const std::filesystem::path& root) {
  const std::string git = "git -C " + shell_word(root.string()) + " ";
  const auto commit = output_of(git + "rev-parse --verify --quiet HEAD 2>/dev/null");
  const auto changes = output_of(git + "status --porcelain -- . ':(exclude)benchmarks/results' 2>/dev/null");
  return {{"commit", commit.value_or("unknown")}, {"dirty", changes ? json(!changes->empty()) : json("unknown")}};
}

/// FNV-1a, 64 bit, continued from `hash`.
inline std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t hash = 14695981039346656037ULL) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

/// The content of a file, nothing when it cannot be read.
inline std::optional<std::string> content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream out;
  out << file.rdbuf();
  return std::move(out).str();
}

/// One measure: declare the rows, parse(), fill the rows that are wanted, return finish().
///
///     boot::measure::measure_report report("mixture", {{"gauss_vs_ddim16", "<= .9", "student / DDIM-16"}}, {1, 2, 3});
///     report.app().add_option("--modes", modes, "number of components");
///     if (const auto status = report.parse(argc, argv)) return *status;
///     report.setting("modes", modes);
///     if (report.wants("gauss_vs_ddim16")) {
///       double worst = 0;
///       for (auto seed : report.seeds())
///         worst = std::max(worst, report.cached(fmt::format("gauss seed={}", seed), [&] { return train(seed); }));
///       report.row("gauss_vs_ddim16", worst);
///     }
///     return report.finish();
class measure_report {
 public:
  /// A measure called `name` with its rows in the order of the table and the seeds used when --seed is not given.
  measure_report(std::string name, std::vector<row_spec> rows, std::vector<std::uint64_t> default_seeds = {})
      : name_(std::move(name)), app_("measure " + name_), root_(source_root()) {
    options_.seeds = std::move(default_seeds);
    for (row_spec& spec : rows) {
      require(find(spec.key) == nullptr, "measure: row '{}' is declared twice; give each row its own key", spec.key);
      bar limit(spec.bar);
      rows_.push_back({std::move(spec), std::move(limit), false, false, 0, {}});
    }
    std::string known = "run only this row, may be repeated:";
    for (const entry& r : rows_) known += "\n  " + r.spec.key + " (" + r.limit.text() + ") " + r.spec.what;
    app_.add_option("--row", options_.rows, known)->allow_extra_args(false)->delimiter(',');
    app_.add_option("--seed", seeds_given_, "seeds: repeat it, or separate them by commas")
        ->allow_extra_args(false)
        ->delimiter(',');
    app_.add_option("--threads", options_.threads, "threads, 0: all")->check(CLI::NonNegativeNumber);
    app_.add_flag("--quick", options_.quick, "a smaller run for a look; its figures are not the measure's");
    app_.add_flag("--fresh", options_.fresh, "ignore the partial results of an earlier run");
    app_.add_option("--out", options_.out, "also write the JSON object to this file");
    app_.add_flag("--commit-results", options_.commit_results,
                  "write the JSON object to benchmarks/results/" + name_ + ".json; needs every row, without --quick");
  }

  /// The command line, for options of the measure's own. Add them before parse().
  [[nodiscard]] CLI::App& app() { return app_; }

  /// Reads the command line. Returns an exit status when the program should end at once: 0 after --help, 2 for a wrong
  /// command line (the reason is on stderr).
  [[nodiscard]] std::optional<int> parse(int argc, const char* const* argv) {
    for (int i = 0; i < argc; ++i) command_line_ += (i == 0 ? "" : " ") + std::string(argv[i]);
    try {
      app_.parse(argc, argv);
      if (!seeds_given_.empty()) options_.seeds = seeds_given_;
      for (const std::string& key : options_.rows)
        require(find(key) != nullptr, "measure {}: there is no row '{}'; the rows are: {}", name_, key, row_keys());
      for (entry& r : rows_)
        r.wanted = options_.rows.empty()
                       ? !r.spec.on_request
                       : std::find(options_.rows.begin(), options_.rows.end(), r.spec.key) != options_.rows.end();
      if (options_.commit_results) {
        require(!options_.quick && options_.rows.empty() && seeds_given_.empty(),
                "measure {}: --commit-results with --quick, --row or --seed would replace the full figures by others; "
                "leave those out, or use --out FILE",
                name_);
      }
      for (const std::string& path : targets()) check_target(path);
      source_ = source_state(root_);
    } catch (const CLI::ParseError& reason) {
      return app_.exit(reason, std::cout, std::cerr) == 0 ? 0 : 2;
    } catch (const std::exception& reason) {
      fmt::print(stderr, "{}\n", reason.what());
      return 2;
    }
    return std::nullopt;
  }

  /// What the common options say.
  [[nodiscard]] const common_options& options() const { return options_; }
  /// The seeds to run.
  [[nodiscard]] const std::vector<std::uint64_t>& seeds() const { return options_.seeds; }
  /// Whether --seed was given: the figures are then of other seeds than the committed ones.
  [[nodiscard]] bool seeds_were_given() const { return !seeds_given_.empty(); }
  /// Whether --quick was given.
  [[nodiscard]] bool quick() const { return options_.quick; }
  /// The device that --threads asks for.
  [[nodiscard]] cpu device() const { return {.threads = options_.threads}; }
  /// The folder of the sources.
  [[nodiscard]] const std::filesystem::path& root() const { return root_; }

  /// A folder for larger things that later runs may use again (a teacher's samples, named by its hash); made if absent.
  [[nodiscard]] std::filesystem::path cache_folder() const {
    const std::filesystem::path folder = root_ / "build" / "measure_cache" / name_;
    std::filesystem::create_directories(folder);
    return folder;
  }

  /// Whether this row is to be run.
  [[nodiscard]] bool wants(std::string_view key) const { return known(key).wanted; }
  /// Whether any of these rows is to be run.
  [[nodiscard]] bool wants_any(std::initializer_list<std::string_view> keys) const {
    return std::any_of(keys.begin(), keys.end(), [&](std::string_view key) { return wants(key); });
  }
  /// Restricts the run to these rows, for options of the measure's own that touch no others. When --row was given too,
  /// only rows of both are run; throws boot::error when none is left.
  void only(std::initializer_list<std::string_view> keys) {
    require(!options_.commit_results,
            "measure {}: --commit-results with an option that restricts the rows would drop the others; use --out FILE",
            name_);
    for (const std::string_view key : keys) static_cast<void>(known(key));
    bool any = false;
    for (entry& r : rows_) {
      const bool named = std::find(keys.begin(), keys.end(), r.spec.key) != keys.end();
      r.wanted = named && (options_.rows.empty() || r.wanted);
      any = any || r.wanted;
    }
    require(any, "measure {}: --row and the other options leave no row to run; change one of them", name_);
  }

  /// Something the figures depend on: goes into "config" and into the hash of the cache. Before the first cached().
  void setting(std::string key, json value) {
    require(cache_path_.empty(), "measure {}: setting '{}' after cached(); call setting() first, or config()", name_,
            key);
    settings_[std::move(key)] = std::move(value);
  }
  /// Something worth knowing that the figures do not depend on: goes into "config" only.
  void config(std::string key, json value) { config_[std::move(key)] = std::move(value); }

  /// The value of a row, and a remark for its line of the table; left out when the row is not wanted. Throws
  /// boot::error for a row that was not declared.
  void row(std::string_view key, double value, std::string remark = {}) {
    entry& r = known(key);
    if (!r.wanted) return progress("{} = {}, not asked for", key, value);
    r.measured = true;
    r.value = value;
    r.remark = std::move(remark);
    progress("{} = {} ({}){}", key, value, r.limit.text(), r.limit.holds(value) ? "" : ": does NOT hold");
  }
  /// A figure without a bar: printed below the table and kept in config.beside.
  void beside(std::string key, json value) { beside_[std::move(key)] = std::move(value); }

  /// A line on stderr, with the seconds since the start.
  template <class... Args>
  void progress(fmt::format_string<Args...> text, Args&&... args) const {
    fmt::print(stderr, "[{} {:6.1f} s] {}\n", name_, seconds_since_start(),
               fmt::format(text, std::forward<Args>(args)...));
  }

  /// fn(), or what it gave in an earlier run that was killed or ended: any value that JSON can hold. `key` must name
  /// all that the value depends on beside this binary, --threads, --quick and setting(): the seed, the problem, the
  /// hash of a file that is read. A rebuilt binary whose bytes differ starts afresh; so does --fresh. Stored at once,
  /// atomically, in build/measure_cache/NAME. A value that is not finite is not stored.
  template <class F>
  auto cached(const std::string& key, F&& fn) -> std::decay_t<decltype(fn())> {
    using value_type = std::decay_t<decltype(fn())>;
    open_cache();
    if (const auto found = cache_.find(key); found != cache_.end()) {
      progress("{}: from an earlier run", key);
      return found->template get<value_type>();
    }
    value_type value = fn();
    json stored = value;
    if (!finite(stored)) return value;
    store(key, std::move(stored));
    return value;
  }

  /// The JSON object of the rows run so far.
  [[nodiscard]] json result() const {
    json rows = json::object();
    for (const entry& r : rows_) {
      if (!r.wanted) continue;
      const bool number = r.measured && std::isfinite(r.value);
      rows[r.spec.key] = {
          {"value", number ? json(r.value) : json(nullptr)}, {"bar", r.limit.text()}, {"holds", holds(r)}};
    }
    const bench::machine_info m = bench::this_machine(device());
    json config = {{"machine", {{"processor", m.processor}, {"cores", m.cores}}},
                   {"threads", m.threads},
                   {"compiler", m.compiler},
                   {"optimized", m.optimized},
                   {"boot", m.library},
                   {"source", source_},
                   {"seeds", options_.seeds},
                   {"quick", options_.quick},
                   {"date", utc_now()},
                   {"seconds", std::round(seconds_since_start() * 10) / 10},
                   {"command", command_line_}};
    config.update(settings_);
    config.update(config_);
    if (!beside_.empty()) config["beside"] = beside_;
    return {{"measure", name_}, {"rows", rows}, {"config", config}};
  }

  /// Prints the table and, as the last line, the JSON object; writes the files asked for. Returns the exit status: 0
  /// only if every row of this run was measured and its bar holds, and every file was written.
  [[nodiscard]] int finish() const {
    const json object = result();
    int status = std::any_of(rows_.begin(), rows_.end(), [](const entry& r) { return r.wanted; }) ? 0 : 1;
    std::size_t width = 4;
    for (const entry& r : rows_) width = (std::max)(width, r.wanted ? r.spec.key.size() : 0);
    fmt::print("measure {}{}\n", name_, options_.quick ? " (--quick: not the measure's figures)" : "");
    for (const entry& r : rows_) {
      if (!r.wanted) continue;
      if (!holds(r)) status = 1;
      fmt::print("  {:<{}}  {:>12}  {:<10}  {:<5}  {}{}{}\n", r.spec.key, width,
                 r.measured ? fmt::format("{:.6g}", r.value) : "not run", r.limit.text(), holds(r) ? "holds" : "FAILS",
                 r.spec.what, r.remark.empty() ? "" : "; ", r.remark);
    }
    for (const auto& [key, value] : beside_.items())
      fmt::print("  beside: {} {}\n", key, value.is_string() ? value.get<std::string>() : text_of(value));
    for (const std::string& path : targets()) {
      try {
        bench::write_file(path, text_of(object, 1) + '\n');
        fmt::print("  written: {}\n", path);
      } catch (const std::exception& reason) {
        fmt::print(stderr, "{}\n", reason.what());
        status = 1;
      }
    }
    fmt::print("{}\n", text_of(object));
    return std::fflush(stdout) == 0 ? status : 1;
  }

 private:
  struct entry {
    row_spec spec;
    bar limit;
    bool wanted, measured;
    double value;
    std::string remark;
  };

  static bool holds(const entry& r) { return r.measured && r.limit.holds(r.value); }
  /// JSON text that never throws: bytes that are not UTF-8 (a path on the command line) are replaced.
  static std::string text_of(const json& value, int indent = -1) {
    return value.dump(indent, ' ', false, json::error_handler_t::replace);
  }
  static bool finite(const json& value) {
    if (value.is_number_float()) return std::isfinite(value.get<double>());
    if (!value.is_structured()) return true;
    return std::all_of(value.begin(), value.end(), [](const json& part) { return finite(part); });
  }
  static std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    char text[32];
    return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
  }

  entry* find(std::string_view key) {
    for (entry& r : rows_)
      if (r.spec.key == key) return &r;
    return nullptr;
  }
  entry& known(std::string_view key) {
    entry* const r = find(key);
    require(r != nullptr, "measure {}: there is no row '{}'; the rows are: {}", name_, key, row_keys());
    return *r;
  }
  const entry& known(std::string_view key) const { return const_cast<measure_report*>(this)->known(key); }
  [[nodiscard]] std::string row_keys() const {
    std::string out;
    for (const entry& r : rows_) out += (out.empty() ? "" : ", ") + r.spec.key;
    return out;
  }
  [[nodiscard]] double seconds_since_start() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  [[nodiscard]] std::vector<std::string> targets() const {
    std::vector<std::string> out;
    if (!options_.out.empty()) out.push_back(options_.out);
    if (options_.commit_results) out.push_back((root_ / "benchmarks" / "results" / (name_ + ".json")).string());
    return out;
  }
  /// Hours of work must not end at a folder that is not there.
  static void check_target(const std::string& path) {
    const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
    std::error_code code;
    std::filesystem::create_directories(folder, code);
    require(std::filesystem::is_directory(folder) && ::access(folder.c_str(), W_OK) == 0 &&
                !std::filesystem::is_directory(path),
            "measure: the result cannot be written to '{}'; give a file in a folder that can be written", path);
  }
  /// What is on disk: nothing when there is no file or it was cut short.
  [[nodiscard]] json stored_results() const {
    const auto text = content_of(cache_path_);
    json stored = text ? json::parse(*text, nullptr, false) : json();
    return stored.is_object() ? stored : json::object();
  }
  /// Adds one result to the file. Another process may run other rows of this measure: the lock keeps both results.
  void store(const std::string& key, json value) {
    cache_[key] = value;
    const int lock = ::open((cache_path_.string() + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (lock >= 0) ::flock(lock, LOCK_EX);
    const auto release = [](const int* descriptor) {
      if (*descriptor >= 0) ::close(*descriptor);  // and the lock with it
    };
    const std::unique_ptr<const int, decltype(release)> releaser(&lock, release);
    json all = stored_results();
    all[key] = std::move(value);
    bench::write_file(cache_path_.string(), all.dump(1) + '\n');
  }
  void open_cache() {
    if (!cache_path_.empty()) return;
    const auto binary = content_of("/proc/self/exe");
    std::uint64_t hash = hash_bytes(binary.value_or(source_.dump()));
    hash = hash_bytes(fmt::format("|{}|{}|{}", options_.quick, device().thread_count(), text_of(settings_)), hash);
    cache_path_ = cache_folder() / fmt::format("{:016x}.json", hash);
    if (options_.fresh)
      std::filesystem::remove(cache_path_);
    else
      cache_ = stored_results();
  }

  std::string name_, command_line_;
  CLI::App app_;
  std::filesystem::path root_, cache_path_;
  common_options options_;
  std::vector<std::uint64_t> seeds_given_;
  std::vector<entry> rows_;
  json source_, settings_ = json::object(), config_ = json::object(), beside_ = json::object(), cache_ = json::object();
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace boot::measure
