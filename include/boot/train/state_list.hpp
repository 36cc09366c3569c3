// SPDX-License-Identifier: MIT
/// Collects the parts of a training state wherever they live, through host memory where the device has its own.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>
#include <boot/io/os_file.hpp>
#include <boot/tensor/parameter.hpp>
#include <boot/train/training_state.hpp>

#include <fmt/core.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// The state's arrays and numbers, and the visitor an objective's visit_state() is given. On the host the arrays point
/// into the live memory; elsewhere download() fetches copies and upload() puts them back.
template <ComputeScalar T, Device D>
class state_list {
 public:
  /// An empty list of arrays that lie on `dev`.
  explicit state_list(const D& dev) : dev_(dev) {}

  /// One flat array of a parameter layout, cut into its parameters.
  void add_parameters(const std::string& prefix, const parameter_layout& layout, view<T, D> flat) {
    std::byte* const host = host_of(flat);
    for (const auto& e : layout.entries())
      arrays_.push_back({prefix + e.name,
                         e.extents,
                         type_of<T>(),
                         {host + static_cast<std::size_t>(e.offset) * sizeof(T),
                          static_cast<std::size_t>(e.extents.size()) * sizeof(T)}});
  }
  /// An objective's counter.
  void operator()(std::string_view name, std::int64_t& value) { numbers_.push_back({own(name), &value}); }
  /// An objective's number.
  void operator()(std::string_view name, double& value) { numbers_.push_back({own(name), &value}); }
  /// An objective's array.
  template <class U>
  void operator()(std::string_view name, view<U, D> values) {
    arrays_.push_back({own(name),
                       values.extents(),
                       type_of<U>(),
                       {host_of(values), static_cast<std::size_t>(values.size()) * sizeof(U)}});
  }
  /// Adds everything to a state; the copies stay here.
  void move_to(training_state& state) {
    for (auto& a : arrays_) state.arrays.push_back(std::move(a));
    for (auto& n : numbers_) state.numbers.push_back(std::move(n));
  }
  /// Device to host, before a save.
  void download() {
    for (auto& s : staged_) copy_to_host(dev_, s.device, s.host.data(), s.host.size());
  }
  /// Host to device, after a restore.
  void upload() {
    for (auto& s : staged_) copy_from_host(dev_, s.host.data(), s.device, s.host.size());
  }

 private:
  struct staged {
    void* device;
    std::vector<std::byte> host;
  };
  [[nodiscard]] static std::string own(std::string_view name) { return "objective." + std::string(name); }
  template <class U>
  [[nodiscard]] static constexpr state_type type_of() noexcept {
    static_assert(
        std::same_as<U, float> || std::same_as<U, double> || std::same_as<U, std::int64_t>,
        "boot: a training state holds arrays of float, double and std::int64_t; let visit_state() name one of "
        "these");
    return std::same_as<U, float>    ? state_type::float32
           : std::same_as<U, double> ? state_type::float64
                                     : state_type::int64;
  }
  template <class U>
  std::byte* host_of(view<U, D> v) {
    if constexpr (std::same_as<D, cpu>) {
      return reinterpret_cast<std::byte*>(v.data());
    } else {
      staged_.push_back({v.data(), std::vector<std::byte>(static_cast<std::size_t>(v.size()) * sizeof(U))});
      return staged_.back().host.data();
    }
  }

  D dev_;
  std::vector<state_array> arrays_;
  std::vector<state_number> numbers_;
  std::deque<staged> staged_;  // addresses stay
};

namespace detail {

/// Makes a folder and those above it; throws boot::error when one cannot be made.
inline void make_folders(const std::string& path) {
#if BOOT_HAS_POSIX
  for (std::size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0777) == 0) continue;
    const int code = errno;  // some systems check the right to write before they see that it is there
    if (kind_of(part) == path_kind::missing) fail_file("make folder", part, code);
  }
  require(kind_of(path) == path_kind::folder, "boot: '{}' is not a folder; give the name of one, or remove the file",
          path);
#else
  static_cast<void>(path);
#endif
}

/// What must be equal for two runs to be the same, field by field.
template <class Options>
[[nodiscard]] std::vector<std::pair<std::string, std::string>> configuration_of(const Options& o,
                                                                                const parameter_layout& layout) {
  std::vector<std::pair<std::string, std::string>> all;
  const auto add = [&](std::string name, const auto& value) {
    all.emplace_back(std::move(name), fmt::format("{}", value));
  };
  add("steps", o.steps);
  add("batch", o.batch);
  add("accumulation", o.accumulation);
  add("seed", o.seed);
  add("max_skips", o.max_skips);
  add("log_every", o.log_every);
  add("rate.peak", o.rate.peak);
  add("rate.warmup_steps", o.rate.warmup_steps);
  add("rate.decay", static_cast<int>(o.rate.decay));
  add("rate.final_share", o.rate.final_share);
  add("optimizer.beta1", o.optimizer.beta1);
  add("optimizer.beta2", o.optimizer.beta2);
  add("optimizer.epsilon", o.optimizer.epsilon);
  add("optimizer.weight_decay", o.optimizer.weight_decay);
  add("optimizer.clip_norm", o.optimizer.clip_norm);
  for (std::size_t i = 0; i < o.optimizer.averages.size(); ++i) {
    const std::string name = fmt::format("optimizer.averages[{}].", i);
    add(name + "decay", o.optimizer.averages[i].decay);
    add(name + "warmup", o.optimizer.averages[i].warmup);
    add(name + "relative_width", o.optimizer.averages[i].relative_width);
  }
  for (const auto& g : layout.groups()) {
    std::int64_t parameters = 0;
    for (const auto& e : layout.entries())
      if (&layout.groups()[static_cast<std::size_t>(e.group)] == &g) parameters += e.extents.size();
    add("parameter group '" + g.name + "'", fmt::format("{} numbers, {}, weight decay x {}, rate x {}", parameters,
                                                        g.trainable ? "trained" : "frozen", g.weight_decay, g.rate));
  }
  return all;
}

}  // namespace detail

}  // namespace boot::inline v0
