// SPDX-License-Identifier: MIT
/// Cascades: enlarging and noise on images, conditions made of data and by a student, what they depend on, errors.
#include "support/catch.hpp"

#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/quantile.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/cascade.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/objective/sources.hpp>
#include <boot/schedule/cosine.hpp>

#include <cmath>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using boot::cpu;
using Catch::Matchers::ContainsSubstring;

namespace {

using cascade_labels = boot::class_labels<cpu>;
using cascade_low = boot::low_resolution<cpu>;
using cascade_network = boot::network_model<boot::mlp, cpu>;
using cascade_both = boot::conditions<cascade_labels, cascade_low>;
const cpu dev;

std::vector<std::int64_t> cascade_numbers(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> samples(static_cast<std::size_t>(count));
  std::iota(samples.begin(), samples.end(), first);
  return samples;
}
boot::cosine_schedule whole_range() { return boot::cosine_schedule({.t_min = 0, .t_max = 1}); }

// A stage for flat images of `features` numbers that reads an image of `lower` numbers, 0 for none.
cascade_network stage(std::int64_t features, std::int64_t lower, std::uint64_t seed) {
  boot::mlp_options o{.features = features, .width = 16, .hidden_layers = 1, .classes = 3};
  o.time.features = 8;
  o.low_resolution_features = lower;
  return cascade_network(dev, boot::mlp(o), {boot::prediction_kind::v}, seed);
}

}  // namespace

TEST_CASE("low_resolution_images: nearest neighbours, and without noise nothing else", "[objective][cascade]") {
  const std::vector<double> pixels{1,  2,  3,  4,  5,  6,
                                   10, 20, 30, 40, 50, 60};  // two images of 1 x 3 pixels, two channels
  const std::vector<std::int64_t> samples{3, 7};
  boot::low_resolution_images<boot::cosine_schedule, cpu, double> make(
      whole_range(), {.image = {1, 3, 2}, .doublings = 2, .most_noise = 0});
  const auto made = make(dev, 1, 0, samples, {pixels.data(), {2, 6}});
  REQUIRE(made.image.extents() == boot::shape{2, 4, 12, 2});
  REQUIRE(made.level.extents() == boot::shape{2});
  for (std::int64_t i = 0; i < made.image.size(); ++i) {
    const std::int64_t channel = i % 2, x = i / 2 % 12, sample = i / 96;
    CHECK(made.image[i] == pixels[static_cast<std::size_t>(sample * 6 + x / 4 * 2 + channel)]);
  }
  CHECK(made.level[0] == 0);
  boot::low_resolution_images<boot::cosine_schedule, cpu, double> plain(whole_range(),
                                                                        {.image = {1, 3, 2}, .doublings = 0});
  CHECK(plain(dev, 1, 0, samples, {pixels.data(), {2, 1, 3, 2}}).image.extents() == boot::shape{2, 1, 3, 2});
}

TEST_CASE("low_resolution_images: noise by the level, levels uniform, by seed, step and sample",
          "[objective][cascade]") {
  constexpr std::int64_t n = 4000;
  const boot::cosine_schedule schedule({.t_min = 0.1, .t_max = 0.9});
  boot::low_resolution_images make(schedule, {.image = {1, 1, 1}, .least_noise = 0.25, .most_noise = 0.75});
  const std::vector<float> pixels(static_cast<std::size_t>(n), 2.0f);
  const auto made = make(dev, 5, 3, cascade_numbers(0, n), {pixels.data(), {n, 1}});
  double level = 0, mean = 0, square = 0, with_level = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double t = static_cast<double>(made.level[i]);
    REQUIRE((t > 0.3 && t < 0.7));  // shares of the range .1 to .9
    level += t - 0.5;
    for (std::int64_t p = 0; p < 4; ++p) {
      const double z = (static_cast<double>(made.image[4 * i + p]) - 2 * schedule.alpha(t)) / schedule.sigma(t);
      mean += z;
      square += z * z;
      with_level += z * (t - 0.5);
    }
  }
  CHECK(std::abs(level / n) < 5 * 0.4 / std::sqrt(12.0 * n));
  CHECK(std::abs(mean / (4 * n)) < 5 / std::sqrt(4.0 * n));
  CHECK(std::abs(square / (4 * n) - 1) < 5 * std::sqrt(2 / (4.0 * n)));
  CHECK(std::abs(with_level / (4 * n)) < 5 * 0.4 / std::sqrt(12 * 4.0 * n));

  auto other = boot::low_resolution_images(schedule, make.options());
  const std::vector<std::int64_t> picked{900, 3, 3};
  for (const int threads : {1, 3}) {
    const auto part = other(cpu{threads}, 5, 3, picked, {pixels.data(), {3, 1}});
    for (std::int64_t i = 0; i < 3; ++i) {
      const std::int64_t k = picked[static_cast<std::size_t>(i)];
      CHECK(part.level[i] == made.level[k]);
      for (std::int64_t p = 0; p < 4; ++p) CHECK(part.image[4 * i + p] == made.image[4 * k + p]);
    }
  }
  for (const auto& [seed, step] : {std::pair{6, 3}, std::pair{5, 4}}) {
    const auto fresh = other(dev, static_cast<std::uint64_t>(seed), step, picked, {pixels.data(), {3, 1}});
    CHECK(fresh.level[0] != made.level[900]);
    CHECK(fresh.image[0] != made.image[3600]);
  }
}

