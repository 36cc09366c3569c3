// SPDX-License-Identifier: MIT
// What a compiler shows of boot::cuda, without a GPU: the machine code of every kernel against tests/cuda/sass_rules.json,
// whether every kernel body also runs on host threads in the unit tests, and what compiling costs.
//
// kernels_unproven counts the kernel bodies of include/ that no unit test program runs on host threads (the programs'
// symbols tell), or that have no rule, or none of whose kernels was found in the CUDA tests.
// The build is one from nothing of all CUDA tests, on two processors, without a cache, in a folder of its own; with
// --build it is left out and the kernels come from a folder built before.
#include "measure/measure.hpp"

#include <regex>
#include <set>

namespace {

namespace fs = std::filesystem;
using boot::measure::json;
using boot::measure::output_of;
using boot::measure::shell_word;

/// Runs a shell command whose output goes to a log; throws boot::error with the log's end when it fails.
void run(const std::string& command, const fs::path& log) {
  if (std::system(("{ " + command + "; } >> " + shell_word(log.string()) + " 2>&1").c_str()) == 0) return;
  boot::fail("measure cuda_static: '{}' failed; the end of {}:\n{}", command, log.string(),
             output_of("tail -n 20 " + shell_word(log.string())).value_or(""));
}

std::vector<json> lines_of(const fs::path& file) {
  std::vector<json> out;
  std::istringstream text(boot::measure::content_of(file).value_or(""));
  for (std::string line; std::getline(text, line);) out.push_back(json::parse(line));
  return out;
}

double largest(const std::vector<json>& costs, const char* key, std::string& name) {
  double most = 0;
  for (const json& cost : costs)
    if (cost.at(key).get<double>() > most) {
      most = cost.at(key).get<double>();
      name = cost.at("output").get<std::string>();
    }
  return most;
}

/// Names of the kernel bodies under include/.
std::set<std::string> bodies_of(const fs::path& include) {
  static const std::regex body(R"(struct (\w+(?:_body|_kernel)) )");
  std::set<std::string> out;
  for (const fs::directory_entry& file : fs::recursive_directory_iterator(include)) {
    if (!file.is_regular_file()) continue;
    const std::string text = boot::measure::content_of(file.path()).value_or("");
    for (std::sregex_iterator match(text.begin(), text.end(), body), end; match != end; ++match)
      out.insert((*match)[1].str());
  }
  boot::require(!out.empty(), "measure cuda_static: no kernel bodies under '{}'", include.string());
  return out;
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "cuda_static",
      {{"kernels_unproven", "== 0",
        "kernel bodies without a test on host threads or a kept rule for their machine code"},
       {"spills_fp64_slowdiv", "== 0", "release kernels with local memory, float64, slow divisions or a broken rule"},
       {"build_minutes", "<= 15", "all CUDA tests from nothing, two processors, no cache"},
       {"worst_tu_seconds", "<= 120", "the slowest translation unit of it"},
       {"worst_tu_gb", "<= 3", "the largest compiler process of it, 2^30 bytes"},
       {"include_seconds", "<= 12", "CPU seconds of nvcc -O2 on boot_cuda.cuh and an empty main"}});
  std::string given;
  report.app().add_option("--build", given, "a CUDA configuration whose tests are built; nothing is timed then");
  if (const auto status = report.parse(argc, argv)) return *status;
  const fs::path root = report.root(), scratch = root / "build" / "cuda_static";
  const fs::path build = given.empty() ? scratch : fs::absolute(given);
  const fs::path log = root / "build" / "cuda_static.log", cost = root / "build" / "cuda_static_cost.jsonl";
  fs::create_directories(root / "build");
  fs::remove(log);
  const std::string in_root = "cd " + shell_word(root.string()) + " && ";

  if (given.empty()) {
    fs::remove_all(scratch);
    fs::remove(cost);
    const std::string launcher = (root / "tests" / "cuda" / "compile_cost.py").string();
    run(in_root + "cmake --preset cuda -B " + shell_word(scratch.string()) + " -DCMAKE_CXX_COMPILER_LAUNCHER=" +
            shell_word("python3;" + launcher) + " -DCMAKE_CUDA_COMPILER_LAUNCHER=" + shell_word("python3;" + launcher),
        log);
    report.progress("building the CUDA tests in {} from nothing; its log is {}", scratch.string(), log.string());
    const auto begin = std::chrono::steady_clock::now();
    run(in_root + "CCACHE_DISABLE=1 BOOT_COMPILE_COST=" + shell_word(cost.string()) + " cmake --build " +
            shell_word(scratch.string()) + " -j 2 --target boot_cuda_tests",
        log);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    const std::vector<json> costs = lines_of(cost);
    boot::require(costs.size() >= 10, "measure cuda_static: {} compilations were timed; see {}", costs.size(),
                  log.string());
    std::string slowest, fattest;
    const double seconds = largest(costs, "seconds", slowest), memory = largest(costs, "gigabytes", fattest);
    report.row("build_minutes", took.count() / 60, fmt::format("{} compilations", costs.size()));
    report.row("worst_tu_seconds", seconds, slowest);
    report.row("worst_tu_gb", memory, fattest);
  }

