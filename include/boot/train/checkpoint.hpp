// SPDX-License-Identifier: MIT
/// Checkpoints: one safetensors file per saved step, written at once or not at all, checked in full before it is used.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/io/content_hash.hpp>
#include <boot/io/safetensors.hpp>
#include <boot/train/state_list.hpp>
#include <boot/train/training_state.hpp>
#include <boot/version.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#if BOOT_HAS_POSIX
#  include <dirent.h>
#else
#  include <filesystem>
#endif

namespace boot::inline v0 {

/// Options of checkpoints.
struct checkpoint_options {
  std::int64_t every = 500;           ///< steps between two checkpoints; 0: only when a run ends
  std::int64_t keep_last = 3;         ///< older ones are removed; 0: all are kept
  bool ignore_configuration = false;  ///< continue although options differ; arrays must still fit
  bool replace = false;               ///< a fresh run removes the checkpoints of an earlier one instead of refusing
};

/// One checkpoint in a folder.
struct checkpoint_file {
  std::int64_t step = 0;  ///< steps finished
  std::string path;       ///< where it lies
};

namespace detail {
inline constexpr std::string_view checkpoint_stem = "step-", checkpoint_end = ".safetensors";
inline constexpr std::string_view checkpoint_format = "boot-checkpoint-1";
inline constexpr std::string_view configuration_prefix = "configuration.", number_prefix = "number.";

[[nodiscard]] inline std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
#if BOOT_HAS_POSIX
  DIR* entries = ::opendir(folder.c_str());
  if (entries == nullptr) {
    if (errno == ENOENT) return names;
    fail_file("list folder", folder, errno);
  }
  while (const dirent* e = ::readdir(entries)) names.emplace_back(e->d_name);
  ::closedir(entries);
#else
  std::error_code ignored;
  for (const auto& e : std::filesystem::directory_iterator(folder, ignored))
    names.push_back(e.path().filename().string());
#endif
  return names;
}

[[nodiscard]] inline file_dtype dtype_of(state_type t) noexcept {
  return t == state_type::float32 ? file_dtype::f32 : t == state_type::float64 ? file_dtype::f64 : file_dtype::i64;
}
[[nodiscard]] inline std::vector<std::int64_t> extents_of_state(const shape& s) {
  std::vector<std::int64_t> e;
  for (int i = 0; i < s.rank(); ++i) e.push_back(s[i]);
  return e;
}
[[nodiscard]] inline std::string hash_text(std::uint64_t h) { return fmt::format("{:016x}", h); }

/// One hash of everything that is kept: names, values, numbers, configuration. `tensors` gives (name, bytes) in any
/// order that is the same when written and read.
[[nodiscard]] inline std::uint64_t checkpoint_hash(
    const safetensors_metadata& metadata,
    std::vector<std::pair<std::string_view, std::span<const std::byte>>> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto text = [](std::string_view s, std::uint64_t h) {
    return content_hash(std::as_bytes(std::span<const char>(s.data(), s.size())), h);
  };
  std::uint64_t h = 0;
  for (const auto& [key, value] : metadata)
    if (key != "hash") h = text(value, text(key, h));
  for (const auto& [name, bytes] : tensors) h = content_hash(bytes, text(name, h));
  return h;
}

}  // namespace detail

