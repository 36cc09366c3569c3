// SPDX-License-Identifier: MIT
/// Small safetensors files, sound and broken, from which the fuzz target starts; the unit tests read them too.
#pragma once

#include <boot/io/safetensors_writer.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace boot_fuzz {

/// A file made of a header text and data, its length field right.
inline std::string file_of(std::string_view header, std::string_view data = {}) {
  const std::uint64_t n = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &n, 8);
  return file.append(header).append(data);
}

struct seed {
  const char* name;
  bool sound;  ///< the reader must accept it
  std::string bytes;
};

inline std::vector<seed> seeds() {
  using boot::file_dtype;
  const std::array<float, 6> floats{1.0f, -2.5f, 3e38f, 0.0f, 1e-40f, 7.0f};
  const std::array<double, 2> doubles{0.5, -1e-300};
  const std::array<std::int64_t, 1> count{-7};
  const std::array<std::uint8_t, 4> bytes{0, 1, 1, 0};
  std::vector<boot::safetensors_entry> all;
  all.push_back(boot::entry_of<float>("layers.0.weight", {2, 3}, floats));
  all.push_back(boot::entry_of_floats("layers.0.half", {6}, floats, file_dtype::f16));
  all.push_back(boot::entry_of_floats("layers.0.brain", {3, 2}, floats, file_dtype::bf16));
  all.push_back(boot::entry_of<double>("doubles", {2}, doubles));
  all.push_back(boot::entry_of<std::int64_t>("count", {}, count));
  all.push_back(boot::entry_of<float>("nothing", {0, 5}, {}));
  all.push_back({"mask", file_dtype::boolean, {4}, std::as_bytes(std::span(bytes)), false});
  all.push_back({"tiny \"quoted\" \xc3\xa9", file_dtype::f4, {2, 4}, std::as_bytes(std::span(bytes)), false});
  all.push_back({"six", file_dtype::f6_e2m3, {4}, std::as_bytes(std::span(bytes)).first(3), false});
  const std::string sound = boot::safetensors_bytes(all, {{"format", "pt"}, {"note", "two\nlines"}});
  return {
      {"everything", true, sound},
      {"empty", true, boot::safetensors_bytes({})},
      {"metadata", true, boot::safetensors_bytes({}, {{"framework", "pt"}})},
      {"null_metadata", true, file_of(R"({"__metadata__":null})")},
      {"spaces", true, file_of(" \t\r\n{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}} \t\r\n", "xy")},
      {"extra_field", true,
       file_of(R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"more":[{"b":[1,-2.5,null,true,"c"]}]}})", "x")},
      {"order", true,
       file_of(
           R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"data_offsets":[0,1],"shape":[1],"dtype":"I8"}})",
           "xy")},
      {"escapes", true,
       file_of(R"({"\u0061\ud83d\ude00\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x")},
      {"short", false, sound.substr(0, 7)},
      {"cut", false, sound.substr(0, sound.size() - 1)},
      {"tail", false, sound + "x"},
      {"hole", false,
       file_of(
           R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
           "xyz")},
      {"overlap", false,
       file_of(
           R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
           "xyz")},
      {"overflow", false,
       file_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", "abcd")},
      {"sub_byte", false, file_of(R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", "x")},
      {"twice", false,
       file_of(
           R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
           "x")},
      {"bomb", false, file_of(std::string(5000, '['))},
      {"nested", false, file_of(R"({"a":{"x":)" + std::string(3000, '['))},
      {"nul_padding", false, file_of(std::string("{}\0\0\0\0\0\0", 8))},
  };
}

}  // namespace boot_fuzz
