// SPDX-License-Identifier: MIT
/// Condition sources: their distributions, that only seed, step and sample count, their storage and their errors.
#include "support/catch.hpp"

#include <boot/objective/sources.hpp>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

using boot::cpu;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<std::int64_t> numbered(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> samples(static_cast<std::size_t>(count));
  std::iota(samples.begin(), samples.end(), first);
  return samples;
}

template <class F>
std::string message_of_source(const F& f) {
  try {
    f();
  } catch (const boot::error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("label_source: uniform over the classes, at every step anew", "[objective]") {
  constexpr std::int32_t classes = 10;
  constexpr std::int64_t n = 50000;
  boot::label_source source(classes);
  const auto samples = numbered(0, n);
  std::vector<std::int32_t> last;
  for (const std::int64_t step : {0, 1, 70000}) {
    const auto labels = source(cpu{}, 17, step, samples);
    REQUIRE(labels.ids.batch() == n);
    std::vector<double> count(classes, 0);
    std::vector<std::int32_t> now;
    for (std::int64_t i = 0; i < n; ++i) {
      REQUIRE((labels[i] >= 0 && labels[i] < classes));
      now.push_back(labels[i]);
      count[static_cast<std::size_t>(labels[i])] += 1;
    }
    double chi2 = 0;
    for (const double c : count) chi2 += std::pow(c - n / classes, 2) / (n / classes);
    REQUIRE(chi2 < 33);  // 9 degrees of freedom: 1e-4
    REQUIRE(now != last);
    last = now;
  }
  boot::label_source one(1);
  REQUIRE(one(cpu{}, 1, 0, numbered(0, 3))[2] == 0);
}

TEST_CASE("sources: a row is a function of seed, step and sample number alone", "[objective]") {
  const auto check = [](auto source, const auto& read) {
    auto other = source;
    const auto whole = source(cpu{}, 5, 9, numbered(0, 100));
    const auto part = other(cpu{}, 5, 9, numbered(40, 20));
    for (std::int64_t i = 0; i < 20; ++i) REQUIRE(read(part, i) == read(whole, 40 + i));
    const auto rows = whole.rows(40, 20);
    for (std::int64_t i = 0; i < 20; ++i) REQUIRE(read(part, i) == read(rows, i));
    const std::vector<std::int64_t> shuffled{99, 3, 3, 50};
    const auto picked = other(cpu{}, 5, 9, shuffled);
    for (std::int64_t i = 0; i < 4; ++i) REQUIRE(read(picked, i) == read(whole, shuffled[static_cast<std::size_t>(i)]));
  };
  const auto label = [](const auto& c, std::int64_t i) { return boot::condition_part<boot::class_labels<cpu>>(c)[i]; };
  const auto both = [&](const auto& c, std::int64_t i) {
    return std::pair(label(c, i), boot::condition_part<boot::guidance_scale<cpu, float>>(c)[i]);
  };
  check(boot::label_source(7), label);
  check(boot::guided_label_source(7, 1, 4), both);
  check(boot::label_table({4, 2, 0}), label);
  check(boot::guided_label_table({4, 2, 0}, {1, 2, 3}), both);
}

TEST_CASE("guided_label_source: label_source's labels, scales uniform and independent of them", "[objective]") {
  constexpr std::int64_t n = 40000;
  boot::label_source plain(4);
  boot::guided_label_source<cpu, double> source(4, 1, 4);
  const auto samples = numbered(0, n);
  const auto labels = plain(cpu{}, 3, 2, samples);
  const auto both = source(cpu{}, 3, 2, samples);
  const auto& w = boot::condition_part<boot::guidance_scale<cpu, double>>(both);
  double sum = 0, square = 0, with_label = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    REQUIRE(boot::condition_part<boot::class_labels<cpu>>(both)[i] == labels[i]);
    REQUIRE((w[i] > 1 && w[i] < 4));
    REQUIRE(w.on_host[static_cast<std::size_t>(i)] == w.scale[i]);
    sum += w[i] - 2.5;
    square += std::pow(w[i] - 2.5, 2);
    with_label += (w[i] - 2.5) * (labels[i] - 1.5);
  }
  const double count = static_cast<double>(n), deviation = 3 / std::sqrt(12.0);
  REQUIRE(std::abs(sum / count) < 5 * deviation / std::sqrt(count));
  REQUIRE(std::abs(square / count / 0.75 - 1) < 5 * std::sqrt(0.8 / count));
  REQUIRE(std::abs(with_label / count) < 5 * deviation * std::sqrt(1.25 / count));
  boot::guided_label_source fixed(2, 3, 3);
  const auto three = fixed(cpu{}, 1, 1, numbered(0, 5));
  for (std::int64_t i = 0; i < 5; ++i) REQUIRE(boot::condition_part<boot::guidance_scale<cpu, float>>(three)[i] == 3);
}

TEST_CASE("sources: tables repeat, storage grows once", "[objective]") {
  boot::label_table table({5, -1, 7});
  const auto labels = table(cpu{}, 0, 0, numbered(1, 5));
  const std::vector<std::int32_t> expected{-1, 7, 5, -1, 7};
  for (std::int64_t i = 0; i < 5; ++i) REQUIRE(labels[i] == expected[static_cast<std::size_t>(i)]);
  boot::guided_label_source source(3, 1, 2);
  const auto large = numbered(0, 64), little = numbered(64, 10);
  source(cpu{}, 1, 0, large);
  const auto before = boot::memory_use<cpu>().allocations;
  source(cpu{}, 1, 1, little);
  source(cpu{}, 1, 2, large);
  REQUIRE(boot::memory_use<cpu>().allocations == before);
}

TEST_CASE("sources: errors name what was given and what is needed", "[objective]") {
  REQUIRE_THAT(message_of_source([] { boot::label_source(0); }), ContainsSubstring("for 0 classes"));
  REQUIRE_THAT(message_of_source([] { boot::guided_label_source(0, 1, 2); }), ContainsSubstring("for 0 classes"));
  REQUIRE_THAT(message_of_source([] { boot::guided_label_source(3, 2, 1); }), ContainsSubstring("from 2 to 1"));
  REQUIRE_THAT(message_of_source([] { boot::label_table(std::vector<std::int32_t>{}); }),
               ContainsSubstring("empty label_table"));
  REQUIRE_THAT(message_of_source([] {
                 boot::guided_label_table({1}, {1, 2});
               }),
               ContainsSubstring("1 labels and 2 scales"));
  boot::label_source source(2);
  REQUIRE_THAT(message_of_source([&] {
                 source(cpu{}, 1, 0, std::vector<std::int64_t>{0, -4});
               }),
               ContainsSubstring("sample -4"));
}
