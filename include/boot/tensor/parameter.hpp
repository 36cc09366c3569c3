// SPDX-License-Identifier: MIT
/// Parameters: handles inside a network, their layout in one flat array, and the arena that holds values and gradients.
#pragma once

#include <boot/core/random.hpp>
#include <boot/core/scalar.hpp>
#include <boot/tensor/tensor.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// How a fresh parameter is filled: `kind` and one number.
struct initializer {
  /// zeros; every element `value`; uniform in [-value, value); normal with standard deviation `value`.
  enum class rule { constant, uniform, normal };
  rule kind = rule::constant;  ///< which
  double value = 0;            ///< its number
};

/// In which order a parameter's numbers stand in a file.
enum class file_order {
  as_is,        ///< as in memory
  ohwi_as_oihw  ///< a convolution's weight: [out, k, k, in] in memory, [out, in, k, k] in files, as PyTorch has it
};

/// A parameter as a network holds it: what it is, and, once laid out, where it lies in every flat array.
struct parameter {
  shape extents;                         ///< its shape; rank 0 with index -1 means "not there"
  initializer init;                      ///< its first values
  int index = -1;                        ///< position in the layout, set by parameter_layout
  std::int64_t offset = 0;               ///< first element in the flat arrays, set by parameter_layout
  file_order order = file_order::as_is;  ///< its order in files
};

/// Factors shared by a set of parameters.
struct parameter_group {
  std::string name = "weights";  ///< for messages and checkpoints
  bool trainable = true;         ///< false: frozen, gets no gradient and no update
  double weight_decay = 1;       ///< multiplies the optimiser's weight decay
  double rate = 1;               ///< multiplies the learning rate
};

/// One parameter of a layout.
struct parameter_entry {
  std::string name;                      ///< dotted path, "layers.0.weight"
  shape extents;                         ///< shape
  initializer init;                      ///< first values
  std::int64_t offset = 0;               ///< first element in the flat arrays
  int group = 0;                         ///< index into groups()
  file_order order = file_order::as_is;  ///< its order in files
};

namespace detail {
/// Walks a network's visit() members and calls f(dotted name, parameter&) for each parameter.
template <class F>
class parameter_walker {
 public:
  explicit parameter_walker(F& f) : f_(f) {}
  void operator()(std::string_view name, parameter& p) { f_(path(name), p); }
  template <class Part>
  void operator()(std::string_view name, Part& part) {
    const std::string saved = std::exchange(prefix_, path(name));
    if constexpr (requires { part.visit(*this); }) {
      part.visit(*this);
    } else if constexpr (requires { part.has_value(); }) {
      prefix_ = saved;
      if (part.has_value()) (*this)(name, *part);
    } else {
      for (std::size_t i = 0; i < part.size(); ++i) (*this)(std::to_string(i), part[i]);
    }
    prefix_ = saved;
  }

 private:
  [[nodiscard]] std::string path(std::string_view name) const {
    return prefix_.empty() ? std::string(name) : prefix_ + "." + std::string(name);
  }
  F& f_;
  std::string prefix_;
};
}  // namespace detail

/// Calls f(name, parameter&) for every parameter of a network (a struct with `visit(v)`, see nn/layers.hpp).
template <class Network, class F>
void for_each_parameter(Network& network, F&& f) {
  detail::parameter_walker<std::remove_reference_t<F>> walk(f);
  network.visit(walk);
}

/// Where every parameter of one network lies in a flat array. Offsets are multiples of 64 elements, so that each
/// parameter is 128-byte aligned in bf16 and float alike, and the same in weights, gradients, moments and averages.
class parameter_layout {
 public:
  static constexpr std::int64_t alignment = 64;  ///< elements

  parameter_layout() = default;
  /// Lays the network's parameters out in the order of its visit() and writes their places into its handles.
  /// Throws boot::error when two parameters have the same name.
  template <class Network>
  requires(!std::same_as<std::remove_cv_t<Network>, parameter_layout>) explicit parameter_layout(Network& network) {
    groups_.push_back({});
    for_each_parameter(network, [this](const std::string& name, parameter& p) {
      require(find(name) < 0, "boot: two parameters are called '{}'; give each a name of its own in visit()", name);
      p.index = static_cast<int>(entries_.size());
      p.offset = size_;
      require(p.order == file_order::as_is || p.extents.rank() == 4,
              "boot: parameter '{}' of shape {} is to be stored as OIHW; that order is for shapes [out, k, k, in]",
              name, to_string(p.extents));
      entries_.push_back({name, p.extents, p.init, size_, 0, p.order});
      size_ += (p.extents.size() + alignment - 1) / alignment * alignment;
    });
  }

