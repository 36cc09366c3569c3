// SPDX-License-Identifier: MIT
/// The library's version, the one place CMake reads it from.
#pragma once

#define BOOT_VERSION_MAJOR 0
#define BOOT_VERSION_MINOR 1
#define BOOT_VERSION_PATCH 0

namespace boot::inline v0 {

/// "major.minor.patch", written into checkpoints and results.
inline constexpr const char* version_string = "0.1.0";

}  // namespace boot::inline v0
