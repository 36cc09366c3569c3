// SPDX-License-Identifier: MIT
/// Parses and checks the header of a safetensors file; used by io/safetensors.hpp, which is the public door.
#pragma once

#include <boot/core/error.hpp>
#include <boot/io/file_dtype.hpp>
#include <boot/io/json_text.hpp>
#include <boot/io/safetensors_writer.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0::detail {

/// A tensor as the header describes it.
struct header_tensor {
  std::string name;
  std::optional<file_dtype> dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
};

template <class... Args>
[[noreturn]] void bad_safetensors(const std::string& path, fmt::format_string<Args...> text, Args&&... args) {
  fail("boot: '{}' is not a valid safetensors file: {}. Fetch it again, or write it again with a current tool", path,
       fmt::format(text, std::forward<Args>(args)...));
}

/// The JSON text inside a file; checks the length field and the characters.
[[nodiscard]] inline std::string_view safetensors_header_text(std::string_view file, const std::string& path) {
  if (file.size() < 8) bad_safetensors(path, "it has {} bytes, the length of the header alone takes 8", file.size());
  std::uint64_t n = 0;
  std::memcpy(&n, file.data(), 8);
  if (n > safetensors_header_limit)
    bad_safetensors(path, "its first 8 bytes announce a header of {} bytes, at most {} are allowed", n,
                    safetensors_header_limit);
  if (n > file.size() - 8)
    bad_safetensors(path, "its first 8 bytes announce a header of {} bytes, but only {} bytes follow", n,
                    file.size() - 8);
  const std::string_view header = file.substr(8, static_cast<std::size_t>(n));
  if (const std::size_t at = utf8_error(header); at != std::string_view::npos)
    bad_safetensors(path, "the header must be UTF-8, its byte {} is not", at);
  if (const std::size_t at = header.find('\0'); at != std::string_view::npos)
    bad_safetensors(path, "byte {} of the header is NUL; padding must be spaces", at);
  const std::size_t first = header.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos)
    bad_safetensors(path, "the header of {} bytes is empty, the smallest is {{}}", n);
  if (header[first] != '{')
    bad_safetensors(path, "the header begins with byte 0x{:02x}, a JSON object begins with {{",
                    static_cast<unsigned>(static_cast<unsigned char>(header[first])));
  return header;
}

/// Takes the events of nlohmann's parser, which neither recurses nor builds a document: a header nested or grown to do
/// harm costs no more than its own bytes. Throws boot::error at the first thing that is not as the format asks.
class safetensors_header_reader {
 public:
  std::vector<header_tensor> tensors;
  safetensors_metadata metadata;

  explicit safetensors_header_reader(const std::string& path) : path_(path) {}

  void parse(std::string_view header) { nlohmann::json::sax_parse(header.begin(), header.end(), this); }