TEST_CASE("data_low_resolution: the images of the rows beside their labels", "[objective][cascade]") {
  const std::vector<float> pixels{1, 2, 3, 4, 5};  // five rows of one pixel
  boot::data_low_resolution source(boot::view<const float, cpu>{pixels.data(), {5, 1}}, whole_range(),
                                   {.image = {1, 1, 1}, .most_noise = 0},
                                   boot::data_labels<cpu>({10, 11, 12, 13, 14}, 0));
  const std::vector<std::int64_t> samples{0, 1, 2}, rows{4, 0, 4};
  const cascade_both made = source(dev, 1, 0, samples, rows);
  const auto& image = boot::condition_part<cascade_low>(made).image;
  REQUIRE(image.extents() == boot::shape{3, 2, 2, 1});
  for (std::int64_t i = 0; i < 12; ++i) CHECK(image[i] == pixels[static_cast<std::size_t>(rows[i / 4])]);
  CHECK(boot::condition_part<cascade_labels>(made)[0] == 14);
  CHECK(boot::condition_part<cascade_labels>(made)[1] == 10);
  CHECK_NOTHROW(source.check(5));
  CHECK_THROWS_WITH(source.check(6), ContainsSubstring("5 low-resolution images for 6 rows"));

  // Through the objective: finite, and the network's gradient reaches the columns that read the image.
  auto network = stage(4, 4, 1);
  const std::vector<float> data(20, 0.5f);
  boot::denoising loss(network, boot::cosine_schedule(), boot::view<const float, cpu>{data.data(), {5, 4}}, {},
                       boot::data_low_resolution(boot::view<const float, cpu>{pixels.data(), {5, 1}}, whole_range(),
                                                 {.image = {1, 1, 1}},
                                                 boot::data_labels<cpu>(std::vector<std::int32_t>{0, 1, 2, 0, 1})));
  boot::fill_zero(dev, network.parameters().gradient());
  CHECK(loss(dev, {.seed = 1, .count = 8}).finite());
  const auto gradient = network.parameters().gradient(network.parameters().layout().find("layer_in.weight"));
  for (std::int64_t i = 4; i < 8; ++i) CHECK(gradient[i] != 0);
}

TEST_CASE("cascade_source: the first stage's image of its own noise and label", "[objective][cascade]") {
  const auto first = stage(4, 0, 3);
  const boot::cosine_schedule schedule;
  const boot::cascade_options options{.image = {2, 2, 1}};
  boot::cascade_source source(first, schedule, options, boot::label_source(3));
  static_assert(boot::ConditionSource<decltype(source), cpu> &&
                std::is_same_v<decltype(source)::condition_type, cascade_both>);
  const auto samples = cascade_numbers(20, 6);
  const std::uint64_t lower = boot::lower_stage_seed(9);
  CHECK(lower != 9);
  CHECK(lower != boot::lower_stage_seed(10));
  CHECK(boot::lower_stage_seed(lower) != lower);

  boot::label_source own_labels(3);
  const auto labels = own_labels(dev, lower, 2, samples);
  boot::tensor<float, cpu> eps(dev, {6, 4}), small(dev, {6, 4});
  boot::fill_noise(dev, boot::counter_key{lower, boot::stream::noise, 2}, samples, eps.get());
  boot::one_step_sample(dev, first, schedule, labels, eps, {}, small.get());
  boot::low_resolution_images make(schedule, options);
  const auto wanted = make(dev, 9, 2, samples, std::as_const(small).get());
  const cascade_both made = source(dev, 9, 2, samples);
  const auto& low = boot::condition_part<cascade_low>(made);
  REQUIRE(low.image.extents() == boot::shape{6, 4, 4, 1});
  CHECK(boot::to_host(dev, low.image) == boot::to_host(dev, wanted.image));
  CHECK(boot::to_host(dev, low.level) == boot::to_host(dev, wanted.level));
  for (std::int64_t i = 0; i < 6; ++i) CHECK(boot::condition_part<cascade_labels>(made)[i] == labels[i]);

  // A part of the batch is the same but for the rounding of the first stage's matrix products.
  boot::cascade_source again(first, schedule, options, boot::label_source(3));
  const auto part = again(dev, 9, 2, cascade_numbers(22, 3));
  for (std::int64_t i = 0; i < 48; ++i)
    CHECK(boot::condition_part<cascade_low>(part).image[i] ==
          Catch::Approx(static_cast<double>(wanted.image[32 + i])).epsilon(1e-5).margin(1e-5));
  const auto before = boot::memory_use<cpu>().allocations;
  again(dev, 9, 3, cascade_numbers(22, 3));
  CHECK(boot::memory_use<cpu>().allocations == before);
}

