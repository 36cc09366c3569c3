// SPDX-License-Identifier: MIT
/// Reads safetensors files: mapped into memory, every rule of the format checked before the first value is handed out.
#pragma once

#include <boot/core/error.hpp>
#include <boot/io/file.hpp>
#include <boot/io/file_dtype.hpp>
#include <boot/io/safetensors_header.hpp>
#include <boot/io/safetensors_writer.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// One tensor of a safetensors file. `bytes` points into the file and lives as long as it; it may be unaligned.
struct safetensors_tensor {
  std::string name;                  ///< as in the file
  file_dtype dtype{};                ///< element type
  std::vector<std::int64_t> shape;   ///< extents, any rank; none for a single number
  std::span<const std::byte> bytes;  ///< elements, row-major, little-endian
};

/// A safetensors file, read-only. Move-only. Opening checks everything but the values themselves: lengths, UTF-8, JSON,
/// types, names given twice, shapes that overflow, holes and overlaps. What is wrong is thrown as boot::error naming
/// the file and the tensor. Source of the format: safetensors, README and `safetensors/src/tensor.rs`.
class safetensors_file {
 public:
  /// Maps and checks a file.
  [[nodiscard]] static safetensors_file open(const std::string& path) {
    safetensors_file f;
    f.map_ = mapped_file(path);
    f.read(f.map_.bytes(), path);
    return f;
  }
  /// Checks a file that is already in memory and must stay there; `name` is for messages.
  [[nodiscard]] static safetensors_file from_bytes(std::span<const std::byte> bytes,
                                                   const std::string& name = "(memory)") {
    safetensors_file f;
    f.read(bytes, name);
    return f;
  }
  safetensors_file(safetensors_file&&) noexcept = default;
  safetensors_file& operator=(safetensors_file&&) noexcept = default;

  /// All tensors in the order of their bytes.
  [[nodiscard]] const std::vector<safetensors_tensor>& tensors() const noexcept { return tensors_; }
  /// The free text.
  [[nodiscard]] const safetensors_metadata& metadata() const noexcept { return metadata_; }
  /// The path, or the name given with the bytes.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// The tensor called `name`, or null.
  [[nodiscard]] const safetensors_tensor* find(std::string_view name) const noexcept {
    const auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                     [this](std::size_t i, std::string_view n) { return tensors_[i].name < n; });
    return it != by_name_.end() && tensors_[*it].name == name ? &tensors_[*it] : nullptr;
  }
  /// The tensor called `name`; throws boot::error when there is none.
  [[nodiscard]] const safetensors_tensor& at(std::string_view name) const {
    const safetensors_tensor* t = find(name);
    if (t != nullptr) return *t;
    std::string names;
    for (std::size_t i = 0; i < by_name_.size() && i < 5; ++i)
      names += (i ? ", " : ": ") + detail::shown(tensors_[by_name_[i]].name);
    fail("boot: '{}' has no tensor {}; it holds {}{}{}. Check the name and its prefix", path_, detail::shown(name),
         tensors_.size(), names, by_name_.size() > 5 ? ", ..." : "");
  }

  /// The elements of an F32, F16, BF16 or F64 tensor as floats, doubles rounded. Throws boot::error for other types,
  /// and for a finite double beyond the range of float.
  [[nodiscard]] std::vector<float> read_floats(std::string_view name) const {
    const safetensors_tensor& t = at(name);
    std::vector<float> values(t.bytes.size() * 8 / static_cast<std::size_t>(bits_of(t.dtype)));
    read_floats(t, values);
    return values;
  }
  /// \copydoc read_floats
  void read_floats(const safetensors_tensor& t, std::span<float> out) const {
    const std::size_t count = t.bytes.size() * 8 / static_cast<std::size_t>(bits_of(t.dtype));
    require(out.size() == count, "boot: tensor {} of '{}' has {} elements, room was given for {}",
            detail::shown(t.name), path_, count, out.size());
    const std::byte* from = t.bytes.data();
    const auto each = [&](auto sample, auto convert) {
      for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(&sample, from + i * sizeof sample, sizeof sample);
        out[i] = convert(sample);
      }
    };
    switch (t.dtype) {
      case file_dtype::f32:
        if (count > 0) std::memcpy(out.data(), from, t.bytes.size());
        break;
      case file_dtype::f16:
        each(std::uint16_t{}, [](std::uint16_t h) { return half_to_float(h); });
        break;
      case file_dtype::bf16:
        each(std::uint16_t{},
             [](std::uint16_t h) { return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16); });
        break;
      case file_dtype::f64:
        each(double{}, [&](double v) {
          const float f = static_cast<float>(v);
          const bool infinite = (std::bit_cast<std::uint32_t>(f) & 0x7fffffffu) == 0x7f800000u;
          require(!infinite || (std::bit_cast<std::uint64_t>(v) & ~(std::uint64_t{1} << 63)) == 0x7ff0000000000000u,
                  "boot: tensor {} of '{}' holds {}, beyond the range of float; use read<double>()",
                  detail::shown(t.name), path_, v);
          return f;
        });
        break;
      default:
        fail(
            "boot: tensor {} of '{}' has type {}, floats are made of F32, F16, BF16 and F64 only; read it with its own "
            "type or convert the file",
            detail::shown(t.name), path_, to_string(t.dtype));
    }
  }
  /// The elements of a tensor whose type is exactly T's; throws boot::error for any other. BOOL reads as std::uint8_t.
  template <FileScalar T>
  [[nodiscard]] std::vector<T> read(std::string_view name) const {
    const safetensors_tensor& t = at(name);
    constexpr file_dtype wanted = file_dtype_for<T>;
    require(t.dtype == wanted || (wanted == file_dtype::u8 && t.dtype == file_dtype::boolean),
            "boot: tensor {} of '{}' has type {}, {} was asked for; read it with its own type", detail::shown(name),
            path_, to_string(t.dtype), to_string(wanted));
    std::vector<T> values(t.bytes.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), t.bytes.data(), t.bytes.size());
    return values;
  }

 private:
  safetensors_file() = default;

  void read(std::span<const std::byte> file, const std::string& path) {
    path_ = path;
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    const std::string_view header = detail::safetensors_header_text(text, path);
    detail::safetensors_header_reader reader(path);
    reader.parse(header);
    metadata_ = std::move(reader.metadata);
    auto& found = reader.tensors;
    detail::check_names(found, path);
    const std::uint64_t data_begin = 8 + header.size();
    detail::check_places(found, file.size() - data_begin, path);
    for (auto& t : found)
      tensors_.push_back(
          {std::move(t.name), *t.dtype, std::move(t.shape),
           file.subspan(static_cast<std::size_t>(data_begin + t.begin), static_cast<std::size_t>(t.end - t.begin))});
    for (std::size_t i = 0; i < tensors_.size(); ++i) by_name_.push_back(i);
    std::sort(by_name_.begin(), by_name_.end(),
              [this](std::size_t a, std::size_t b) { return tensors_[a].name < tensors_[b].name; });
  }

  std::string path_;
  mapped_file map_;
  safetensors_metadata metadata_;
  std::vector<safetensors_tensor> tensors_;
  std::vector<std::size_t> by_name_;
};

}  // namespace boot::inline v0