  bool null() {
    if (where_ == place::names && name_ == metadata_name) return true;
    return other("null");
  }
  bool boolean(bool) { return other("true or false"); }
  bool number_integer(std::int64_t) { return other("a negative number"); }
  bool number_float(double, const std::string&) { return other("a number that is no integer of 64 bits"); }
  template <class Binary>
  bool binary(Binary&) {
    return other("binary data");
  }
  bool number_unsigned(std::uint64_t value) {
    if (where_ == place::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))  // rule 10
        bad("tensor {} has an extent of {}, more than 63 bits", shown(name_), value);
      tensors.back().shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (where_ == place::offsets) {
      if (offsets_ >= 2) bad("tensor {} has more than two data_offsets, needs [begin, end]", shown(name_));
      (offsets_++ == 0 ? tensors.back().begin : tensors.back().end) = value;
      return true;
    }
    return other("a number");
  }
  bool string(std::string& value) {
    if (where_ == place::metadata) {
      metadata[name_of_text_] = std::move(value);
      return true;
    }
    if (where_ != place::entry || field_ != field::dtype) return other("a string");
    tensors.back().dtype = file_dtype_of(value);
    if (!tensors.back().dtype)
      bad("tensor {} has the unknown dtype {}; known are BOOL, F4, F6_E2M3, F6_E3M2, F8_E4M3, F8_E4M3FNUZ, F8_E5M2, "
          "F8_E5M2FNUZ, F8_E8M0, F16, BF16, F32, F64, C64, I8 to I64 and U8 to U64",
          shown(name_), shown(value));
    return true;
  }
  bool start_object(std::size_t) {
    switch (where_) {
      case place::start:
        where_ = place::names;
        return true;
      case place::names:
        if (name_ == metadata_name) {
          where_ = place::metadata;
        } else {
          where_ = place::entry;
          tensors.push_back({name_, {}, {}, 0, 0});
          seen_dtype_ = seen_shape_ = seen_offsets_ = false;
        }
        return true;
      default:
        return start_nested("an object");
    }
  }
  bool start_array(std::size_t) {
    if (where_ == place::entry && field_ == field::shape) {
      where_ = place::shape;
      return true;
    }
    if (where_ == place::entry && field_ == field::offsets) {
      where_ = place::offsets;
      offsets_ = 0;
      return true;
    }
    return start_nested("a list");
  }
  bool key(std::string& k) {
    switch (where_) {
      case place::names:
        name_ = std::move(k);
        if (name_ == metadata_name && std::exchange(seen_metadata_, true)) bad("__metadata__ is there twice");
        return true;
      case place::metadata:
        name_of_text_ = std::move(k);
        if (metadata.contains(name_of_text_)) bad("the metadata key {} is there twice", shown(name_of_text_));
        return true;
      case place::entry: {
        field_ = k == "dtype"          ? field::dtype
                 : k == "shape"        ? field::shape
                 : k == "data_offsets" ? field::offsets
                                       : field::extra;
        bool none = false;
        bool& seen = field_ == field::dtype     ? seen_dtype_
                     : field_ == field::shape   ? seen_shape_
                     : field_ == field::offsets ? seen_offsets_
                                                : none;
        if (std::exchange(seen, true)) bad("tensor {} has {} twice", shown(name_), k);
        return true;
      }
      default:
        return true;  // inside a field nobody reads
    }
  }
  bool end_object() {
    if (where_ == place::entry) {
      const char* missing = !seen_dtype_ ? "dtype" : !seen_shape_ ? "shape" : !seen_offsets_ ? "data_offsets" : nullptr;
      if (missing != nullptr)
        bad("tensor {} has no {}; dtype, shape and data_offsets are needed", shown(name_), missing);
    }
    if (where_ == place::nested) return end_nested();
    where_ = where_ == place::names ? place::end : place::names;
    return true;
  }
  bool end_array() {
    if (where_ == place::nested) return end_nested();
    if (where_ == place::offsets && offsets_ != 2)
      bad("tensor {} has {} data_offsets, needs [begin, end]", shown(name_), offsets_);
    where_ = place::entry;
    return true;
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    bad("the header is not valid JSON at its byte {}", position);
  }

 private:
  static constexpr std::string_view metadata_name = "__metadata__";
  static constexpr int depth_limit = 128;  // the reference's
  enum class place { start, names, metadata, entry, shape, offsets, nested, end };
  enum class field { dtype, shape, offsets, extra };

  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> text, Args&&... args) const {
    bad_safetensors(path_, text, std::forward<Args>(args)...);
  }
  bool start_nested(const char* what) {
    if (where_ != place::nested) other(what);
    where_ = place::nested;
    if (++nested_ + 2 > depth_limit)
      bad("an extra field of tensor {} is nested more than {} levels deep", shown(name_), depth_limit);
    return true;
  }
  bool end_nested() {
    if (--nested_ == 0) where_ = place::entry;
    return true;
  }
  /// A value nobody waits for: ignored inside an extra field, an error elsewhere.
  bool other(const char* what) const {
    switch (where_) {
      case place::start:
      case place::end:
        bad("the header is {}, an object is needed", what);
      case place::names:
        if (name_ == metadata_name) bad("__metadata__ is {}, an object of strings is needed", what);
        bad("tensor {} is {}, an object with dtype, shape and data_offsets is needed", shown(name_), what);
      case place::metadata:
        bad("the metadata {} is {}, a string is needed", shown(name_of_text_), what);
      case place::shape:
        bad("the shape of tensor {} holds {}, whole numbers from 0 are needed", shown(name_), what);
      case place::offsets:
        bad("the data_offsets of tensor {} hold {}, whole numbers from 0 are needed", shown(name_), what);
      case place::entry:
        if (field_ == field::dtype) bad("the dtype of tensor {} is {}, a string is needed", shown(name_), what);
        if (field_ != field::extra)
          bad("the {} of tensor {} is {}, a list of whole numbers is needed",
              field_ == field::shape ? "shape" : "data_offsets", shown(name_), what);
        return true;
      case place::nested:
        return true;
    }
    return true;
  }

  const std::string& path_;
  place where_ = place::start;
  field field_ = field::extra;
  std::string name_, name_of_text_;
  int nested_ = 0, offsets_ = 0;
  bool seen_metadata_ = false, seen_dtype_ = false, seen_shape_ = false, seen_offsets_ = false;
};

