// SPDX-License-Identifier: MIT
// Wrong uses of the library, each of another cause: does it say what was given, what is needed and how to fix it, and is
// nothing lost?
//
// Each case below states the three pieces its message must hold, as text; they must all be there, each in a place of its
// own (no word counts twice). Where something could be lost, the case looks at it afterwards: files keep their bytes, no
// temporary file stays, parameters keep their bits, a run goes on. A use that throws nothing, throws something other than
// boot::error, whose message lacks a piece, or that loses something, counts as unnamed. For contracts that the compiler
// checks the message is the compiler's: its first error must hold our sentence (needed, and where the contract is
// described or what to write), and the output must name the user's own type (given).
//
// Uses whose messages differ in nothing but numbers and quoted names count once. --verbose prints every message, so that
// a person can judge them.
#include "measure/measure.hpp"

#include <boot/io/image.hpp>
#include <boot/io/parameters.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/guided.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/objective/sources.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/one_step.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/discrete.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/train/checkpoint.hpp>
#include <boot/train/distiller.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using boot::cpu;
using boot::measure::json;

const cpu dev{1};
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

// ---- how a case is judged -------------------------------------------------------------------------------------------

/// A wrong use. `use` must throw; what it returns is what was lost, for uses that look afterwards themselves.
struct wrong_use {
  std::string kind, what;
  std::string given, needed, remedy;  ///< pieces of the message
  std::function<void()> use;
  std::function<std::string()> lost = {};  ///< looks afterwards; empty: nothing was lost
};

/// Whether all pieces occur in the text without sharing a character.
bool holds_apart(std::string_view text, const std::vector<std::string_view>& pieces, std::vector<bool> taken,
                 std::size_t next = 0) {
  if (next == pieces.size()) return true;
  const std::string_view piece = pieces[next];
  if (piece.empty()) return false;
  for (std::size_t at = text.find(piece); at != std::string_view::npos; at = text.find(piece, at + 1)) {
    bool free = true;
    for (std::size_t i = 0; i < piece.size(); ++i) free = free && !taken[at + i];
    if (!free) continue;
    std::vector<bool> now = taken;
    for (std::size_t i = 0; i < piece.size(); ++i) now[at + i] = true;
    if (holds_apart(text, pieces, std::move(now), next + 1)) return true;
  }
  return false;
}

/// Why a message is not good enough; empty when it is.
std::string missing_in(std::string_view message, std::string_view given, std::string_view needed,
                       std::string_view remedy) {
  std::string missing;
  const auto look = [&](const char* name, std::string_view piece) {
    if (piece.empty() || message.find(piece) == std::string_view::npos)
      missing += fmt::format("{}{} '{}'", missing.empty() ? "lacks " : ", ", name, piece);
  };
  look("what was given", given);
  look("what is needed", needed);
  look("the remedy", remedy);
  if (missing.empty() && !holds_apart(message, {given, needed, remedy}, std::vector<bool>(message.size(), false)))
    missing = "one piece counts twice";
  return missing;
}

/// The message without numbers and quoted names: two uses that leave the same words may be of one cause and are counted
/// once.
std::string words_of(std::string_view message) {
  std::string words;
  bool quoted = false;
  for (const char c : message) {
    if (c == '\'') quoted = !quoted;
    if (!quoted && (c < '0' || c > '9')) words += c;
  }
  return words;
}

// ---- what the cases are made of -------------------------------------------------------------------------------------

using schedule = boot::cosine_schedule;
using network = boot::network_model<boot::mlp>;

network new_network(std::int64_t features = 4, std::int64_t width = 16, std::int32_t classes = 0,
                    boot::prediction_kind kind = boot::prediction_kind::v) {
  boot::mlp_options o;
  o.features = features;
  o.width = width;
  o.hidden_layers = 1;
  o.classes = classes;
  o.target_time = true;
  return network(dev, boot::mlp(o), {kind}, 7);
}
boot::gaussian_mixture<schedule> new_teacher(std::size_t features = 4) {
  return boot::gaussian_mixture<schedule>(schedule{}, {{1, std::vector<double>(features, 0.5), 0.3, -1},
                                                       {1, std::vector<double>(features, -0.5), 0.3, -1}});
}
/// A teacher that puts out NaN.
struct broken_teacher {
  template <boot::ComputeScalar T>
  void predict(const cpu&, boot::view<const T, cpu>, const boot::times<cpu, T>&, const boot::no_condition&,
               boot::view<T, cpu> out) const {
    std::fill(out.data(), out.data() + out.size(), std::numeric_limits<T>::quiet_NaN());
  }
  [[nodiscard]] boot::prediction prediction() const { return {boot::prediction_kind::v}; }
  [[nodiscard]] boot::shape sample_shape() const { return {4}; }
};
/// A schedule that breaks off in its middle.
struct broken_schedule {
  [[nodiscard]] double alpha(double t) const { return t < 0.5 ? 1 - t : nan_value; }
  [[nodiscard]] double sigma(double t) const { return t; }
  [[nodiscard]] double t_min() const { return 0.01; }
  [[nodiscard]] double t_max() const { return 0.99; }
};

std::string bits_of(boot::view<const float, cpu> v) {
  return {reinterpret_cast<const char*>(v.data()), static_cast<std::size_t>(v.size()) * sizeof(float)};
}
std::string bits_of(network& n) { return bits_of(std::as_const(n).parameters().values()); }

/// Everything below a folder by name, with its bytes.
std::vector<std::pair<std::string, std::string>> files_in(const std::string& folder) {
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    if (e.is_regular_file()) all.emplace_back(e.path().string(), *boot::measure::content_of(e.path()));
  std::sort(all.begin(), all.end());
  return all;
}