  const fs::path kernels = root / "build" / "cuda_static_kernels.json";
  fs::remove(kernels);
  const int sass = std::system((in_root + "python3 tests/cuda/check_sass.py --json " + shell_word(kernels.string()) +
                                " " + shell_word(build.string()) + " >> " + shell_word(log.string()) + " 2>&1")
                                   .c_str());
  const auto found = boot::measure::content_of(kernels);
  boot::require(found.has_value(), "measure cuda_static: the machine code was not read (status {}): {}", sass,
                output_of("tail -n 3 " + shell_word(log.string())).value_or(""));
  int wrong = 0, count = 0;
  std::set<std::string> kept, broken;
  std::string reasons;
  for (const json& kernel : json::parse(*found)) {
    ++count;
    const std::string body = kernel.at("body").get<std::string>();
    if (kernel.at("findings").empty()) {
      kept.insert(body);
      continue;
    }
    ++wrong;
    broken.insert(body);
    reasons += fmt::format("; {} {}", body, kernel.at("findings").at(0).get<std::string>());
  }
  boot::require(count >= 100, "measure cuda_static: only {} kernels were found in {}", count, build.string());
  report.row("spills_fp64_slowdiv", wrong, fmt::format("{} kernels{}", count, reasons));

  report.progress("building the unit tests, for the names of the bodies that they run on host threads");
  run(in_root + "cmake --build build/cpu -j 2 --target boot_unit_tests", log);
  std::set<std::string> hosted;
  for (const fs::directory_entry& program : fs::directory_iterator(root / "build" / "cpu" / "tests")) {
    const std::string name = program.path().filename().string();
    if (!program.is_regular_file() || !name.starts_with("boot_test_")) continue;
    static const std::regex body(R"(\b\w+(?:_body|_kernel)\b)");
    std::istringstream symbols(
        output_of("nm -C " + shell_word(program.path().string()) + " | grep launch_on_host || true").value_or(""));
    for (std::string line; std::getline(symbols, line);)
      for (std::sregex_iterator match(line.begin(), line.end(), body), end; match != end; ++match)
        hosted.insert((*match)[0].str());
  }
  int unproven = 0;
  std::string missing;
  const std::set<std::string> bodies = bodies_of(root / "include");
  for (const std::string& body : bodies) {
    if (hosted.contains(body) && kept.contains(body) && !broken.contains(body)) continue;
    ++unproven;
    missing += fmt::format("; {}{}{}", body, hosted.contains(body) ? "" : " no host test",
                           kept.contains(body) && !broken.contains(body) ? "" : " no kept rule");
  }
  report.row("kernels_unproven", unproven, fmt::format("{} bodies{}", bodies.size(), missing));

  if (given.empty()) {
    const fs::path folder = root / "build" / "cuda_include";
    fs::create_directories(folder);
    boot::bench::write_file((folder / "main.cu").string(), "#include <boot_cuda.cuh>\nint main() {}\n");
    std::vector<double> seconds;
    for (int i = 0; i < (report.quick() ? 1 : 3); ++i) {
      const fs::path one = folder / "cost.jsonl";
      fs::remove(one);
      run(in_root + "BOOT_COMPILE_COST=" + shell_word(one.string()) +
              " python3 tests/cuda/compile_cost.py nvcc -std=c++20 -O2 -arch=sm_90 -DFMT_USE_CONSTEXPR=1 "
              "-DEIGEN_NO_CUDA "
              "-Xcompiler=-fopenmp "
              "-Iinclude -isystem /usr/include/eigen3 -c " +
              shell_word((folder / "main.cu").string()) + " -o " + shell_word((folder / "main.o").string()),
          log);
      seconds.push_back(lines_of(one).at(0).at("cpu_seconds").get<double>());
      report.progress("including boot_cuda.cuh: {:.2f} CPU seconds", seconds.back());
    }
    const boot::bench::summary s = boot::bench::summarize(seconds);
    report.row("include_seconds", s.median,
               fmt::format("median of {}, {:.2f} to {:.2f}", s.count, s.smallest, s.largest));
    fs::remove_all(scratch);
  }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
