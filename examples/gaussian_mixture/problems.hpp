// SPDX-License-Identifier: MIT
/// Problems whose teacher is exact: mixtures and one Gaussian with known trajectories.
#pragma once

#include <boot/core/random.hpp>
#include <boot/model/gaussian_mixture.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

namespace problems {

using components = std::vector<boot::mixture_component>;

/// Eight modes on a circle in the plane, deviation 0.12, unit variance per coordinate; `classes` labels of neighbouring
/// modes.
inline components circle(std::int32_t classes = 1) {
  constexpr double deviation = 0.12;
  const double radius = std::sqrt(2 * (1 - deviation * deviation));
  components modes;
  for (std::int32_t k = 0; k < 8; ++k) {
    const double angle = k * std::numbers::pi / 4;
    modes.push_back({1, {radius * std::cos(angle), radius * std::sin(angle)}, deviation, k / (8 / classes)});
  }
  return modes;
}

/// Five modes in 16 dimensions, uneven weights.
inline components five_in_16() {
  const std::vector<std::vector<double>> means = {
      {-0.079479, 0.307844, 0.370051, 0.904603, -0.100569, -0.538914, -0.088362, -0.316009, 0.648812, -0.195237,
       -0.938412, 0.220289, -0.889854, -0.467609, 0.592676, 0.576573},
      {0.705487, 0.591590, -1.471287, -0.549694, 0.540263, -0.789190, 0.868406, -0.173302, 0.337038, 0.083935, 0.272238,
       1.180973, -0.504931, 0.171011, -0.149368, 0.819596},
      {-1.607002, -0.841880, 0.795911, 1.423622, 0.098646, 0.090869, -0.149011, 0.288958, 0.108407, 0.463229, -0.082262,
       2.128046, -0.369276, 0.463992, -1.055740, -0.668315},
      {0.532769, 0.073371, -0.372839, 1.038619, 0.104041, 0.843099, 0.716049, -0.009691, -0.022024, -0.350408,
       -0.377628, -0.392105, 0.283167, -1.546967, 0.823658, -0.212993},
      {2.162813, -0.642610, -2.282700, 0.348717, -1.703241, -0.930987, -0.229351, -0.358877, -1.501053, 0.493810,
       0.909920, 0.365397, -0.120396, 0.480300, -1.027061, -1.568787}};
  const std::vector<double> deviation = {0.2, 0.25, 0.3, 0.2, 0.25}, weight = {0.1, 0.15, 0.2, 0.25, 0.3};
  components modes;
  for (std::size_t k = 0; k < means.size(); ++k) modes.push_back({weight[k], means[k], deviation[k], 0});
  return modes;
}

/// Mean and deviations of the 8-dimensional Gaussian, deviations from 0.05 to 2.
inline std::pair<std::vector<double>, std::vector<double>> wide_gaussian() {
  std::vector<double> deviation;
  for (int i = 0; i < 8; ++i) deviation.push_back(0.05 * std::pow(40.0, i / 7.0));
  return {{0.023065, 0.201201, -0.505765, 0.108369, -0.306137, 0.251805, 0.115483, 0.346539}, deviation};
}

/// Any mixture: means 0.9 normal, deviations uniform in [0.2, 0.3], weights Dirichlet(5) as five exponentials each.
inline components random_mixture(std::int64_t modes, std::int64_t dimension, std::uint64_t seed) {
  const boot::counter_key key{seed, boot::stream::test, 0};
  components all;
  for (std::int64_t k = 0; k < modes; ++k) {
    boot::mixture_component c;
    const auto sample = static_cast<std::uint64_t>(k);
    for (std::int64_t j = 0; j < dimension; ++j)
      c.mean.push_back(0.9 * static_cast<double>(boot::normal(key, sample, static_cast<std::uint64_t>(j))));
    const boot::counter_key other{seed, boot::stream::test, 1};
    c.deviation = 0.2 + 0.1 * boot::uniform_double(other, sample, 0);
    c.weight = 0;  // a sum of five exponentials is Gamma(5); normalised they are Dirichlet(5)
    for (std::uint64_t e = 1; e <= 5; ++e) c.weight -= std::log(boot::uniform_double(other, sample, e));
    all.push_back(std::move(c));
  }
  return all;
}

}  // namespace problems
