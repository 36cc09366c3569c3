// SPDX-License-Identifier: MIT
/// Element types of safetensors files: the 22 names, their sizes, and conversions between half precision and float.
#pragma once

#include <boot/core/scalar.hpp>

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace boot::inline v0 {

/// Element type of a stored tensor, in the order by which writers sort (last first).
/// Source: safetensors, `safetensors/src/tensor.rs`, enum Dtype.
enum class file_dtype : std::uint8_t {
  boolean,      ///< BOOL, one byte
  f4,           ///< F4, 4 bits
  f6_e2m3,      ///< F6_E2M3, 6 bits
  f6_e3m2,      ///< F6_E3M2, 6 bits
  u8,           ///< U8
  i8,           ///< I8
  f8_e5m2,      ///< F8_E5M2
  f8_e4m3,      ///< F8_E4M3
  f8_e8m0,      ///< F8_E8M0
  f8_e4m3fnuz,  ///< F8_E4M3FNUZ
  f8_e5m2fnuz,  ///< F8_E5M2FNUZ
  i16,          ///< I16
  u16,          ///< U16
  f16,          ///< F16, IEEE binary16
  bf16,         ///< BF16
  i32,          ///< I32
  u32,          ///< U32
  f32,          ///< F32
  c64,          ///< C64, two floats
  f64,          ///< F64
  i64,          ///< I64
  u64,          ///< U64
};

namespace detail {
struct dtype_row {
  std::string_view name;
  int bits;
};
inline constexpr std::array<dtype_row, 22> dtype_rows{
    {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
     {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
     {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}};
}  // namespace detail

/// Number of element types.
inline constexpr int file_dtype_count = static_cast<int>(detail::dtype_rows.size());

/// The name in files, "F32".
[[nodiscard]] constexpr std::string_view to_string(file_dtype d) noexcept {
  return detail::dtype_rows[static_cast<std::size_t>(d)].name;
}
/// Bits of one element.
[[nodiscard]] constexpr int bits_of(file_dtype d) noexcept {
  return detail::dtype_rows[static_cast<std::size_t>(d)].bits;
}
/// The type called `name` in files; nothing when there is none.
[[nodiscard]] constexpr std::optional<file_dtype> file_dtype_of(std::string_view name) noexcept {
  for (std::size_t i = 0; i < detail::dtype_rows.size(); ++i)
    if (detail::dtype_rows[i].name == name) return static_cast<file_dtype>(i);
  return std::nullopt;
}

/// The value of an IEEE binary16 pattern; exact.
[[nodiscard]] constexpr float half_to_float(std::uint16_t bits) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float tiny = static_cast<float>(fraction) * 0x1p-24f;  // zero or subnormal
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(tiny));
}

/// The IEEE binary16 pattern nearest to `value`, ties to even; 65520 and more become infinity, NaN stays NaN.
[[nodiscard]] constexpr std::uint16_t float_to_half(float value) noexcept {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(value), magnitude = u & 0x7fffffffu;
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  std::uint32_t result = 0;
  if (magnitude > 0x7f800000u) {
    const std::uint32_t payload = (magnitude >> 13) & 0x3ffu;
    result = 0x7c00u | (payload != 0 ? payload : 0x200u);
  } else if (magnitude >= 0x477ff000u) {  // 65520, half way between the largest half and 2^16
    result = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // 2^-14: normal
    const std::uint32_t shifted = magnitude - (112u << 23);
    result = (shifted + 0xfffu + ((shifted >> 13) & 1u)) >> 13;
  } else if (magnitude >= 0x33000000u) {  // 2^-25: subnormal, counted in 2^-24
    const std::uint32_t exponent = magnitude >> 23, mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t shift = 126u - exponent, rest = mantissa & ((1u << shift) - 1u), half = 1u << (shift - 1u);
    result = mantissa >> shift;
    if (rest > half || (rest == half && (result & 1u) != 0)) ++result;
  }
  return static_cast<std::uint16_t>(sign | result);
}
static_assert(float_to_half(1.0f) == 0x3c00 && half_to_float(0x3555) == 0.333251953125f);

namespace detail {
template <class T>
struct dtype_of_type {
  static constexpr bool known = false;
};
template <file_dtype d>
struct known_dtype {
  static constexpr bool known = true;
  static constexpr file_dtype value = d;
};
template <>
struct dtype_of_type<float> : known_dtype<file_dtype::f32> {};
template <>
struct dtype_of_type<double> : known_dtype<file_dtype::f64> {};
template <>
struct dtype_of_type<boot::bf16> : known_dtype<file_dtype::bf16> {};
template <>
struct dtype_of_type<std::uint8_t> : known_dtype<file_dtype::u8> {};
template <>
struct dtype_of_type<std::int8_t> : known_dtype<file_dtype::i8> {};
template <>
struct dtype_of_type<std::uint16_t> : known_dtype<file_dtype::u16> {};
template <>
struct dtype_of_type<std::int16_t> : known_dtype<file_dtype::i16> {};
template <>
struct dtype_of_type<std::uint32_t> : known_dtype<file_dtype::u32> {};
template <>
struct dtype_of_type<std::int32_t> : known_dtype<file_dtype::i32> {};
template <>
struct dtype_of_type<std::uint64_t> : known_dtype<file_dtype::u64> {};
template <>
struct dtype_of_type<std::int64_t> : known_dtype<file_dtype::i64> {};
}  // namespace detail

/// A C++ type that one element type of files equals in every bit.
template <class T>
concept FileScalar = detail::dtype_of_type<T>::known;

/// The element type of files that T is stored as.
template <FileScalar T>
inline constexpr file_dtype file_dtype_for = detail::dtype_of_type<T>::value;

}  // namespace boot::inline v0
