// SPDX-License-Identifier: MIT
/// The digits: 1,797 images of 8x8 pixels, split once and for all into 1,297 to train on and 500 held out.
#pragma once

#include <boot/core/error.hpp>
#include <boot/core/random.hpp>
#include <boot/device/cpu.hpp>
#include <boot/tensor/tensor.hpp>

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace digits {

inline constexpr std::int64_t side = 8, pixels = side * side;
inline constexpr std::int32_t classes = 10;

/// Images in [-1, 1], [N, 64], and their classes.
struct image_set {
  boot::tensor<float, boot::cpu> images;
  std::vector<std::int32_t> labels;
};

struct data_set {
  image_set train, held_out;
};

namespace detail {

inline std::vector<std::array<int, pixels + 1>> read_csv(const std::string& path) {
  const gzFile file = gzopen(path.c_str(), "rb");
  boot::require(file != nullptr, "digits: cannot open {}; give the folder of digits.csv.gz with --data", path);
  std::vector<std::array<int, pixels + 1>> rows;
  std::array<char, 1024> line{};
  while (gzgets(file, line.data(), static_cast<int>(line.size())) != nullptr) {
    std::array<int, pixels + 1> row{};
    char* at = line.data();
    for (auto& value : row) {
      char* end = nullptr;
      value = static_cast<int>(std::strtol(at, &end, 10));
      const bool bad = end == at || value < 0 || value > 16;
      if (bad) gzclose(file);
      boot::require(!bad, "digits: line {} of {} is not 64 pixels of 0..16 and a class", rows.size() + 1, path);
      at = *end == ',' ? end + 1 : end;
    }
    rows.push_back(row);
  }
  gzclose(file);
  boot::require(rows.size() == 1797, "digits: {} holds {} images, the set has 1797", path, rows.size());
  return rows;
}

inline image_set take(const std::vector<std::array<int, pixels + 1>>& rows, const std::vector<std::size_t>& chosen) {
  image_set set{boot::tensor<float, boot::cpu>({}, {static_cast<std::int64_t>(chosen.size()), pixels}), {}};
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const auto& row = rows[chosen[i]];
    for (std::size_t p = 0; p < pixels; ++p)
      set.images.data()[i * pixels + p] = static_cast<float>(row[p]) / 8.0f - 1.0f;
    set.labels.push_back(row[pixels]);
  }
  return set;
}

}  // namespace detail

/// Reads the set and splits it class by class in fixed proportions; the split does not depend on anything but the data.
inline data_set load(const std::string& folder) {
  const auto rows = detail::read_csv(folder + "/digits.csv.gz");
  std::array<std::vector<std::size_t>, classes> by_class;
  for (std::size_t i = 0; i < rows.size(); ++i) by_class[static_cast<std::size_t>(rows[i][pixels])].push_back(i);
  std::vector<std::size_t> train, held_out;
  std::size_t seen = 0;
  for (std::size_t c = 0; c < by_class.size(); ++c) {
    auto& members = by_class[c];
    const boot::counter_key key{0, boot::stream::shuffle, c};
    for (std::size_t i = members.size(); i > 1; --i)
      std::swap(members[i - 1], members[boot::uniform_index(static_cast<std::uint32_t>(i), key, 0, i)]);
    // Rounding of the running total gives exactly 500 in all.
    const std::size_t before = seen * 500 / rows.size();
    seen += members.size();
    const std::size_t count = seen * 500 / rows.size() - before;
    held_out.insert(held_out.end(), members.begin(), members.begin() + static_cast<std::ptrdiff_t>(count));
    train.insert(train.end(), members.begin() + static_cast<std::ptrdiff_t>(count), members.end());
  }
  std::sort(train.begin(), train.end());
  std::sort(held_out.begin(), held_out.end());
  return {detail::take(rows, train), detail::take(rows, held_out)};
}

}  // namespace digits
