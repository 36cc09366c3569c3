// SPDX-License-Identifier: MIT
/// Network parameters in safetensors files, one tensor per parameter under its own name, and their content hash.
#pragma once

#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>
#include <boot/io/content_hash.hpp>
#include <boot/io/safetensors.hpp>
#include <boot/tensor/parameter.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// How parameters are written.
struct save_options {
  file_dtype dtype = file_dtype::f32;                 ///< F32 (exact), BF16 or F16 (rounded to nearest even)
  safetensors_metadata metadata{{"format", "boot"}};  ///< free text beside the tensors
  std::string prefix = {};                            ///< put before every name, "student."
};

/// How parameters are read.
struct load_options {
  std::string prefix = {};  ///< of the names in the file; tensors without it are left alone
};

namespace detail {
/// "a, b, c, d, e and 3 more"
[[nodiscard]] inline std::string some_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < 5; ++i) text += (i ? ", " : "") + names[i];
  return text + (names.size() > 5 ? " and " + std::to_string(names.size() - 5) + " more" : "");
}
[[nodiscard]] inline std::vector<std::int64_t> extents_of(const shape& s) {
  std::vector<std::int64_t> extents;
  for (int i = 0; i < s.rank(); ++i) extents.push_back(s[i]);
  return extents;
}
/// The extents a parameter has in a file.
[[nodiscard]] inline std::vector<std::int64_t> file_extents(const shape& s, boot::file_order order) {
  if (order == boot::file_order::as_is) return extents_of(s);
  return {s[0], s[3], s[1], s[2]};
}
/// Copies [out, height, width, in] to [out, in, height, width], or back.
template <class T>
void copy_ohwi(const shape& s, const T* from, T* to, bool back) {
  const std::int64_t pixels = s[1] * s[2], in = s[3];
  for (std::int64_t o = 0; o < s[0]; ++o, from += pixels * in, to += pixels * in)
    for (std::int64_t p = 0; p < pixels; ++p)
      for (std::int64_t i = 0; i < in; ++i)
        if (back) {
          to[p * in + i] = from[i * pixels + p];
        } else {
          to[i * pixels + p] = from[p * in + i];
        }
}
/// A checkpoint holds a run's arrays as they lie in memory, convolutions included.
[[nodiscard]] inline bool holds_memory_order(const safetensors_file& file) {
  const auto it = file.metadata().find("format");
  return it != file.metadata().end() && it->second.compare(0, 16, "boot-checkpoint-") == 0;
}
/// What keeps a file from being read into a network, by kind.
class parameter_misfits {
 public:
  /// The network wants this name and the file has no such tensor.
  void missing(const std::string& name) { missing_.push_back("'" + name + "'"); }
  /// The file has this tensor and the network does not.
  void unexpected(const std::string& name) { unexpected_.push_back(shown(name)); }
  /// Looks at a tensor's shape, unless `fits` says that it will do, and then at its type.
  void check(const safetensors_tensor& t, const std::string& name, const std::vector<std::int64_t>& needed, bool fits) {
    if (!fits) {
      misfit_.push_back(
          fmt::format("'{}' is {} in the file, {} in the network", name, extents_text(t.shape), extents_text(needed)));
    } else if (t.dtype != file_dtype::f32 && t.dtype != file_dtype::f16 && t.dtype != file_dtype::bf16 &&
               t.dtype != file_dtype::f64) {
      foreign_.push_back(fmt::format("'{}' is {}", name, to_string(t.dtype)));
    }
  }
  /// How many names the file lacks.
  [[nodiscard]] std::size_t missing_count() const noexcept { return missing_.size(); }
  /// Throws boot::error telling all of it, with `remedy` at the end, unless there is nothing.
  void require_none(const std::string& path, const parameter_layout& layout, std::string_view remedy) const {
    std::string wrong;
    const auto add = [&](const char* what, const std::vector<std::string>& names) {
      if (!names.empty())
        wrong += fmt::format("{}{} {}: {}", wrong.empty() ? "" : "; ", names.size(), what, some_of(names));
    };
    add("missing", missing_);
    add("unexpected", unexpected_);
    add("of another shape", misfit_);
    add("not of a float type (F32, F16, BF16, F64)", foreign_);
    require(wrong.empty(), "boot: '{}' does not fit a network of {} parameters: {}. {}", path, layout.entries().size(),
            wrong, remedy);
  }

 private:
  std::vector<std::string> missing_, unexpected_, misfit_, foreign_;
};
inline void require_layout(const char* where, const parameter_layout& layout, std::int64_t elements) {
  require(elements == layout.size(),
          "boot: {} got {} values for a layout of {} elements; give the values of this network", where, elements,
          layout.size());
}
}  // namespace detail

/// The tensors of a parameter file: entries for write_safetensors(), and the numbers of those that lie in another order
/// in memory. A copy shares these numbers.
class parameter_tensors : public std::vector<safetensors_entry> {
 public:
  using std::vector<safetensors_entry>::vector;
  /// Adds a parameter's values, copied if the file has another order.
  void add(std::string name, const parameter_entry& e, std::span<const float> values, file_dtype dtype) {
    if (e.order == file_order::ohwi_as_oihw) {
      std::vector<float> copy(values.size());
      detail::copy_ohwi(e.extents, values.data(), copy.data(), false);
      values = *owned_.emplace_back(std::make_shared<const std::vector<float>>(std::move(copy)));
    }
    push_back(entry_of_floats(std::move(name), detail::file_extents(e.extents, e.order), values, dtype));
  }
  /// Adds another set, for a file that holds several; its numbers live on here.
  void append(const parameter_tensors& more) {
    insert(end(), more.begin(), more.end());
    owned_.insert(owned_.end(), more.owned_.begin(), more.owned_.end());
  }