/// The checkpoints in a folder, newest first; other files are not looked at. A folder that is not there has none.
[[nodiscard]] inline std::vector<checkpoint_file> list_checkpoints(const std::string& folder) {
  std::vector<checkpoint_file> files;
  for (const std::string& name : detail::names_in(folder)) {
    const std::string_view stem = detail::checkpoint_stem, end = detail::checkpoint_end;
    if (name.size() <= stem.size() + end.size() || name.compare(0, stem.size(), stem) != 0 ||
        name.compare(name.size() - end.size(), end.size(), end) != 0)
      continue;
    std::int64_t step = 0;
    const char* const last = name.data() + name.size() - end.size();
    const auto r = std::from_chars(name.data() + stem.size(), last, step);
    if (r.ec == std::errc() && r.ptr == last && step >= 0) files.push_back({step, folder + "/" + name});
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return files;
}

/// Keeps the states of one run in a folder:
///   boot::checkpoints keep{"runs/first", {.every = 500, .keep_last = 3}};
///   trainer.use(keep);
/// A file step-NNNNNNNNNN.safetensors holds the arrays by name ("student.…", "moment1.…", "moment2.…", "average0.…",
/// "objective.…"), and as metadata the counters, the configuration, the library's version and a hash of it all, so that
/// damage of any kind is seen. Any safetensors reader can read it; load_parameters() with the prefix "student." does.
class checkpoints final : public checkpoint_store {
 public:
  /// Makes the folder if it is not there; throws boot::error when it cannot, and for options that make no sense.
  explicit checkpoints(std::string folder, checkpoint_options options = {})
      : folder_(std::move(folder)), options_(options) {
    require(!folder_.empty(), "boot: checkpoints need a folder; give its name, '.' for the current one");
    require(options_.every >= 0 && options_.keep_last >= 0,
            "boot: checkpoints every = {}, keep_last = {}; both need to be at least 0; every 0 saves only at the end, "
            "keep_last 0 keeps all",
            options_.every, options_.keep_last);
    detail::make_folders(folder_);
  }

  [[nodiscard]] std::int64_t every() const override { return options_.every; }

  /// Refuses a folder that holds another run's checkpoints, or removes them if `replace` is set.
  void start_fresh() override {
    const auto files = list_checkpoints(folder_);
    require(files.empty() || options_.replace,
            "boot: folder '{}' holds checkpoints of an earlier run up to step {}; set resume = true to continue it, "
            "choose another folder, or set replace = true to remove them",
            folder_, files.empty() ? 0 : files.front().step);
    for (const auto& f : files) remove(f.path);
  }

  /// Writes one file, then removes those older than the last `keep_last`. Whatever fails, no complete file is lost.
  void save(const training_state& state) override {
    std::vector<safetensors_entry> entries;
    std::vector<std::pair<std::string_view, std::span<const std::byte>>> hashed;
    for (const auto& a : state.arrays) {
      entries.push_back({a.name, detail::dtype_of(a.type), detail::extents_of_state(a.extents), a.bytes, false});
      hashed.emplace_back(a.name, a.bytes);
    }
    safetensors_metadata metadata{{"format", std::string(detail::checkpoint_format)},
                                  {"library", fmt::format("boot {}", version_string)}};
    for (const auto& n : state.numbers)
      metadata[std::string(detail::number_prefix) + n.name] =
          std::visit([](const auto* v) { return fmt::format("{}", *v); }, n.value);
    for (const auto& [field, value] : state.configuration)
      metadata[std::string(detail::configuration_prefix) + field] = value;
    metadata["hash"] = detail::hash_text(detail::checkpoint_hash(metadata, std::move(hashed)));
    write_safetensors(path_of(state.step), entries, metadata);
    if (options_.keep_last == 0) return;
    // Files of later steps are damaged ones that a resume passed over, or of a run that was wound back: they do not
    // count, and are replaced when this run gets there.
    std::int64_t kept = 0;
    for (const auto& f : list_checkpoints(folder_))
      if (f.step <= state.step && ++kept > options_.keep_last) remove(f.path);
  }

  /// Takes the newest file that is whole; damaged ones are passed over with a message. Throws boot::error when all are
  /// damaged, or when the newest whole one belongs to a run with other options or another student.
  bool restore(training_state& state, const messages& say) override {
    const auto files = list_checkpoints(folder_);
    std::string last;
    for (const auto& f : files) {
      try {
        const safetensors_file file = safetensors_file::open(f.path);
        check_whole(file);
        fill(file, state);
        return true;
      } catch (const damaged& e) {
        last = e.what();
      } catch (const refused& e) {
        throw error(e.what());
      } catch (const error& e) {
        last = e.what();
      }
      if (say) say(fmt::format("boot: checkpoint '{}' cannot be used, trying the one before: {}", f.path, last));
    }
    require(
        files.empty(),
        "boot: none of the {} checkpoints in '{}' can be read, the oldest because of: {}. Remove them to start anew, "
        "or bring back an intact one",
        files.size(), folder_, last);
    return false;
  }

  /// As given.
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  /// As given.
  [[nodiscard]] const checkpoint_options& options() const noexcept { return options_; }
  /// Where the checkpoint of a step lies.
  [[nodiscard]] std::string path_of(std::int64_t step) const {
    return fmt::format("{}/{}{:010}{}", folder_, detail::checkpoint_stem, step, detail::checkpoint_end);
  }

 private:
  struct damaged : error {
    using error::error;
  };
  struct refused : error {
    using error::error;
  };

  static void remove(const std::string& path) {
    if (std::remove(path.c_str()) != 0 && errno != ENOENT) detail::fail_file("remove", path, errno);
  }
  static const std::string& text_of(const safetensors_file& file, const std::string& key) {
    const auto it = file.metadata().find(key);
    if (it == file.metadata().end())
      throw damaged(
          fmt::format("boot: '{}' has no metadata '{}'; it is no checkpoint of this library", file.path(), key));
    return it->second;
  }
  static void check_whole(const safetensors_file& file) {
    const std::string& format = text_of(file, "format");
    if (format != detail::checkpoint_format)
      throw refused(
          fmt::format("boot: '{}' has format {}, this version reads {}; continue with the version that wrote it",
                      file.path(), detail::shown(format), detail::checkpoint_format));
    std::vector<std::pair<std::string_view, std::span<const std::byte>>> hashed;
    for (const auto& t : file.tensors()) hashed.emplace_back(t.name, t.bytes);
    const std::string is = detail::hash_text(detail::checkpoint_hash(file.metadata(), std::move(hashed)));
    const std::string& was = text_of(file, "hash");
    if (is != was)
      throw damaged(fmt::format("boot: '{}' was written with hash {} and reads back with {}; its contents are damaged",
                                file.path(), was, is));
  }

  template <class N>
  static N number_of(const safetensors_file& file, const std::string& name) {
    const std::string key = std::string(detail::number_prefix) + name;
    if (file.metadata().find(key) == file.metadata().end())
      throw refused(
          fmt::format("boot: checkpoint '{}' has no number '{}'; it was written by another objective or version",
                      file.path(), name));
    const std::string& text = text_of(file, key);
    N value{};
    const char* const last = text.data() + text.size();
    const auto r = std::from_chars(text.data(), last, value);
    if (r.ec != std::errc() || r.ptr != last)
      throw damaged(fmt::format("boot: number '{}' of checkpoint '{}' is {}; it cannot be read", name, file.path(),
                                detail::shown(text)));
    return value;
  }
  void fill(const safetensors_file& file, training_state& state) const {
    if (!options_.ignore_configuration) check_configuration(file, state);
    check_arrays(file, state);
    std::vector<std::variant<std::int64_t, double>> numbers;
    for (const auto& n : state.numbers)
      numbers.push_back(std::visit(
          [&](auto* v) -> std::variant<std::int64_t, double> {
            return number_of<std::remove_pointer_t<decltype(v)>>(file, n.name);
          },
          n.value));
    // Everything fits: from here on nothing can fail.
    for (std::size_t i = 0; i < numbers.size(); ++i)
      std::visit([&](auto* v) { *v = std::get<std::remove_pointer_t<decltype(v)>>(numbers[i]); },
                 state.numbers[i].value);
    for (const auto& a : state.arrays) {
      const auto from = file.find(a.name)->bytes;
      if (!from.empty()) std::memcpy(a.bytes.data(), from.data(), from.size());
    }
  }
  static void check_configuration(const safetensors_file& file, const training_state& state) {
    std::string differences;
    const auto differs = [&](std::string_view field, std::string_view there, std::string_view here) {
      differences +=
          fmt::format("{}{} is {} in the checkpoint, {} now", differences.empty() ? "" : "; ", field, there, here);
    };
    const std::string prefix(detail::configuration_prefix);
    for (const auto& [field, here] : state.configuration) {
      const auto it = file.metadata().find(prefix + field);
      if (it == file.metadata().end()) {
        differs(field, "not there", here);
      } else if (it->second != here) {
        differs(field, it->second, here);
      }
    }
    for (const auto& [key, there] : file.metadata()) {
      if (key.compare(0, prefix.size(), prefix) != 0) continue;
      const std::string_view field = std::string_view(key).substr(prefix.size());
      if (std::none_of(state.configuration.begin(), state.configuration.end(),
                       [&](const auto& c) { return c.first == field; }))
        differs(field, there, "not there");
    }
    if (!differences.empty())
      throw refused(
          fmt::format("boot: checkpoint '{}' is of a run with another configuration: {}. Use the same options, "
                      "another folder, or set ignore_configuration = true to continue anyway",
                      file.path(), differences));
  }
  static void check_arrays(const safetensors_file& file, const training_state& state) {
    std::string wrong;
    int count = 0;
    const auto add = [&](const std::string& text) {
      if (++count <= 4) wrong += (wrong.empty() ? "" : "; ") + text;
    };
    for (const auto& a : state.arrays) {
      const safetensors_tensor* t = file.find(a.name);
      if (t == nullptr) {
        add(fmt::format("'{}' is missing", a.name));
      } else if (t->shape != detail::extents_of_state(a.extents) || t->dtype != detail::dtype_of(a.type)) {
        add(fmt::format("'{}' is {} {} in the checkpoint, {} {} now", a.name, to_string(t->dtype),
                        detail::extents_text(t->shape), to_string(detail::dtype_of(a.type)), to_string(a.extents)));
      }
    }
    for (const auto& t : file.tensors())
      if (std::none_of(state.arrays.begin(), state.arrays.end(), [&](const auto& a) { return a.name == t.name; }))
        add(fmt::format("{} has no place now", detail::shown(t.name)));
    if (count > 0)
      throw refused(
          fmt::format("boot: checkpoint '{}' does not fit this run: {}{}. Build the student, the averages and the "
                      "objective as they were, or choose another folder",
                      file.path(), wrong, count > 4 ? fmt::format("; and {} more", count - 4) : ""));
  }

  std::string folder_;
  checkpoint_options options_;
};

}  // namespace boot::inline v0