/// Refuses a name given twice; the reference keeps the last one, so that the bytes of the first are lost or shared.
inline void check_names(const std::vector<header_tensor>& tensors, const std::string& path) {
  std::vector<std::string_view> names;
  for (const auto& t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    bad_safetensors(path, "two tensors are called {}, each needs a name of its own", shown(*twice));
}

/// Sorts the tensors by their place and checks that they fill the data, each with the bytes its shape asks for.
inline void check_places(std::vector<header_tensor>& tensors, std::uint64_t data_bytes, const std::string& path) {
  std::sort(tensors.begin(), tensors.end(), [](const header_tensor& a, const header_tensor& b) {
    if (a.begin != b.begin) return a.begin < b.begin;
    return a.end != b.end ? a.end < b.end : a.name < b.name;
  });
  std::uint64_t filled = 0;
  for (const auto& t : tensors) {
    const std::string name = shown(t.name);
    if (t.begin != filled)
      bad_safetensors(path, "tensor {} begins at byte {} of the data, byte {} is where the tensor before it ends ({})",
                      name, t.begin, filled, t.begin < filled ? "they overlap" : "a hole lies between");
    if (t.end < t.begin)
      bad_safetensors(path, "tensor {} has data_offsets [{}, {}], the end must not lie before the begin", name, t.begin,
                      t.end);
    filled = t.end;
    std::uint64_t elements = 1, bits = 0;
    bool counted = true;
    for (const std::int64_t n : t.shape)
      counted = counted && multiply(elements, static_cast<std::uint64_t>(n), elements);
    if (!counted || !multiply(elements, static_cast<std::uint64_t>(bits_of(*t.dtype)), bits))
      bad_safetensors(path, "tensor {} has shape {} and type {}, more bits than 64 bits can count", name,
                      extents_text(t.shape), to_string(*t.dtype));
    if (bits % 8 != 0)
      bad_safetensors(path, "tensor {} of shape {} and type {} has {} bits, whole bytes are needed", name,
                      extents_text(t.shape), to_string(*t.dtype), bits);
    if (t.end - t.begin != bits / 8)
      bad_safetensors(path, "tensor {} of shape {} and type {} needs {} bytes, its data_offsets [{}, {}] give it {}",
                      name, extents_text(t.shape), to_string(*t.dtype), bits / 8, t.begin, t.end, t.end - t.begin);
  }
  if (filled != data_bytes)
    bad_safetensors(path, "the tensors take {} bytes of data, the file has {} ({})", filled, data_bytes,
                    data_bytes < filled ? "it is cut short" : "bytes are left over at its end");
}

}  // namespace boot::inline v0::detail
