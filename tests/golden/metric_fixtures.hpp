// SPDX-License-Identifier: MIT
/// Values of the metrics from NumPy and SciPy in float64. Made by make_metric_fixtures.py; do not edit.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace golden {

/// Arguments of golden::samples().
struct set {
  std::uint64_t seed;
  int n, d, rank;
  double scale, shift;
};

inline constexpr set a{1, 200, 6, 6, 0.25, 0.5};
inline constexpr set b{2, 150, 6, 6, 0.5, 0.25};
inline constexpr set c{3, 200, 6, 6, 0.25, 0.0};
inline constexpr set wide_a{4, 9, 40, 9, 0.25, 0.5};
inline constexpr set wide_b{5, 13, 40, 5, 0.25, 0.0};
inline constexpr set flat{6, 60, 40, 3, 0.5, 0.25};
inline constexpr set lines{7, 5, 6, 6, 0.25, 0.5};

/// [n, d], row by row: the same float32 values as golden_samples() of the script.
inline std::vector<float> samples(const set& s) {
  std::uint64_t state = s.seed;
  std::vector<float> x;
  std::vector<double> hidden(static_cast<std::size_t>(s.rank));
  for (int i = 0; i < s.n; ++i) {
    for (double& h : hidden) {
      std::uint64_t total = 0;
      for (int u = 0; u < 3; ++u) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        total += state >> 48;
      }
      h = static_cast<double>(total) / 65536 - 1.5;
    }
    for (int k = 0; k < s.d; ++k) {
      double sum = 0;
      for (int j = 0; j < s.rank; ++j)
        sum += hidden[static_cast<std::size_t>(j)] * ((3 * k + 5 * j + k * j) % 7 - 3 + (k == j ? 4 : 0));
      x.push_back(static_cast<float>(s.scale * sum + s.shift * (k % 3 - 1)));
    }
  }
  return x;
}

// clang-format off
inline constexpr double frechet_a_b = 5.358305550175075;
inline constexpr double frechet_a_c = 1.0355811190970634;
inline constexpr double frechet_wide_a_wide_b = 21.574284833033957;
inline constexpr double frechet_wide_a_flat = 25.086489638283417;
inline constexpr double sliced_a_c = 0.36222199327883525;
inline constexpr double sliced_a_b = 1.111904838518481;
inline constexpr double mmd_sigma_1 = 0.06822541757237882;
inline constexpr double mmd_sigmas = 0.0351700763920042;
inline constexpr double median_bandwidth_a_b = 3.979242667679252;
inline constexpr double mmd_median_a_b = 0.10399210912560641;
inline constexpr std::array<double, 6> mean_a{
    -0.49133968353271484,
    -0.010799999237060548,
    0.576020565032959,
    -0.443125,
    0.02409322738647461,
    0.47581703186035157,
};
inline constexpr std::array<double, 36> covariance_a{
    0.27762723087879976,
    0.3601143519756179,
    0.142809436806094,
    -0.11506799902644385,
    0.18602594073102283,
    0.22183181446887454,
    0.3601143519756179,
    0.5700847541396684,
    -0.05522781743120571,
    -0.2678253115001503,
    0.12553874286404298,
    0.43076503032338015,
    0.142809436806094,
    -0.05522781743120571,
    1.2519844902797315,
    0.3713535973091812,
    0.036302570076869566,
    -0.09632418674401776,
    -0.11506799902644385,
    -0.2678253115001503,
    0.3713535973091812,
    0.8856551341042703,
    0.4294215992697859,
    -0.0035583867172151416,
    0.18602594073102283,
    0.12553874286404298,
    0.036302570076869566,
    0.4294215992697859,
    1.0117753415258512,
    0.2256378405510395,
    0.22183181446887454,
    0.43076503032338015,
    -0.09632418674401776,
    -0.0035583867172151416,
    0.2256378405510395,
    0.5735045058188795,
};
inline constexpr std::array<double, 4> precision_recall_a_b_1{
    0.805,
    0.14,
    1.32,
    0.3333333333333333,
};
inline constexpr std::array<double, 4> precision_recall_a_b_3{
    1.0,
    0.36,
    1.495,
    0.6666666666666666,
};
inline constexpr std::array<double, 4> precision_recall_a_b_5{
    1.0,
    0.47333333333333333,
    1.517,
    0.8266666666666667,
};
inline constexpr std::array<double, 4> precision_recall_wide{
    0.2222222222222222,
    0.7333333333333333,
    0.1111111111111111,
    0.03333333333333333,
};
inline constexpr std::array<double, 4> endpoint_a_c{
    1.4587071036350547,
    1.2827002595020076,
    1.3284481099361438,
    0.8793405175758428,
};
// clang-format on

}  // namespace golden