/// A limit of this process for as long as it lives.
class lower_limit {
 public:
  lower_limit(decltype(RLIMIT_FSIZE) which, rlim_t value) : which_(which) {
    ::getrlimit(which_, &before_);
    rlimit now = before_;
    now.rlim_cur = value;
    ::setrlimit(which_, &now);
  }
  lower_limit(const lower_limit&) = delete;
  lower_limit& operator=(const lower_limit&) = delete;
  ~lower_limit() { ::setrlimit(which_, &before_); }

 private:
  decltype(RLIMIT_FSIZE) which_;
  rlimit before_{};
};

boot::distiller_options run_options(std::int64_t steps = 4, std::string folder = {}) {
  return {.steps = steps,
          .batch = 8,
          .rate = {.peak = 1e-3},
          .folder = std::move(folder),
          .log_every = 1,
          .progress = boot::progress_mode::off};
}

/// A small training with all it needs, to be broken in one place.
struct small_run {
  boot::gaussian_mixture<schedule> teacher = new_teacher();
  network student;
  boot::bootstrap<boot::gaussian_mixture<schedule>, network, schedule> loss;
  boot::distiller<decltype(loss), cpu> trainer;
  std::optional<boot::checkpoints> keep;

  explicit small_run(boot::distiller_options options, const std::string& folder = {},
                     boot::checkpoint_options kept = {}, std::int64_t width = 16, double delta = 0.04)
      : student(new_network(4, width)),
        loss(teacher, student, schedule{}, {.delta = delta}),
        trainer(dev, loss, std::move(options)) {
    if (!folder.empty()) trainer.use(keep.emplace(folder, kept));
  }
};

std::string safetensors_text(std::string_view header, std::string_view data = {}) {
  std::string text(8, '\0');
  const std::uint64_t n = header.size();
  std::memcpy(text.data(), &n, 8);
  return text.append(header).append(data);
}

// ---- the cases ------------------------------------------------------------------------------------------------------

class collection {
 public:
  explicit collection(std::string folder) : folder_(std::move(folder)) { fs::create_directories(folder_); }

  std::vector<wrong_use> uses;

  void add_all() {
    files();
    shapes();
    options();
    checkpoints();
    disk();
    numeric();
  }

 private:
  void add(wrong_use u) { uses.push_back(std::move(u)); }
  std::string fresh(const std::string& name) const {
    const std::string path = folder_ + "/" + name;
    fs::remove_all(path);
    fs::create_directories(path);
    return path;
  }

  /// A file of these bytes is opened; it must stay as it is.
  void bad_file(const std::string& what, const std::string& bytes, const std::string& given,
                const std::string& needed) {
    const std::string path = fresh("file-" + std::to_string(uses.size())) + "/bad.safetensors";
    boot::atomic_write_file(path, std::string_view(bytes));
    add({"files", what, given, needed, "Fetch it again, or write it again",
         [=] { static_cast<void>(boot::safetensors_file::open(path)); },
         [=] { return boot::measure::content_of(path) == bytes ? "" : "the file changed"; }});
  }
  /// load_parameters() of a network of four features; its parameters must stay.
  void bad_load(const std::string& what, const std::function<void(const std::string&)>& write, const std::string& given,
                const std::string& needed, const std::string& remedy) {
    const std::string path = fresh("load-" + std::to_string(uses.size())) + "/network.safetensors";
    const auto target = std::make_shared<network>(new_network());
    const std::string before = bits_of(*target);
    add({"files", what, given, needed, remedy,
         [=] {
           write(path);
           boot::load_parameters(path, target->parameters());
         },
         [=] { return bits_of(*target) == before ? "" : "parameters changed"; }});
  }