TEST_CASE("cascade_source: trains a second stage, and sits under a third", "[objective][cascade]") {
  const auto first = stage(4, 0, 3), teacher = stage(16, 16, 4);
  auto second = boot::student_of(dev, teacher);
  const boot::cosine_schedule schedule;
  const auto images = [&] {
    return boot::cascade_source(first, schedule, {.image = {2, 2, 1}}, boot::label_source(3));
  };
  boot::bootstrap loss(teacher, second, schedule, {}, images());
  boot::fill_zero(dev, second.parameters().gradient());
  const double whole = loss(dev, {.seed = 2, .step = 1, .count = 24}).total;
  const auto gradient = boot::to_host(dev, second.parameters().gradient());
  double norm = 0;
  for (const float g : gradient) norm += static_cast<double>(g) * static_cast<double>(g);
  CHECK(norm > 0);
  boot::loss_report parts = loss(dev, {.seed = 2, .step = 1, .count = 10, .total = 24});
  parts += loss(dev, {.seed = 2, .step = 1, .first = 10, .count = 14, .total = 24});
  CHECK(parts.total == Catch::Approx(whole).epsilon(1e-5));

  // The third stage gets the labels and the second one's image, not the first one's.
  boot::cascade_source third(second, schedule, {.image = {4, 4, 1}}, images());
  static_assert(std::is_same_v<decltype(third)::condition_type, cascade_both>);
  const auto samples = cascade_numbers(0, 5);
  const cascade_both made = third(dev, 7, 0, samples);
  CHECK(boot::condition_part<cascade_low>(made).image.extents() == boot::shape{5, 8, 8, 1});
  boot::label_source labels(3);
  const auto wanted = labels(dev, boot::lower_stage_seed(boot::lower_stage_seed(7)), 0, samples);
  for (std::int64_t i = 0; i < 5; ++i) CHECK(boot::condition_part<cascade_labels>(made)[i] == wanted[i]);
}

TEST_CASE("cascades: errors name what was given and what is needed", "[objective][cascade]") {
  const auto message = [](const boot::cascade_options& o) {
    try {
      boot::low_resolution_images make(boot::cosine_schedule(), o);
    } catch (const boot::error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  CHECK_THAT(message({}), ContainsSubstring("set cascade_options::image"));
  CHECK_THAT(message({.image = {2, 2}}), ContainsSubstring("shape [2, 2]"));
  CHECK_THAT(message({.image = {2, 2, 1}, .doublings = -1}), ContainsSubstring("-1 times"));
  CHECK_THAT(message({.image = {2, 2, 1}, .least_noise = 0.6}), ContainsSubstring("from 0.6 to 0.5"));
  CHECK_THAT(message({.image = {2, 2, 1}, .most_noise = 1.5}), ContainsSubstring("in [0, 1]"));
  CHECK(message({.image = {2, 2, 1}, .most_noise = 1}) == "no error");

  boot::low_resolution_images make(boot::cosine_schedule(), {.image = {2, 2, 1}});
  const std::vector<float> pixels(12, 0.0f);
  CHECK_THROWS_WITH(make(dev, 0, 0, cascade_numbers(0, 2), {pixels.data(), {3, 4}}),
                    ContainsSubstring("for 2 samples") && ContainsSubstring("[3, 4]"));
  CHECK_THROWS_WITH(make(dev, 0, 0, cascade_numbers(0, 3), {pixels.data(), {3, 2}}), ContainsSubstring("[3, 2]"));
  const auto first = stage(4, 0, 3);
  CHECK_THROWS_WITH(boot::cascade_source(first, boot::cosine_schedule(), {.image = {4, 4, 1}}, boot::label_source(3)),
                    ContainsSubstring("[4, 4, 1]") && ContainsSubstring("a student for samples of shape [4]"));
}
