// SPDX-License-Identifier: MIT
/// What including the library costs: CPU seconds of compiling README's program, and headers beyond their budgets.
#include "measure.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstring>
#include <regex>
#include <set>

namespace {

using boot::measure::content_of;
namespace fs = std::filesystem;

constexpr std::size_t longest_header = 800, longest_median = 200, most_schedule_includes = 5;

/// The first C++ block of a Markdown text that holds a main function; throws boot::error when there is none.
std::string program_of(const std::string& markdown) {
  std::istringstream text(markdown);
  std::string line, block;
  bool inside = false;
  while (std::getline(text, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!inside && line == "```cpp") {
      inside = true;
      block.clear();
    } else if (inside && line.starts_with("```")) {
      inside = false;
      if (block.find("int main") != std::string::npos) return block;
    } else if (inside) {
      block += line + '\n';
    }
  }
  boot::fail("measure compile: the README has no ```cpp block with an `int main`; add one, or name a file by --readme");
}

/// User and system CPU seconds of a command and of all that it started; throws boot::error when it fails.
double cpu_seconds(std::vector<std::string> command, const fs::path& folder) {
  std::vector<char*> arguments;
  std::string shown;
  for (std::string& part : command) {
    arguments.push_back(part.data());
    shown += (shown.empty() ? "" : " ") + part;
  }
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  boot::require(child >= 0, "measure compile: cannot start '{}': {}", shown, std::strerror(errno));
  if (child == 0) {
    if (::chdir(folder.c_str()) == 0) {
      ::dup2(STDERR_FILENO, STDOUT_FILENO);  // standard output is the measure's own
      ::execvp(arguments[0], arguments.data());
    }
    ::_exit(127);
  }
  int status = 0;
  rusage used{};
  while (::wait4(child, &status, 0, &used) < 0 && errno == EINTR) continue;
  boot::require(
      WIFEXITED(status) && WEXITSTATUS(status) == 0,
      "measure compile: '{}' failed with status {}; its messages are above: mend the program, or give what it "
      "needs by --flags",
      shown, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// What <boot/...> and "..." lines of `header` reach, itself left out; conditions of the preprocessor are not read, so
/// that an include which only some builds take counts as well.
void collect(const fs::path& include, const fs::path& header, std::set<std::string>& reached) {
  static const std::regex line(R"(^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"])", std::regex::multiline);
  const std::string text = content_of(include / header).value_or("");
  for (std::sregex_iterator match(text.begin(), text.end(), line), end; match != end; ++match) {
    fs::path next((*match)[1].str());
    if (!fs::exists(include / next)) next = header.parent_path() / next;
    if (!fs::exists(include / next)) continue;
    if (reached.insert(next.lexically_normal().string()).second) collect(include, next, reached);
  }
}

struct budget_result {
  int over = 0;
  std::size_t headers = 0, median = 0, largest = 0, schedule_includes = 0;
  std::vector<std::string> reasons;
};

budget_result check_budgets(const fs::path& include) {
  budget_result out;
  std::vector<std::pair<std::size_t, std::string>> lines;
  boot::require(fs::is_directory(include), "measure compile: no folder '{}'; run it inside the sources",
                include.string());
  for (const fs::directory_entry& file : fs::recursive_directory_iterator(include)) {
    const std::string extension = file.path().extension().string();
    if (!file.is_regular_file() || (extension != ".hpp" && extension != ".cuh" && extension != ".h")) continue;
    const std::string text = content_of(file.path()).value_or("");
    lines.emplace_back(std::count(text.begin(), text.end(), '\n'), fs::relative(file.path(), include).string());
  }
  boot::require(!lines.empty(), "measure compile: no headers under '{}'; run it inside the sources", include.string());
  std::sort(lines.begin(), lines.end());
  out.headers = lines.size();
  out.largest = lines.back().first;
  out.median = lines[lines.size() / 2].first;  // the upper one of two middles: a budget is not rounded in our favour
  for (const auto& [count, name] : lines)
    if (count > longest_header) out.reasons.push_back(fmt::format("{} has {} lines", name, count));
  if (out.median > longest_median) out.reasons.push_back(fmt::format("the median header has {} lines", out.median));
  std::set<std::string> reached;
  const fs::path schedule = fs::path("boot") / "schedule" / "noise_schedule.hpp";
  boot::require(fs::exists(include / schedule),
                "measure compile: '{}' is not there; its include budget cannot be checked",
                (include / schedule).string());
  collect(include, schedule, reached);
  reached.erase(schedule.string());
  out.schedule_includes = reached.size();
  if (reached.size() > most_schedule_includes)
    out.reasons.push_back(fmt::format("{} pulls in {} headers", schedule.string(), reached.size()));
  out.over = static_cast<int>(out.reasons.size());
  return out;
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "compile", {{"readme_cpu_seconds", "<= 25", "CPU seconds of compiling and linking README's program"},
                  {"headers_over_budget", "== 0", "headers above DESIGN.md's budgets"}});
  std::string readme, compiler = "g++", flags = "-isystem /usr/include/eigen3 -lfmt";
  report.app().add_option("--readme", readme, "the Markdown file with the program (README.md of the sources)");
  report.app().add_option("--compiler", compiler, "the compiler (g++)");
  report.app().add_option("--flags", flags, "flags after the source, separated by blanks (" + flags + ")");
  if (const auto status = report.parse(argc, argv)) return *status;
  if (readme.empty()) readme = (report.root() / "README.md").string();
  const fs::path include = report.root() / "include";

  if (report.wants("headers_over_budget")) {
    const budget_result budget = check_budgets(include);
    std::string remark = fmt::format("{} headers, median {} lines, largest {}, noise_schedule.hpp reaches {}",
                                     budget.headers, budget.median, budget.largest, budget.schedule_includes);
    for (const std::string& reason : budget.reasons) remark += "; " + reason;
    report.row("headers_over_budget", budget.over, std::move(remark));
  }
  if (report.wants("readme_cpu_seconds")) try {
      const auto markdown = content_of(readme);
      boot::require(markdown.has_value(), "measure compile: cannot read '{}'; name the file by --readme", readme);
      const std::string program = program_of(*markdown);
      std::string folder = (fs::temp_directory_path() / "boot_compile_XXXXXX").string();
      boot::require(::mkdtemp(folder.data()) != nullptr,
                    "measure compile: cannot make a folder like '{}': {}; set TMPDIR", folder, std::strerror(errno));
      std::vector<std::string> command{compiler,   "-std=c++20", "-O2", "-fopenmp", "-I" + include.string(),
                                       "main.cpp", "-o",         "main"};
      std::istringstream more(flags);
      for (std::string flag; more >> flag;) command.push_back(flag);
      std::vector<double> seconds;
      try {
        boot::bench::write_file(folder + "/main.cpp", program);
        const int runs = report.quick() ? 1 : 3;
        for (int run = 0; run < runs; ++run) {
          seconds.push_back(cpu_seconds(command, folder));
          report.progress("run {} of {}: {:.2f} CPU seconds", run + 1, runs, seconds.back());
        }
      } catch (...) {
        fs::remove_all(folder);
        throw;
      }
      fs::remove_all(folder);
      const boot::bench::summary s = boot::bench::summarize(seconds);
      std::string shown;
      for (const std::string& part : command) shown += (shown.empty() ? "" : " ") + part;
      report.config("compile_command", shown);
      report.config("compiler_measured",
                    boot::measure::output_of("'" + compiler + "' -dumpfullversion").value_or("unknown"));
      report.config("readme_program_lines", std::count(program.begin(), program.end(), '\n'));
      report.config("readme_cpu_seconds_runs", seconds);
      report.row("readme_cpu_seconds", s.median,
                 fmt::format("median of {}, {:.2f} to {:.2f}", s.count, s.smallest, s.largest));
    } catch (const boot::error& reason) {
      report.progress("{}", reason.what());  // the row counts as not run, so it fails; the other one is still told
    }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