  void files() {
    const std::string here = fresh("files");
    add({"files", "a file that is not there", "none.safetensors'", "No such file", "check the name",
         [=] { static_cast<void>(boot::safetensors_file::open(here + "/none.safetensors")); }});
    bad_file("five bytes", "12345", "it has 5 bytes", "the header alone takes 8");
    std::string huge(8, '\0');
    const std::uint64_t n = 200'000'000;
    std::memcpy(huge.data(), &n, 8);
    bad_file("a header above the limit", huge, "announce a header of 200000000 bytes", "at most 100000000 are allowed");
    bad_file("a header longer than the file", safetensors_text("{}").substr(0, 9), "only 1 bytes follow",
             "announce a header of 2 bytes");
    bad_file("a header that is a list", safetensors_text("[1]"), "begins with byte 0x5b",
             "a JSON object begins with {");
    bad_file("a header that is not UTF-8", safetensors_text("{\"\xff\":1}"), "its byte 2 is not", "must be UTF-8");
    bad_file("a header that is not JSON", safetensors_text("{\"a\":}"), "at its byte", "is not valid JSON");
    bad_file("an unknown type", safetensors_text(R"({"a":{"dtype":"F12","shape":[1],"data_offsets":[0,4]}})", "1234"),
             "unknown dtype 'F12'", "known are BOOL");
    bad_file("a name given twice",
             safetensors_text(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                              R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                              "12"),
             "two tensors are called 'a'", "each needs a name of its own");
    bad_file("a hole in the data",
             safetensors_text(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})", "12345"),
             "begins at byte 4 of the data", "byte 0 is where");
    bad_file("offsets that do not fit the shape",
             safetensors_text(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}})", "12345678"), "give it 8",
             "needs 16 bytes");
    bad_file("a shape that overflows",
             safetensors_text(R"({"a":{"dtype":"U8","shape":[4611686018427387904,8],"data_offsets":[0,0]}})"),
             "has shape [4611686018427387904, 8]", "more bits than 64 bits can count");
    bad_file("data cut short",
             safetensors_text(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", "12345678"),
             "the file has 8", "the tensors take 16 bytes");
    bad_file("a tensor without data_offsets", safetensors_text(R"({"a":{"dtype":"F32","shape":[4]}})"),
             "tensor 'a' has no data_offsets", "dtype, shape and data_offsets are needed");
    bad_file("metadata that is a number", safetensors_text(R"({"__metadata__":{"k":3}})"), "metadata 'k' is a number",
             "a string is needed");

    const std::string two = here + "/two.safetensors";
    const float four[4] = {1, 2, 3, 4};
    boot::write_safetensors(
        two, std::vector<boot::safetensors_entry>{boot::entry_of("a", {4}, std::span<const float>(four)),
                                                  boot::entry_of("b", {2, 2}, std::span<const float>(four))});
    add({"files", "a tensor that is not in the file", "no tensor 'c'", "it holds 2: 'a', 'b'", "Check the name",
         [=] { static_cast<void>(boot::safetensors_file::open(two).at("c")); }});
    add({"files", "a tensor read as another type", "F64 was asked for", "has type F32", "read it with its own type",
         [=] { static_cast<void>(boot::safetensors_file::open(two).read<double>("a")); }});

    bad_load(
        "parameters of a network with a part less",
        [](const std::string& path) {
          network source = new_network();
          auto entries = boot::parameter_entries(source.parameters().layout(), source.parameters().values());
          entries.pop_back();
          boot::write_safetensors(path, entries);
        },
        "1 missing: '", "does not fit a network of", "Use the network the file was written for");
    bad_load(
        "parameters of a wider network",
        [](const std::string& path) {
          network source = new_network(4, 32);
          boot::save_parameters(path, source.parameters().layout(), std::as_const(source).parameters().values());
        },
        "is [32, 128] in the file", "[16, 128] in the network", "Use the network the file was written for");
    bad_load(
        "parameters under a prefix that was not given",
        [](const std::string& path) {
          network source = new_network();
          boot::save_parameters(path, source.parameters().layout(), std::as_const(source).parameters().values(),
                                {.prefix = "student."});
        },
        "unexpected: 'student.", "missing: '", "give the prefix of its names");
    bad_load(
        "parameters stored as whole numbers",
        [](const std::string& path) {
          network source = new_network();
          auto entries = boot::parameter_entries(source.parameters().layout(), source.parameters().values());
          entries[0].dtype = boot::file_dtype::i32;
          entries[0].floats = false;
          boot::write_safetensors(path, entries);
        },
        "is I32", "a float type (F32, F16, BF16, F64)", "Use the network the file was written for");
    add({"files", "a PNG file that is text", "text.png'", "as PNG: libpng says", "convert or fetch the file again",
         [=] {
           boot::atomic_write_file(here + "/text.png", std::string_view("this is no picture"));
           static_cast<void>(boot::read_png(here + "/text.png"));
         }});
    add({"files", "a PNG file cut short", "cut.png'", "as PNG: libpng says", "the file is damaged, fetch it again",
         [=] {
           boot::tensor<std::uint8_t, cpu> image(dev, {40, 40, 3});
           for (std::int64_t i = 0; i < image.size(); ++i) image.data()[i] = static_cast<std::uint8_t>(i * i % 251);
           boot::write_png(here + "/whole.png", std::as_const(image).get());
           const std::string bytes = boot::read_file(here + "/whole.png");
           boot::atomic_write_file(here + "/cut.png", std::string_view(bytes).substr(0, bytes.size() - 20));
           static_cast<void>(boot::read_png(here + "/cut.png"));
         }});
  }

  void shapes() {
    const auto predict = [](std::int64_t batch, std::int64_t features, std::int64_t out_features, std::int64_t times) {
      const network n = new_network();
      const boot::tensor<float, cpu> x(dev, {batch, features});
      boot::tensor<float, cpu> out(dev, {batch, out_features});
      boot::times_buffer<cpu, float> from, to;
      n.predict(dev, x.get(), from.set(dev, n, 1.0, times), to.set(dev, n, 0.5, batch), boot::no_condition{},
                out.get());
    };
    add({"shapes", "a batch of other samples", "got x of shape [2, 5]", "for samples of shape [4]",
         "x must be a batch of such samples", [=] { predict(2, 5, 5, 2); }});
    add({"shapes", "an output of another shape", "got out of shape [2, 3]", "needs [2, 4]", "pass a view of that shape",
         [=] { predict(2, 4, 3, 2); }});
    add({"shapes", "times for another batch", "came with 3 source", "each sample needs one", "set both for 2 samples",
         [=] { predict(2, 4, 4, 3); }});
    add({"shapes", "a teacher of other samples", "the student's [4]", "the teacher's samples have shape [3]",
         "build the student for", [] {
           const auto teacher = new_teacher(3);
           network student = new_network();
           const boot::bootstrap loss(teacher, student, schedule{});
         }});
    add({"shapes", "too few values for a tensor", "3 values given", "needs 4", "give one value per element", [] {
           const std::vector<float> values(3);
           static_cast<void>(boot::tensor_of<float>(dev, std::span<const float>(values), {2, 2}));
         }});
    add({"shapes", "a copy to a larger tensor", "copy from shape [3] to shape [4]", "must be equal", "cut the larger",
         [] {
           const boot::tensor<float, cpu> from(dev, {3});
           boot::tensor<float, cpu> to(dev, {4});
           boot::copy(dev, from.get(), to.get());
         }});
    add({"shapes", "rows beyond the batch", "rows 3..6 asked", "the batch has 4 rows", "ask for rows within", [] {
           const boot::tensor<float, cpu> t(dev, {4, 2});
           static_cast<void>(t.get().rows(3, 3));
         }});
    add({"shapes", "a reshape to another size", "shape [3, 3] has 9 elements", "of shape [4, 2] has 8",
         "give a shape with as many", [] {
           const boot::tensor<float, cpu> t(dev, {4, 2});
           static_cast<void>(t.get().reshape({3, 3}));
         }});
    add({"shapes", "samples into another shape", "got out of shape [2, 5]", "its samples have shape [4]",
         "make it [batch, ...] of those", [] {
           const auto teacher = new_teacher();
           const boot::tensor<float, cpu> noise(dev, {2, 5});
           boot::tensor<float, cpu> out(dev, {2, 5});
           boot::ddim_sample(dev, teacher, schedule{}, boot::no_condition{}, noise.get(), {.steps = 2}, out.get());
         }});
    add({"shapes", "data of another shape", "got data of shape [10, 5]", "needs [rows, sample...]", "reshape the data",
         [] {
           network student = new_network();
           const boot::tensor<float, cpu> data(dev, {10, 5});
           const boot::denoising loss(student, schedule{}, data.get());
         }});
    add({"shapes", "too few labels", "5 labels", "for 10 rows of data", "give one label per row", [] {
           network student = new_network(4, 16, 3);
           const boot::tensor<float, cpu> data(dev, {10, 4});
           const boot::denoising loss(student, schedule{}, data.get(), {},
                                      boot::data_labels<cpu>(std::vector<std::int32_t>(5, 0), 0.1));
         }});
    const std::string here = fresh("shapes");
    add({"shapes", "a picture of two channels", "shape [4, 4, 2] was given", "with 1, 3 or 4 channels",
         "split or join the channels",
         [=] {
           const boot::tensor<std::uint8_t, cpu> image(dev, {4, 4, 2});
           boot::write_png(here + "/two.png", image.get());
         },
         [=] { return files_in(here).empty() ? "" : "a file was left"; }});
    add({"shapes", "values of another network to save", "got 3 values", "a layout of",
         "give the values of this network",
         [=] {
           const network n = new_network();
           const boot::tensor<float, cpu> values(dev, {3});
           boot::save_parameters(here + "/n.safetensors", n.parameters().layout(), values.get());
         },
         [=] { return files_in(here).empty() ? "" : "a file was left"; }});
  }

  template <class Change>
  static std::function<void()> distiller_with(const Change& change) {
    return [change] {
      boot::distiller_options o = run_options();
      change(o);
      const small_run run(std::move(o));
    };
  }
  static std::function<void()> bootstrap_with(boot::bootstrap_options o) {
    return [o] {
      const auto teacher = new_teacher();
      network student = new_network();
      const boot::bootstrap loss(teacher, student, schedule{}, o);
    };
  }
  static std::function<void()> sampling_with(boot::sampler_options o) {
    return [o] {
      const auto teacher = new_teacher();
      const boot::tensor<float, cpu> noise(dev, {2, 4});
      boot::tensor<float, cpu> out(dev, {2, 4});
      boot::ddim_sample(dev, teacher, schedule{}, boot::no_condition{}, noise.get(), o, out.get());
    };
  }

  void options() {
    add({"options", "no steps", "steps = 0", "needs at least 1", "are usual",
         distiller_with([](auto& o) { o.steps = 0; })});
    add({"options", "an empty batch", "batch = 0", "needs at least 1", "is usual",
         distiller_with([](auto& o) { o.batch = 0; })});
    add({"options", "more parts than samples", "accumulation = 9 parts of a batch of 8", "no more than the batch has",
         "raise batch or lower accumulation", distiller_with([](auto& o) { o.accumulation = 9; })});
    add({"options", "a log without a folder", "log_csv", "without a folder", "set folder to where the logs go",
         distiller_with([](auto& o) { o.log_csv = true; })});
    add({"options", "a negative rate", "learning rate -1", "needs a positive number", "such as 1e-3",
         distiller_with([](auto& o) { o.rate.peak = -1; })});
    add({"options", "an average that never moves", "EMA decay 1", "needs a share in [0, 1)", "0.999 is common",
         distiller_with([](auto& o) { o.optimizer.averages = {{.decay = 1}}; })});
    add({"options", "a momentum above one", "betas 1.5", "need to be in [0, 1)", "are usual",
         distiller_with([](auto& o) { o.optimizer.beta1 = 1.5; })});
    add({"options", "a bootstrap step beyond the range", "delta = 2", "in (0, 1)", "0.04 is a good start",
         bootstrap_with({.delta = 2})});
    add({"options", "a negative boundary weight", "boundary_weight = -1", "needs a factor >= 0", "is the default",
         bootstrap_with({.boundary_weight = -1})});
    add({"options", "a boundary share above one", "boundary_fraction = 1.5", "in [0, 1]", "is the default",
         bootstrap_with({.boundary_fraction = 1.5})});
    add({"options", "a sampler's eta above one", "eta = 2", "needs a number in [0, 1]", "0 for DDIM",
         sampling_with({.eta = 2})});
    add({"options", "a sampler without steps", "of 0 steps", "needs at least 1", "is usual",
         sampling_with({.steps = 0})});
    add({"options", "clip limits the wrong way round", "limits [1, -1]", "needs low < high", "-1 and 1",
         sampling_with({.low = 1, .high = -1})});
    add({"options", "an unknown beta schedule", "\"sigmoid\" is not known", "known are linear",
         "pass its table to discrete_schedule", [] { static_cast<void>(boot::parse_beta_spacing("sigmoid")); }});
    add({"options", "noise levels the wrong way round", "sigma_min = 80 and sigma_max = 0.002",
         "0 < sigma_min < sigma_max", "usual values are 0.002 and 80",
         [] { static_cast<void>(boot::edm_schedule({.sigma_min = 80, .sigma_max = 0.002})); }});
    add({"options", "a time range the wrong way round", "t_min = 0.9 and t_max = 0.1", "<= t_min < t_max <=",
         "Set both within", [] { static_cast<void>(boot::cosine_schedule({.t_min = 0.9, .t_max = 0.1})); }});
    add({"options", "no classes to draw from", "for 0 classes", "needs at least 1", "give the number of classes",
         [] { static_cast<void>(boot::label_source<cpu>(0)); }});
    add({"options", "a picture of no columns", "columns 0", "needs columns and scale of at least 1", "8 columns", [] {
           const boot::tensor<float, cpu> samples(dev, {2, 4, 4, 1});
           static_cast<void>(boot::sample_grid(samples.get(), {.columns = 0}));
         }});
  }

  /// A run of four steps, checkpointed every second one, then `damage`, then a resume of `options`. The resumed
  /// student's parameters must stay, and so must all files.
  void bad_resume(const std::string& what, const std::string& given, const std::string& needed,
                  const std::string& remedy, const std::function<void(const std::string&)>& damage,
                  boot::distiller_options options, boot::checkpoint_options kept = {}, std::int64_t width = 16,
                  double delta = 0.04) {
    const std::string folder = fresh("checkpoints-" + std::to_string(uses.size()));
    struct memory {
      std::vector<std::pair<std::string, std::string>> before;
      std::optional<small_run> run;
      std::string bits;
    };
    const auto seen = std::make_shared<memory>();
    add({"checkpoints", what, given, needed, remedy,
         [=] {
           small_run(run_options(), folder, {.every = 2}).trainer.run();
           damage(folder);
           seen->before = files_in(folder);
           seen->run.emplace(options, folder, kept, width, delta);
           seen->bits = bits_of(seen->run->student);
           seen->run->trainer.run();
         },
         [=]() -> std::string {
           if (!seen->run) return "the case did not come to its point";
           if (bits_of(seen->run->student) != seen->bits) return "parameters changed";
           if (seen->run->trainer.step() != 0) return "the step counter moved";
           return files_in(folder) == seen->before ? "" : "files changed";
         }});
  }

  static void for_each_checkpoint(const std::string& folder, const std::function<void(std::string&)>& change) {
    for (const auto& f : boot::list_checkpoints(folder)) {
      std::string bytes = boot::read_file(f.path);
      change(bytes);
      boot::atomic_write_file(f.path, std::string_view(bytes));
    }
  }

  void checkpoints() {
    const auto nothing = [](const std::string&) {};
    boot::distiller_options again = run_options();
    again.resume = true;
    bad_resume("a new run into an old one's folder", "an earlier run up to step 4", "choose another folder",
               "set resume = true to continue it", nothing, run_options());
    boot::distiller_options o = again;
    o.batch = 16;
    bad_resume("another batch", "16 now", "batch is 8 in the checkpoint", "Use the same options", nothing, o);
    bad_resume("another bootstrap step", "bootstrap delta 0.1", "bootstrap delta 0.04", "Use the same options", nothing,
               again, {}, 16, 0.1);
    o = again;
    o.optimizer.averages.push_back({.decay = 0.9});
    bad_resume("one average more", "0.9 now", "averages[1].decay is not there in the checkpoint",
               "Use the same options", nothing, o);
    bad_resume("a wider student, options ignored", "F32 [32, 128] now", "F32 [16, 128] in the checkpoint",
               "Build the student, the averages and the objective as they were", nothing, again,
               {.ignore_configuration = true}, 32);
    bad_resume(
        "a flipped bit in every file", "reads back with", "was written with hash", "bring back an intact one",
        [](const std::string& folder) {
          for_each_checkpoint(folder, [](std::string& b) { b[b.size() - 5] = static_cast<char>(b[b.size() - 5] ^ 1); });
        },
        again);
    bad_resume(
        "every file cut short", "it is cut short", "the tensors take", "Remove them to start anew",
        [](const std::string& folder) {
          for_each_checkpoint(folder, [](std::string& b) { b.resize(b.size() - 100); });
        },
        again);
    bad_resume(
        "a newer library's checkpoint", "has format 'boot-checkpoint-9'", "this version reads boot-checkpoint-1",
        "continue with the version that wrote it",
        [](const std::string& folder) {
          for_each_checkpoint(folder,
                              [](std::string& b) { b.replace(b.find("boot-checkpoint-1"), 17, "boot-checkpoint-9"); });
        },
        again);
    bad_resume(
        "other files under a checkpoint's name", "has no metadata 'format'", "it is no checkpoint of this library",
        "Remove them to start anew",
        [](const std::string& folder) {
          const float one = 1;
          const std::vector<boot::safetensors_entry> e{boot::entry_of("a", {1}, std::span<const float>(&one, 1))};
          for (const auto& f : boot::list_checkpoints(folder)) boot::write_safetensors(f.path, e);
        },
        again);
    const std::string here = fresh("checkpoints");
    add({"checkpoints", "a file where the folder should be", "file'", "is not a folder", "give the name of one",
         [=] {
           boot::atomic_write_file(here + "/file", std::string_view("mine"));
           const boot::checkpoints keep(here + "/file");
         },
         [=] { return boot::read_file(here + "/file") == "mine" ? "" : "the file changed"; }});
    add({"checkpoints", "a resume without a store", "cannot resume", "without checkpoints",
         "call use(checkpoints) first", [] { static_cast<void>(small_run(run_options()).trainer.resume()); }});
    add({"checkpoints", "a negative number to keep", "keep_last = -1", "at least 0", "0 keeps all",
         [=] { const boot::checkpoints keep(here + "/kept", {.keep_last = -1}); }});
  }

  void disk() {
    const std::string here = fresh("disk");
    const std::string file = here + "/file";
    boot::atomic_write_file(file, std::string_view("mine"));
    const auto intact = [=] {
      return files_in(here) == std::vector<std::pair<std::string, std::string>>{{file, "mine"}}
                 ? ""
                 : "the old file is not what it was, or another was left";
    };
    const auto write = [](const std::string& path) {
      return [path] {
        const network n = new_network();
        boot::save_parameters(path, n.parameters().layout(), n.parameters().values());
      };
    };
    add({"disk", "parameters beyond the file-size limit", "disk/file'", "File too large", "raise it (ulimit -f)",
         [=] {
           const lower_limit limit(RLIMIT_FSIZE, 1000);
           write(file)();
         },
         intact});
    add({"disk", "a full device", "'/dev/full'", "No space left", "free some space", write("/dev/full")});
    add({"disk", "a path below a file", "file/network'", "Not a directory", "correct the path",
         write(file + "/network"), intact});
    add({"disk", "a folder that is not there", "none/network'", "is not there", "create it first",
         write(here + "/none/network"), intact});
    add({"disk", "a folder where the file should be", "disk'", "this is a folder", "give the name of a file in it",
         write(here), intact});
    add({"disk", "a name that is too long", std::string(300, 'x'), "too long", "choose a shorter name",
         write(here + "/" + std::string(300, 'x')), intact});
    add({"disk", "no file left to open", "disk/file'", "Too many open files", "raise the limit (ulimit -n)",
         [=] {
           const lower_limit limit(RLIMIT_NOFILE, 0);
           write(file)();
         },
         intact});
    // In the middle of a run: what was saved stays, and when the disk is well again the run ends as if nothing happened.
    struct memory {
      std::unique_ptr<small_run> run;
      std::vector<std::pair<std::string, std::string>> before;
    };
    const auto goes_on = [](memory& m) -> std::string {
      small_run whole(run_options(6));
      whole.trainer.run();
      if (!m.run) return "the case did not come to its point";
      if (!m.run->trainer.run().finished) return "the run does not go on";
      return bits_of(m.run->student) == bits_of(whole.student) ? "" : "the run ends with other bits";
    };
    {
      const std::string folder = fresh("disk-checkpoint");
      const auto m = std::make_shared<memory>();
      add({"disk", "a checkpoint beyond the file-size limit", "step-0000000004.safetensors'", "File too large",
           "or write less",
           [=] {
             m->run = std::make_unique<small_run>(run_options(6), folder, boot::checkpoint_options{.every = 2});
             m->run->trainer.run(2);
             m->before = files_in(folder);
             const lower_limit limit(RLIMIT_FSIZE, 1000);
             m->run->trainer.run();
           },
           [=]() -> std::string {
             if (files_in(folder) != m->before) return "an earlier checkpoint changed, or a temporary was left";
             return goes_on(*m);
           }});
    }
    {
      const std::string folder = fresh("disk-log");
      const auto m = std::make_shared<memory>();
      add({"disk", "a log on a full device", "log.jsonl'", "No space left on device", "choose another disk",
           [=] {
             fs::create_symlink("/dev/full", folder + "/log.jsonl");
             m->run = std::make_unique<small_run>(run_options(6, folder));
             m->run->trainer.run();
           },
           [=]() -> std::string {
             if (m->run->trainer.step() != 1) return "more than the step that could not be written was made";
             try {
               m->run->trainer.run();
               return "the record that was refused is forgotten";
             } catch (const boot::error&) {
               return m->run->trainer.step() == 1 ? "" : "the run went on without its log";
             }
           }});
    }
    {
      const std::string folder = fresh("disk-log-limit"), other = fresh("disk-log-whole");
      const auto m = std::make_shared<memory>();
      add({"disk", "a log beyond the file-size limit", "log.jsonl'", "File too large", "raise it (ulimit -f)",
           [=] {
             m->run = std::make_unique<small_run>(run_options(6, folder));
             const lower_limit limit(RLIMIT_FSIZE, 500);
             m->run->trainer.run();
           },
           [=]() -> std::string {
             if (const std::string lost = goes_on(*m); !lost.empty()) return lost;
             small_run(run_options(6, other)).trainer.run();
             return boot::read_file(folder + "/log.jsonl") == boot::read_file(other + "/log.jsonl")
                        ? ""
                        : "the log lacks or doubles a record";
           }});
    }
  }

  void numeric() {
    const std::string folder = fresh("numeric");
    add({"numeric", "a teacher that puts out NaN", "3 steps in a row", "not finite",
         "look for NaN in what the teacher puts out",
         [=] {
           const broken_teacher teacher;
           network student = new_network();
           const std::string before = bits_of(student);
           boot::bootstrap loss(teacher, student, schedule{});
           boot::distiller_options o = run_options(10);
           o.max_skips = 3;
           boot::distiller trainer(dev, loss, o);
           boot::checkpoints keep(folder, {.every = 100});
           trainer.use(keep);
           try {
             trainer.run();
           } catch (...) {
             if (bits_of(student) != before) boot::fail("the student's parameters were spoilt");
             throw;
           }
         },
         [=]() -> std::string {
           if (boot::list_checkpoints(folder).empty()) return "the last good state was not saved";
           const auto file = boot::safetensors_file::open(boot::list_checkpoints(folder).front().path);
           for (const auto& t : file.tensors())
             if (t.dtype == boot::file_dtype::f32)
               for (const float v : file.read_floats(t.name))
                 if (!std::isfinite(v)) return "the saved state holds NaN";
           return "";
         }});
    add({"numeric", "data with a NaN in each row", "2 steps in a row", "not finite", "and in the data", [] {
           network student = new_network();
           const std::string before = bits_of(student);
           boot::tensor<float, cpu> data(dev, {10, 4});
           for (std::int64_t i = 0; i < data.size(); ++i)
             data.data()[i] = i % 4 == 1 ? std::numeric_limits<float>::quiet_NaN() : 0.5f;
           boot::denoising loss(student, schedule{}, std::as_const(data).get());
           boot::distiller_options o = run_options(10);
           o.max_skips = 2;
           boot::distiller trainer(dev, loss, o);
           try {
             trainer.run();
           } catch (...) {
             if (bits_of(student) != before) boot::fail("the network's parameters were spoilt");
             throw;
           }
         }});
    add({"numeric", "an infinite rate", "learning rate inf", "a positive number", "such as 1e-3",
         distiller_with([](auto& o) { o.rate.peak = std::numeric_limits<double>::infinity(); })});
    add({"numeric", "an epsilon student where alpha = 0", "the student predicts epsilon", "alpha = 0 at t_max = 1",
         "give it prediction_kind::v", [] {
           const auto teacher = new_teacher();
           network student = new_network(4, 16, 0, boot::prediction_kind::epsilon);
           const boot::bootstrap loss(teacher, student, schedule{});
         }});
    add({"numeric", "a weight that is NaN", "gave nan at t = ", "must be finite and not negative", "correct own_weight",
         [] {
           const auto teacher = new_teacher();
           network student = new_network();
           boot::bootstrap loss(teacher, student, schedule{},
                                {.own_weight = [](const boot::weight_arguments&) { return nan_value; }});
           boot::distiller trainer(dev, loss, run_options());
           trainer.run();
         }});
    add({"numeric", "a guidance scale that is NaN", "guidance scale nan", "needs a finite number",
         "1 means no guidance", [] {
           const network teacher = new_network(4, 16, 3);
           const boot::guided strong(teacher, nan_value);
         }});
    add({"numeric", "a schedule that breaks off", "alpha = nan", "both must be finite", "orrect the formula",
         [] { boot::validate_schedule(broken_schedule{}); }});
    const std::string file = folder + "/double.safetensors";
    add({"numeric", "a double beyond the range of float", "holds 1e+300", "beyond the range of float",
         "use read<double>()", [=] {
           const double large = 1e300;
           boot::write_safetensors(file, std::vector<boot::safetensors_entry>{
                                             boot::entry_of("a", {1}, std::span<const double>(&large, 1))});
           static_cast<void>(boot::safetensors_file::open(file).read_floats("a"));
         }});
  }

  std::string folder_;
};

