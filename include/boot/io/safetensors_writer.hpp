// SPDX-License-Identifier: MIT
/// Writes safetensors files: tensors sorted by type and name, no holes, the data 8-aligned, the file replaced at once.
#pragma once

#include <boot/core/error.hpp>
#include <boot/core/scalar.hpp>
#include <boot/io/file.hpp>
#include <boot/io/file_dtype.hpp>
#include <boot/io/json_text.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

static_assert(std::endian::native == std::endian::little,
              "boot: safetensors files are little-endian, and so must be the machine");

/// Free text beside the tensors: key to value.
using safetensors_metadata = std::map<std::string, std::string, std::less<>>;

/// One tensor to write. `bytes` must stay alive until the file is written.
struct safetensors_entry {
  std::string name;                  ///< UTF-8, unique in the file
  file_dtype dtype{};                ///< type in the file
  std::vector<std::int64_t> shape;   ///< extents; none for a single number
  std::span<const std::byte> bytes;  ///< elements, row-major
  bool floats = false;               ///< `bytes` are floats, to be rounded to `dtype` (F32, BF16 or F16) while writing
};

/// An entry whose elements have the type they are stored as.
template <FileScalar T>
[[nodiscard]] safetensors_entry entry_of(std::string name, std::vector<std::int64_t> shape, std::span<const T> values) {
  return {std::move(name), file_dtype_for<T>, std::move(shape), std::as_bytes(values), false};
}
/// An entry of floats stored as `storage`: F32, BF16 or F16, rounded to nearest even.
[[nodiscard]] inline safetensors_entry entry_of_floats(std::string name, std::vector<std::int64_t> shape,
                                                       std::span<const float> values, file_dtype storage) {
  return {std::move(name), storage, std::move(shape), std::as_bytes(values), true};
}

namespace detail {
inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;

[[nodiscard]] inline bool multiply(std::uint64_t a, std::uint64_t b, std::uint64_t& product) noexcept {
  if (a != 0 && b > ~std::uint64_t{0} / a) return false;
  product = a * b;
  return true;
}
template <class Shape>
[[nodiscard]] std::string extents_text(const Shape& s) {
  std::string text = "[";
  for (std::size_t i = 0; i < s.size() && i < 16; ++i) text += (i ? ", " : "") + std::to_string(s[i]);
  return text + (s.size() > 16 ? ", ...]" : "]");
}

/// Bytes of `e` in the file; throws boot::error when the entry is not sound.
[[nodiscard]] inline std::uint64_t entry_bytes(const safetensors_entry& e) {
  const std::string name = shown(e.name);
  require(utf8_error(e.name) == std::string_view::npos,
          "boot: tensor name {} is not UTF-8 at byte {}; safetensors names must be", name, utf8_error(e.name));
  require(e.name != "__metadata__",
          "boot: a tensor cannot be called '__metadata__'; the format keeps that name for itself");
  std::uint64_t elements = 1, bits = 0;
  for (const std::int64_t n : e.shape) {
    require(n >= 0, "boot: tensor {} has shape {}; extents cannot be negative", name, extents_text(e.shape));
    require(multiply(elements, static_cast<std::uint64_t>(n), elements),
            "boot: tensor {} has shape {}: more elements than 64 bits can count", name, extents_text(e.shape));
  }
  require(multiply(elements, static_cast<std::uint64_t>(bits_of(e.dtype)), bits),
          "boot: tensor {} has shape {}: more bits than 64 bits can count", name, extents_text(e.shape));
  require(bits % 8 == 0, "boot: tensor {} of shape {} and type {} has {} bits; the total must be whole bytes, pad it",
          name, extents_text(e.shape), to_string(e.dtype), bits);
  require(!e.floats || e.dtype == file_dtype::f32 || e.dtype == file_dtype::bf16 || e.dtype == file_dtype::f16,
          "boot: tensor {}: floats cannot be stored as {}; choose F32, BF16 or F16", name, to_string(e.dtype));
  const std::uint64_t given = e.floats ? elements * sizeof(float) : bits / 8;
  require(e.bytes.size() == given, "boot: tensor {} of shape {} and type {} needs {} bytes, {} were given", name,
          extents_text(e.shape), e.floats ? "float" : to_string(e.dtype), given, e.bytes.size());
  return bits / 8;
}

/// The order in the file: wide types first, then by name.
[[nodiscard]] inline std::vector<const safetensors_entry*> file_order(std::span<const safetensors_entry> entries) {
  std::vector<const safetensors_entry*> order;
  for (const auto& e : entries) order.push_back(&e);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return a->dtype != b->dtype ? a->dtype > b->dtype : a->name < b->name;
  });
  return order;
}

