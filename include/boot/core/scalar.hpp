// SPDX-License-Identifier: MIT
/// Element types: float, double and bf16 (storage only), and the concept that names them.
#pragma once

#include <boot/config.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

/// Storage-only bfloat16: the upper half of a float, rounded to nearest even. Same layout as __nv_bfloat16.
struct alignas(2) bf16 {
  std::uint16_t bits;  ///< sign, 8 exponent bits, 7 mantissa bits

  bf16() = default;
  /// Rounds to nearest even; NaN becomes the quiet NaN 0x7fff.
  BOOT_HD constexpr explicit bf16(float value) noexcept : bits(round(value)) {}
  /// Exact.
  BOOT_HD constexpr explicit operator float() const noexcept {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
  }
  /// The bits of `value` rounded to nearest even.
  BOOT_HD static constexpr std::uint16_t round(float value) noexcept {
#if BOOT_DEVICE_CODE
    if (!__builtin_is_constant_evaluated()) {  // one instruction on sm_80 and later
      std::uint16_t r;
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(value));
      return r;
    }
#endif
    const std::uint32_t u = __builtin_bit_cast(std::uint32_t, value);
    const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (u & 0x7fffffffu) > 0x7f800000u ? static_cast<std::uint16_t>(0x7fff) : static_cast<std::uint16_t>(rounded);
  }
};
static_assert(sizeof(bf16) == 2 && static_cast<float>(bf16{1.5f}) == 1.5f);

/// What a kernel may compute in.
template <class T>
concept ComputeScalar = std::same_as<T, float> || std::same_as<T, double>;

/// What a tensor of numbers may store.
template <class T>
concept StorageScalar = ComputeScalar<T> || std::same_as<T, bf16>;

/// The type a stored element is computed in: double for double, else float.
template <StorageScalar T>
using compute_type = std::conditional_t<std::same_as<T, double>, double, float>;

/// Writes `value` into `target`, rounding where the storage is narrower.
BOOT_HD constexpr void store(float& target, float value) noexcept { target = value; }
/// \copydoc store(float&, float)
BOOT_HD constexpr void store(double& target, double value) noexcept { target = value; }
/// \copydoc store(float&, float)
BOOT_HD constexpr void store(bf16& target, float value) noexcept { target.bits = bf16::round(value); }

}  // namespace boot::inline v0