// ---- what the compiler says -----------------------------------------------------------------------------------------

struct contract {
  const char *file, *type, *needed, *remedy;  ///< type: the user's, as the compiler shows it
};
const contract contracts[] = {
    {"condition_without_rows", "half_a_condition", "needs `c.rows(first, count)` and `c.null()`",
     "See boot/nn/condition.hpp"},
    {"distiller_without_objective", "loss_type", "needs `o(dev, batch_request) -> loss_report`",
     "see the contract in boot/objective/objective.hpp"},
    {"objective_schedule_without_sigma", "under_test", "needs `double alpha(double t) const` and `double sigma",
     "See 'Write your own' in boot/schedule/noise_schedule.hpp"},
    {"schedule_lambda_is_float", "schedule", "must return double", "correct its type or leave it out"},
    {"schedule_without_range", "schedule", "needs `double t_min() const` and `double t_max() const`",
     "See 'Write your own' in boot/schedule/noise_schedule.hpp"},
    {"source_without_call", "under_test", "needs `source(dev, seed, step, samples)`",
     "See the contract in boot/objective/objective.hpp"},
    {"state_of_shorts", "short", "arrays of float, double and std::int64_t", "visit_state"},
    {"student_without_parameters", "under_test", "needs `m.parameters()`",
     "See the contract in boot/model/student.hpp"},
    {"student_without_predict", "under_test", "needs `m.predict(dev, x, t_source, t_target, condition, out)`",
     "See the contract in boot/model/student.hpp"},
    {"student_without_prediction", "under_test", "needs `m.prediction() -> boot::prediction`",
     "See the contract in boot/model/student.hpp"},
    {"student_without_record", "under_test", "needs `m.record(dev, x, t_source, t_target, condition)`",
     "See the contract in boot/model/student.hpp"},
    {"teacher_without_predict", "under_test", "needs `m.predict(dev, x, t, condition, out)`",
     "See the contract in boot/model/teacher.hpp"},
    {"teacher_without_prediction", "under_test", "needs `m.prediction() -> boot::prediction`",
     "See the contract in boot/model/teacher.hpp"},
    {"teacher_without_sample_shape", "under_test", "needs `m.sample_shape() -> boot::shape`",
     "See the contract in boot/model/teacher.hpp"},
};