/// The length field and the padded header.
[[nodiscard]] inline std::string safetensors_header(std::span<const safetensors_entry* const> order,
                                                    const safetensors_metadata& metadata) {
  std::vector<std::string_view> names;
  for (const auto* e : order) names.push_back(e->name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  require(twice == names.end(), "boot: two tensors are called {}; each needs a name of its own",
          twice == names.end() ? std::string() : shown(*twice));
  std::string text(8, '\0');
  text += '{';
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    const char* comma = "";
    for (const auto& [key, value] : metadata) {
      require(utf8_error(key) == std::string_view::npos && utf8_error(value) == std::string_view::npos,
              "boot: metadata {} is not UTF-8; safetensors metadata must be", shown(key));
      text += std::exchange(comma, ",");
      append_json_string(text, key);
      text += ':';
      append_json_string(text, value);
    }
    text += '}';
  }
  const char* comma = metadata.empty() ? "" : ",";
  std::uint64_t begin = 0;
  for (const auto* e : order) {
    const std::uint64_t end = begin + entry_bytes(*e);
    text += std::exchange(comma, ",");
    append_json_string(text, e->name);
    text += fmt::format(R"(:{{"dtype":"{}","shape":[)", to_string(e->dtype));
    for (std::size_t i = 0; i < e->shape.size(); ++i) text += fmt::format("{}{}", i > 0 ? "," : "", e->shape[i]);
    text += fmt::format(R"(],"data_offsets":[{},{}]}})", begin, end);
    begin = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t n = text.size() - 8;
  require(n <= safetensors_header_limit,
          "boot: the names, shapes and metadata take {} bytes, a safetensors header at most {}; split the file or "
          "shorten the metadata",
          n, safetensors_header_limit);
  std::memcpy(text.data(), &n, 8);
  return text;
}

/// Calls write(string_view) with the bytes of `e` as they go into the file.
template <class Write>
void write_entry(const safetensors_entry& e, const Write& write) {
  const char* from = reinterpret_cast<const char*>(e.bytes.data());
  if (!e.floats || e.dtype == file_dtype::f32) {
    if (!e.bytes.empty()) write(std::string_view(from, e.bytes.size()));
    return;
  }
  constexpr std::size_t at_once = 1 << 16;
  std::vector<std::uint16_t> narrow(at_once);
  const std::size_t count = e.bytes.size() / sizeof(float);
  for (std::size_t done = 0; done < count; done += at_once) {
    const std::size_t n = std::min(at_once, count - done);
    for (std::size_t i = 0; i < n; ++i) {
      float value;
      std::memcpy(&value, from + (done + i) * sizeof(float), sizeof value);
      narrow[i] = e.dtype == file_dtype::f16 ? float_to_half(value) : bf16::round(value);
    }
    write(std::string_view(reinterpret_cast<const char*>(narrow.data()), n * 2));
  }
}
}  // namespace detail

/// Writes a safetensors file, at once or not at all. Throws boot::error for a name given twice or not UTF-8, bytes that
/// do not fit shape and type, a header above 100,000,000 bytes, and for what the disk refuses.
inline void write_safetensors(const std::string& path, std::span<const safetensors_entry> entries,
                              const safetensors_metadata& metadata = {}) {
  const auto order = detail::file_order(entries);
  const std::string header = detail::safetensors_header(order, metadata);
  atomic_file file(path);
  file.write(std::string_view(header));
  for (const auto* e : order) detail::write_entry(*e, [&](std::string_view bytes) { file.write(bytes); });
  file.commit();
}

/// The bytes that write_safetensors() would put into a file.
[[nodiscard]] inline std::string safetensors_bytes(std::span<const safetensors_entry> entries,
                                                   const safetensors_metadata& metadata = {}) {
  const auto order = detail::file_order(entries);
  std::string text = detail::safetensors_header(order, metadata);
  for (const auto* e : order) detail::write_entry(*e, [&](std::string_view bytes) { text += bytes; });
  return text;
}

}  // namespace boot::inline v0
