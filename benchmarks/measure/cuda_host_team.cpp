// SPDX-License-Identifier: MIT
// The kernel bodies of boot::cuda on host threads against boot::cpu: the unit tests tagged [team], in the optimised build
// and once more under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer.
//
// A case is one comparison of a whole result of kernels with its reference: for a shape, a type and an alignment. Checks
// of single numbers and of guards around arrays are not counted, but one that fails counts as failed.
#include "measure/measure.hpp"

#include <array>
#include <regex>

namespace {

namespace fs = std::filesystem;
using boot::measure::output_of;
using boot::measure::shell_word;

constexpr std::array folders{"kernel", "nn", "model", "objective", "sampler", "testing", "train"};

struct counts {
  std::int64_t cases = 0, failed = 0, checks = 0;
};

/// Runs the tests of one program; every expression that was checked is in its report.
counts run_tests(const fs::path& program, const fs::path& file) {
  fs::remove(file);
  const std::string command = shell_word(program.string()) + " '[team]' -r xml -s > " + shell_word(file.string());
  const int status = std::system(command.c_str());
  const auto text = boot::measure::content_of(file);
  boot::require(text.has_value() && text->find("</Catch") != std::string::npos,
                "measure cuda_host_team: '{}' ended early with status {}", command, status);
  static const std::regex whole(R"(worst &lt;= tolerance|\.error\(\) &lt;=|wrong == 0|same_bits\()");
  counts out;
  std::istringstream lines(*text);
  bool original = false, passed = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("<Expression ") != std::string::npos) {
      passed = line.find("success=\"true\"") != std::string::npos;
      ++out.checks;
      out.failed += !passed;
    } else if (line.find("<Original>") != std::string::npos) {
      original = true;
      continue;
    } else if (original) {
      out.cases += passed && std::regex_search(line, whole);
    }
    original = false;
  }
  if (status != 0 && out.failed == 0) ++out.failed;  // an exception, or a sanitizer at the end
  fs::remove(file);
  return out;
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "cuda_host_team", {{"cases", ">= 200", "results of kernel bodies on host threads equal to boot::cpu's"},
                         {"failed", "== 0", "checks that failed, in the optimised build or under a sanitizer"}});
  if (const auto status = report.parse(argc, argv)) return *status;
  const fs::path root = report.root(), log = root / "build" / "cuda_host_team.log";
  const std::string in_root = "cd " + shell_word(root.string()) + " && ";
  fs::remove(log);
  std::int64_t cases = 0, failed = 0;
  std::vector<std::string> presets{"cpu", "asan", "tsan"};
  if (report.quick()) presets.resize(1);
  for (const std::string& preset : presets) {
    std::string targets;
    for (const char* const folder : folders) {
      // A sanitizer looks at the kernels; the networks above them would take an hour under it.
      if (preset != "cpu" && std::string_view(folder) != "kernel" && std::string_view(folder) != "nn") continue;
      targets += fmt::format(" boot_test_{}", folder);
    }
    report.progress("building{} in build/{}", targets, preset);
    const std::string build = in_root + "{ [ -f build/" + preset + "/build.ninja ] || cmake --preset " + preset +
                              "; cmake --build build/" + preset + " -j 2 --target" + targets + "; } >> " +
                              shell_word(log.string()) + " 2>&1";
    boot::require(std::system(build.c_str()) == 0, "measure cuda_host_team: the tests do not build; see {}",
                  log.string());
    std::istringstream programs(targets);
    for (std::string program; programs >> program;) {
      const counts c = run_tests(root / "build" / preset / "tests" / program, root / "build" / "cuda_host_team.xml");
      if (preset == "cpu") cases += c.cases;
      failed += c.failed;
      report.progress("{} {}: {} cases, {} checks, {} failed", preset, program, c.cases, c.checks, c.failed);
    }
  }
  report.row("cases", static_cast<double>(cases));
  report.row("failed", static_cast<double>(failed), report.quick() ? "without sanitizers" : "");
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