/// The hash of every header, so that a kept answer is thrown away when one changes.
std::uint64_t hash_of_headers(const fs::path& root) {
  std::vector<fs::path> paths;
  for (const char* folder : {"include/boot", "tests/compile_fail"})
    for (const auto& e : fs::recursive_directory_iterator(root / folder))
      if (e.is_regular_file()) paths.push_back(e.path());
  std::sort(paths.begin(), paths.end());
  std::uint64_t hash = boot::measure::hash_bytes("");
  for (const auto& p : paths) hash = boot::measure::hash_bytes(boot::measure::content_of(p).value_or(""), hash);
  return hash;
}

/// Whether a type's name is there as a word of its own: not as a part of a path or of another name.
bool has_word(std::string_view line, std::string_view word) {
  const std::string_view before = " <'=", behind = " <>';,:]*&";
  for (std::size_t at = line.find(word); at != std::string_view::npos; at = line.find(word, at + 1)) {
    const std::size_t end = at + word.size();
    if (at > 0 && before.find(line[at - 1]) != std::string_view::npos &&
        (end == line.size() || behind.find(line[end]) != std::string_view::npos))
      return true;
  }
  return false;
}

/// What the compiler says to a file: its first error line, and whether the whole names `type`. Lines of the source that
/// it quotes do not count: they hold the text of a static_assert whether it fails or not.
json compile(const std::string& compiler, const fs::path& root, const contract& c) {
  const std::string command = fmt::format(
      "cd '{}' && LC_ALL=C {} -std=c++20 -fopenmp -Iinclude -fsyntax-only -fdiagnostics-color=never {} "
      "tests/compile_fail/{}.cpp 2>&1; echo \"status $?\"",
      root.string(), compiler, "-DBOOT_EXPECT_FAIL", c.file);
  const std::string all = boot::measure::output_of(command).value_or("");
  std::string first;
  bool names = false;
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t bar = line.find('|');
    if (bar != std::string::npos && line.find_first_not_of(" 0123456789") == bar) continue;
    if (first.empty() && line.find("error:") != std::string::npos) first = line;
    names = names || has_word(line, c.type);
  }
  return {
      {"compiles", all.size() >= 8 && all.substr(all.size() - 8) == "status 0"}, {"error", first}, {"names", names}};
}