 private:
  std::vector<std::shared_ptr<const std::vector<float>>> owned_;
};

/// The tensors of a parameter file; `values` is the flat array of the layout and must outlive them, and they must
/// outlive entries taken out of them. For files that hold more than one set, such as checkpoints.
[[nodiscard]] inline parameter_tensors parameter_entries(const parameter_layout& layout, view<const float, cpu> values,
                                                         file_dtype dtype = file_dtype::f32,
                                                         std::string_view prefix = {}) {
  detail::require_layout("parameter_entries()", layout, values.size());
  parameter_tensors tensors;
  for (const auto& e : layout.entries())
    tensors.add(std::string(prefix) + e.name, e, {values.data() + e.offset, static_cast<std::size_t>(e.extents.size())},
                dtype);
  return tensors;
}

/// Writes parameters to a safetensors file, at once or not at all. `values` is the flat array of the layout (weights,
/// or an average of them), on the host. The weights of convolutions are stored as [out, in, k, k]. Throws boot::error
/// for a wrong size, a type other than F32, BF16, F16, and disk errors.
inline void save_parameters(const std::string& path, const parameter_layout& layout, view<const float, cpu> values,
                            const save_options& options = {}) {
  write_safetensors(path, parameter_entries(layout, values, options.dtype, options.prefix), options.metadata);
}

/// Reads the parameters of a layout from an open file into `values`, the flat array of the layout. Strict: the file
/// must hold every name, in its shape and a float type, and no other name under the prefix; otherwise boot::error is
/// thrown and `values` is as it was. The weights of convolutions are [out, in, k, k] in the file, but in a checkpoint,
/// which holds arrays as they lie in memory.
inline void load_parameters(const safetensors_file& file, const parameter_layout& layout, view<float, cpu> values,
                            const load_options& options = {}) {
  detail::require_layout("load_parameters()", layout, values.size());
  const bool as_in_memory = detail::holds_memory_order(file);
  const auto order_of = [&](const parameter_entry& e) { return as_in_memory ? file_order::as_is : e.order; };
  detail::parameter_misfits misfits;
  std::vector<std::string> wanted;
  for (const auto& e : layout.entries()) {
    wanted.push_back(options.prefix + e.name);
    const safetensors_tensor* t = file.find(wanted.back());
    if (t == nullptr) {
      misfits.missing(wanted.back());
    } else {
      const auto needed = detail::file_extents(e.extents, order_of(e));
      misfits.check(*t, wanted.back(), needed, t->shape == needed);
    }
  }
  std::sort(wanted.begin(), wanted.end());
  for (const auto& t : file.tensors())
    if (t.name.compare(0, options.prefix.size(), options.prefix) == 0 &&
        !std::binary_search(wanted.begin(), wanted.end(), t.name))
      misfits.unexpected(t.name);
  misfits.require_none(file.path(), layout,
                       misfits.missing_count() == layout.entries().size()
                           ? "Use the network the file was written for, or give the prefix of its names"
                           : "Use the network the file was written for");
  std::vector<float> staged(static_cast<std::size_t>(layout.size()), 0.0f);
  std::vector<float> other;
  for (const auto& e : layout.entries()) {
    const auto n = static_cast<std::size_t>(e.extents.size());
    const auto place = std::span<float>(staged).subspan(static_cast<std::size_t>(e.offset), n);
    if (order_of(e) == file_order::as_is) {
      file.read_floats(file.at(options.prefix + e.name), place);
    } else {
      other.resize(n);
      file.read_floats(file.at(options.prefix + e.name), other);
      detail::copy_ohwi(e.extents, other.data(), place.data(), true);
    }
  }
  if (!staged.empty()) copy_bytes(cpu{}, staged.data(), values.data(), staged.size() * sizeof(float));
}

/// Reads the parameters of a network from a file, see load_parameters(file, layout, values, options).
inline void load_parameters(const std::string& path, parameter_arena<float, cpu>& arena,
                            const load_options& options = {}) {
  load_parameters(safetensors_file::open(path), arena.layout(), arena.values(), options);
}

/// The same with values on any device.
template <Device D>
void save_parameters(const D& dev, const std::string& path, const parameter_layout& layout, view<const float, D> values,
                     const save_options& options = {}) {
  const std::vector<float> host = to_host(dev, values);
  save_parameters(path, layout, view<const float, cpu>(host.data(), values.extents()), options);
}
/// The same into parameters on any device; where the file does not fit they are as they were.
template <Device D>
void load_parameters(const D& dev, const std::string& path, parameter_arena<float, D>& arena,
                     const load_options& options = {}) {
  std::vector<float> host =
      to_host(dev, view<const float, D>(arena.values()));  // what lies between the parameters stays
  const view<float, cpu> values(host.data(), arena.values().extents());
  load_parameters(safetensors_file::open(path), arena.layout(), values, options);
  copy_from_host(dev, host.data(), arena.values().data(), host.size() * sizeof(float));
  synchronize(dev);  // `host` ends here
}

/// Hash of names, shapes and values: equal for equal networks wherever they lie; the key of cached samples.
[[nodiscard]] inline std::uint64_t content_hash(const parameter_layout& layout, view<const float, cpu> values) {
  detail::require_layout("content_hash()", layout, values.size());
  std::uint64_t h = layout.entries().size();
  for (const auto& e : layout.entries()) {
    h = content_hash(std::as_bytes(std::span<const char>(e.name)), h);
    const auto extents = detail::extents_of(e.extents);
    h = content_hash(std::as_bytes(std::span<const std::int64_t>(extents)), h);
    const std::span<const float> part(values.data() + e.offset, static_cast<std::size_t>(e.extents.size()));
    h = content_hash(std::as_bytes(part), h);
  }
  return h;
}

}  // namespace boot::inline v0