  /// Elements of a flat array, gaps included.
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  /// Number of parameters proper, without gaps.
  [[nodiscard]] std::int64_t count() const noexcept {
    std::int64_t n = 0;
    for (const auto& e : entries_) n += e.extents.size();
    return n;
  }
  /// All parameters, by offset.
  [[nodiscard]] const std::vector<parameter_entry>& entries() const noexcept { return entries_; }
  /// All groups; the first one is the default.
  [[nodiscard]] const std::vector<parameter_group>& groups() const noexcept { return groups_; }
  /// The group of parameter `index`.
  [[nodiscard]] const parameter_group& group_of(int index) const {
    return groups_[static_cast<std::size_t>(entries_[static_cast<std::size_t>(index)].group)];
  }
  /// Index of the parameter called `name`, or -1.
  [[nodiscard]] int find(std::string_view name) const noexcept {
    for (std::size_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].name == name) return static_cast<int>(i);
    return -1;
  }
  /// Counts the changes of groups: what was derived from an older one is out of date.
  [[nodiscard]] int revision() const noexcept { return revision_; }
  /// Puts every parameter whose name satisfies `chosen` into a new group; throws boot::error when none does.
  template <class Predicate>
  void assign_group(const parameter_group& group, const Predicate& chosen) {
    groups_.push_back(group);
    ++revision_;
    int moved = 0;
    for (auto& e : entries_)
      if (chosen(std::string_view(e.name))) {
        e.group = static_cast<int>(groups_.size()) - 1;
        ++moved;
      }
    require(moved > 0, "boot: no parameter belongs to group '{}'; names look like '{}'", group.name,
            entries_.empty() ? std::string("(none)") : entries_.front().name);
  }

 private:
  std::vector<parameter_entry> entries_;
  std::vector<parameter_group> groups_;
  std::int64_t size_ = 0;
  int revision_ = 0;
};

/// Values and gradient of one network's parameters, each one flat array on D; gaps hold zeros.
template <ComputeScalar T, Device D>
class parameter_arena {
 public:
  parameter_arena() = default;
  /// Zero values; the gradient comes with the first call of gradient().
  parameter_arena(const D& dev, parameter_layout layout)
      : layout_(std::move(layout)), values_(zeros<T>(dev, {layout_.size()})) {}

  /// Names, shapes, offsets and groups.
  [[nodiscard]] const parameter_layout& layout() const noexcept { return layout_; }
  /// \copydoc layout
  [[nodiscard]] parameter_layout& layout() noexcept { return layout_; }
  /// The flat values.
  [[nodiscard]] view<T, D> values() noexcept { return values_.get(); }
  /// \copydoc values
  [[nodiscard]] view<const T, D> values() const noexcept { return values_.get(); }
  /// The flat gradient, zero when first asked for; tapes accumulate into it.
  [[nodiscard]] view<T, D> gradient() {
    if (gradient_.size() != values_.size()) gradient_ = zeros<T>(values_.device(), values_.extents());
    return gradient_.get();
  }
  /// Values of parameter `index`.
  [[nodiscard]] view<T, D> value(int index) {
    const auto& e = layout_.entries()[static_cast<std::size_t>(index)];
    return {values_.data() + e.offset, e.extents};
  }
  /// Gradient of parameter `index`.
  [[nodiscard]] view<T, D> gradient(int index) {
    const auto& e = layout_.entries()[static_cast<std::size_t>(index)];
    return {gradient().data() + e.offset, e.extents};
  }
  /// Fills all values by their initialisers: a function of seed, position in the layout and element.
  void initialize(const D& dev, std::uint64_t seed) {
    std::vector<T> host(static_cast<std::size_t>(layout_.size()), T{0});
    for (std::size_t i = 0; i < layout_.entries().size(); ++i) {
      const auto& e = layout_.entries()[i];
      const counter_key key{seed, stream::initial, 0};
      for (std::int64_t k = 0; k < e.extents.size(); ++k) {
        double v = e.init.value;
        if (e.init.kind == initializer::rule::uniform)
          v *= 2 * static_cast<double>(uniform(key, i, static_cast<std::uint64_t>(k))) - 1;
        if (e.init.kind == initializer::rule::normal)
          v *= static_cast<double>(normal(key, i, static_cast<std::uint64_t>(k)));
        host[static_cast<std::size_t>(e.offset + k)] = static_cast<T>(v);
      }
    }
    if (!host.empty()) copy_from_host(dev, host.data(), values_.data(), host.size() * sizeof(T));
  }

 private:
  parameter_layout layout_;
  tensor<T, D> values_, gradient_;
};

/// Copies every parameter of `from` into the parameter of the same name and shape in `to`; returns how many there were.
/// Parameters of `to` that `from` lacks keep their values; one whose shape differs throws boot::error.
template <ComputeScalar T, Device D>
int copy_parameters(const D& dev, const parameter_layout& from_layout, view<const T, D> from,
                    parameter_arena<T, D>& to) {
  int copied = 0;
  for (const auto& e : from_layout.entries()) {
    const int i = to.layout().find(e.name);
    if (i < 0) continue;
    const view<T, D> target = to.value(i);
    require(target.extents() == e.extents, "boot: parameter '{}' has shape {} here and {} there; the networks differ",
            e.name, to_string(target.extents()), to_string(e.extents));
    copy(dev, view<const T, D>(from.data() + e.offset, e.extents), target);
    ++copied;
  }
  return copied;
}

}  // namespace boot::inline v0