int measure(int argc, char** argv) {
  boot::measure::measure_report report(
      "bad_input", {{"named", ">= 64", "wrong uses whose error says what was given, what is needed, how to fix it"},
                    {"unnamed", "== 0", "wrong uses that give no such error, or lose something"}});
  bool verbose = false, no_compiler = false;
  std::string compiler = "g++", only;
  report.app().add_flag("--verbose", verbose, "print every message");
  report.app().add_flag("--no-compiler", no_compiler, "leave the contracts that the compiler checks out");
  report.app().add_option("--compiler", compiler, "compiler for those contracts");
  report.app().add_option("--kind", only, "only files, shapes, options, checkpoints, disk, numeric or compile-time");
  if (const auto status = report.parse(argc, argv)) return *status;
  report.setting("compiler_called", compiler);
  const std::string folder = (report.cache_folder() / fmt::format("cases-{}", ::getpid())).string();
  struct remover {
    const std::string& path;
    ~remover() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  } cleaner{folder};
  std::uint64_t named = 0, unnamed = 0;
  std::set<std::string> causes;
  json kinds = json::object(), bad = json::array(), tried = json::object();
  const auto judge = [&](const std::string& kind, const std::string& what, const std::string& message,
                         const std::string& wrong) {
    if (!kinds.contains(kind)) kinds[kind] = tried[kind] = 0;
    tried[kind] = tried[kind].get<int>() + 1;
    if (wrong.empty()) {
      if (causes.insert(words_of(message)).second) {
        ++named;
        kinds[kind] = kinds[kind].get<int>() + 1;
      }
    } else {
      ++unnamed;
      bad.push_back(fmt::format("{}: {}: {}", kind, what, wrong));
    }
    if (verbose || !wrong.empty())
      fmt::print("[{}] {}: {}\n    {}\n", kind, what, wrong.empty() ? "named" : "UNNAMED, " + wrong, message);
  };

  // The judge itself: a message that lacks a piece, and one whose pieces overlap, are refused.
  boot::require(
      missing_in("batch = 0; needs at least 1; 256 is usual", "batch = 0", "at least 1", "is usual").empty() &&
          !missing_in("batch = 0; needs at least 1", "batch = 0", "at least 1", "is usual").empty() &&
          !missing_in("needs at least 1", "at least 1", "at least 1", "at least 1").empty(),
      "measure bad_input: the judge is blind");

  collection all(folder);
  all.add_all();
  for (const wrong_use& u : all.uses) {
    if (!only.empty() && u.kind != only) continue;
    std::string message = "(nothing was thrown)", wrong;
    try {
      u.use();
      wrong = "nothing was thrown";
    } catch (const boot::error& e) {
      message = e.what();
      wrong = missing_in(message, u.given, u.needed, u.remedy);
    } catch (const std::exception& e) {
      message = e.what();
      wrong = "not a boot::error";
    }
    if (wrong.empty() && u.lost) {
      try {
        wrong = u.lost();
      } catch (const std::exception& e) {
        wrong = fmt::format("afterwards: {}", e.what());
      }
    }
    judge(u.kind, u.what, message, wrong);
  }
  if (!no_compiler && (only.empty() || only == "compile-time")) {
    const std::uint64_t headers = hash_of_headers(report.root());
    std::size_t count = 0;
    for (const contract& c : contracts) {
      if (report.quick() && ++count > 2) break;
      const json r = report.cached(fmt::format("{} headers={:016x}", c.file, headers), [&] {
        report.progress("compiling {}", c.file);
        return compile(compiler, report.root(), c);
      });
      const std::string message = r["error"];
      std::string wrong = message.find("boot: ") == std::string::npos ? "the first error is not ours"
                          : r["compiles"].get<bool>()                 ? "it compiles"
                          : r["names"].get<bool>() ? missing_in(message, "boot: ", c.needed, c.remedy)
                                                   : fmt::format("the type '{}' is not named", c.type);
      judge("compile-time", c.file, message, wrong);
    }
  }
  if (!report.quick() && !no_compiler && only.empty())
    for (const auto& [kind, least] :
         {std::pair{"files", 15}, std::pair{"shapes", 10}, std::pair{"options", 10}, std::pair{"checkpoints", 8},
          std::pair{"disk", 6}, std::pair{"numeric", 5}, std::pair{"compile-time", 10}})
      boot::require(tried[kind].get<int>() >= least, "measure bad_input: {} uses of kind {} were tried, needs {}",
                    tried[kind].get<int>(), kind, least);
  report.beside("tried by kind", tried);
  report.beside("named by kind, those of the same words once", kinds);
  report.beside("unnamed uses", bad);
  report.row("named", static_cast<double>(named));
  report.row("unnamed", static_cast<double>(unnamed));
  return report.finish();
}

}  // namespace

int main(int argc, char** argv) try { return measure(argc, argv); } catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
