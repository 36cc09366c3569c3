// SPDX-License-Identifier: MIT
/// Cascades: the low-resolution image that conditions a second stage, made of data for its teacher and by the distilled
/// first stage for its student.
#pragma once

#include <boot/core/random.hpp>
#include <boot/kernel/op/signal_ode.hpp>
#include <boot/nn/condition.hpp>
#include <boot/objective/common.hpp>
#include <boot/sampler/one_step.hpp>
#include <boot/tensor/workspace.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// How images of one stage become the condition of the next.
struct cascade_options {
  shape image = {};         ///< of the lower stage: {height, width, channels}
  int doublings = 1;        ///< times both sides are doubled, by nearest neighbours
  double least_noise = 0;   ///< noise added to the images: time of the schedule, as a share of its range, uniform ...
  double most_noise = 0.5;  ///< ... between these two; equal ends give that level always, as sampling wants it
  one_step_options one_step = {};  ///< how cascade_source's student is called; low and high clip its images
};

/// Seed of all that is random in the lower stage of a cascade that runs with `seed`: its noise and its conditions. With
/// the same seed both stages would start from the same noise.
[[nodiscard]] constexpr std::uint64_t lower_stage_seed(std::uint64_t seed) noexcept {
  const philox_words w = random_block({seed, stream::dropout, max_random_step}, 0, 0);
  return (static_cast<std::uint64_t>(w[0]) << 32) | w[1];
}

/// Makes low_resolution conditions of the images of a lower stage: doubles their sides, then z = alpha x + sigma eps at a
/// level drawn per sample. Levels and noise are functions of (seed, step, sample number, element).
template <NoiseSchedule Schedule, Device D = cpu, ComputeScalar T = float>
class low_resolution_images {
 public:
  /// The levels are times of `schedule`. Throws boot::error for options that make no sense.
  explicit low_resolution_images(Schedule schedule, cascade_options options)
      : schedule_(std::move(schedule)), options_(std::move(options)) {
    const auto& o = options_;
    require(o.image.rank() == 3 && o.image.size() > 0,
            "boot: a cascade with lower images of shape {}; set cascade_options::image to their height, width and "
            "channels",
            to_string(o.image));
    require(o.doublings >= 0 && o.doublings <= 16,
            "boot: a cascade that doubles its images {} times; needs 0 to 16, 1 makes 4 x 4 into 8 x 8", o.doublings);
    require(o.least_noise >= 0 && o.least_noise <= o.most_noise && o.most_noise <= 1,
            "boot: a cascade with noise from {} to {} on its images; needs shares of the schedule's range in [0, 1], "
            "least_noise <= most_noise",
            o.least_noise, o.most_noise);
    larger_.resize(static_cast<std::size_t>(o.doublings));
  }
  /// One condition per entry of `samples`, valid until the next call. `images` [as many, ...] may be flat.
  low_resolution<D, T> operator()(const D& dev, std::uint64_t seed, std::int64_t step,
                                  std::span<const std::int64_t> samples, view<const T, D> images) {
    const auto n = static_cast<std::int64_t>(samples.size());
    require(images.batch() == n && images.size() == options_.image.batched(n).size(),
            "boot: a cascade for {} samples with lower images of shape {} got images of shape {}; give one image of "
            "that shape per sample",
            n, to_string(options_.image), to_string(images.extents()));
    view<const T, D> x = images.reshape(options_.image.batched(n));
    for (auto& memory : larger_) {
      const shape& s = x.extents();
      const view<T, D> larger = memory.get(dev, {n, 2 * s[1], 2 * s[2], s[3]});
      upsample_forward(dev, x, larger);
      x = larger;
    }
    const auto counter = static_cast<std::uint64_t>(step);
    const double t_min = schedule_.t_min(), range = schedule_.t_max() - t_min;
    auto& levels = levels_.host(n);
    auto& rows = rows_.host(n);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      // Element 8: labels and guidance scales of the same key have those before.
      const double u =
          static_cast<double>(uniform({seed, stream::condition, counter}, static_cast<std::uint64_t>(samples[i]), 8));
      const double t = t_min + range * (options_.least_noise + u * (options_.most_noise - options_.least_noise));
      levels[i] = static_cast<T>(t);
      rows[i] = {static_cast<T>(schedule_.alpha(t)), static_cast<T>(schedule_.sigma(t))};
    }
    const view<T, D> eps = eps_.get(dev, x.extents()), out = out_.get(dev, x.extents());
    fill_noise(dev, counter_key{seed, stream::dropout, counter}, samples, eps);
    for_each_element<T>(dev, perturb_op<T>{}, rows_.upload(dev), n, x.sample_size(), inputs<T, T>(x.data(), eps.data()),
                        outputs<T>(out.data()));
    return {out, {levels_.upload(dev), {n}}};
  }
  /// The schedule.
  [[nodiscard]] const Schedule& schedule() const noexcept { return schedule_; }
  /// As given.
  [[nodiscard]] const cascade_options& options() const noexcept { return options_; }

 private:
  Schedule schedule_;
  cascade_options options_;
  std::vector<workspace<T, D>> larger_;
  workspace<T, D> eps_, out_;
  row_table<T, D> levels_;
  row_table<ode_row<T>, D> rows_;
};

namespace detail {

// The parts of the lower stage's condition that the next stage gets too: all but its low-resolution image.
template <class Low, class C>
auto cascade_parts(const C& c) {
  if constexpr (std::same_as<C, no_condition> || std::same_as<C, Low>) {
    return std::tuple<>{};
  } else if constexpr (requires { c.parts; }) {
    return std::apply([](const auto&... part) { return std::tuple_cat(cascade_parts<Low>(part)...); }, c.parts);
  } else {
    return std::tuple<C>{c};
  }
}
template <class C, class Low>
auto cascade_condition(const C& below, const Low& image) {
  return std::apply(
      [&](const auto&... part) {
        if constexpr (sizeof...(part) == 0) {
          return image;
        } else {
          return conditions(part..., image);
        }
      },
      cascade_parts<Low>(below));
}
template <class C, class Low>
using cascade_condition_type = decltype(cascade_condition(std::declval<const C&>(), std::declval<const Low&>()));

}  // namespace detail

/// For boot::denoising, to train the teacher of a second stage: the low-resolution image of each row of the data,
/// beside what another kind of condition, such as data_labels, gives.
template <NoiseSchedule Schedule, class DataCondition, Device D = cpu, ComputeScalar T = float>
class data_low_resolution {
 public:
  /// `images` [rows, ...]: the data at the size of the lower stage; they must outlive this object.
  data_low_resolution(view<const T, D> images, Schedule schedule, cascade_options options, DataCondition other)
      : images_(images), make_(std::move(schedule), std::move(options)), other_(std::move(other)) {}
  /// Images of the rows; valid until the next call.
  auto operator()(const D& dev, std::uint64_t seed, std::int64_t step, std::span<const std::int64_t> samples,
                  std::span<const std::int64_t> rows) {
    const auto n = static_cast<std::int64_t>(rows.size());
    const view<T, D> chosen = chosen_.get(dev, images_.extents().with_batch(n));
    gather_rows(dev, images_, send(dev, rows, rows_), chosen);
    return detail::cascade_condition(other_(dev, seed, step, samples, rows), make_(dev, seed, step, samples, chosen));
  }
  /// Throws boot::error unless there is one image per row.
  void check(std::int64_t rows) const {
    require(images_.batch() == rows, "boot: {} low-resolution images for {} rows of data; give one image per row",
            images_.batch(), rows);
    other_.check(rows);
  }

 private:
  view<const T, D> images_;
  low_resolution_images<Schedule, D, T> make_;
  DataCondition other_;
  workspace<T, D> chosen_;
  tensor<std::int64_t, D> rows_;
};
/// On the host, in float.
template <class Images, class Schedule, class DataCondition>
data_low_resolution(const Images&, Schedule, cascade_options, DataCondition)
    -> data_low_resolution<Schedule, DataCondition>;

/// Conditions of a cascade's second stage without data: for each sample number the distilled first stage makes an image
/// from noise and a condition of its own, which is brought to size and augmented. The second stage gets that image and
/// the first one's condition. For training, and with equal ends of the noise for sampling. Models: ConditionSource.
///
/// Noise, conditions, levels are functions of (seed, step, sample number); the first stage's are those of
/// lower_stage_seed(seed). `Source` may be a cascade_source itself: a cascade of three stages.
template <class Student, NoiseSchedule Schedule, class Source = no_condition_source>
class cascade_source {
 public:
  using scalar_type = typename scalar_of<Student>::type;               ///< T
  using device_type = typename detail::student_device<Student>::type;  ///< D
  /// The first stage's condition and the image.
  using condition_type =
      detail::cascade_condition_type<condition_of<Source, device_type>, low_resolution<device_type, scalar_type>>;

  /// `student`, which must outlive this object, is the first stage; any model with Student's predict() that holds
  /// parameters will do. `schedule` is the first stage's, and its times are the noise levels. Throws boot::error for
  /// options that make no sense.
  cascade_source(const Student& student, Schedule schedule, cascade_options options, Source source = {})
      : student_(&student), make_(std::move(schedule), std::move(options)), source_(std::move(source)) {
    require(student.sample_shape().size() == make_.options().image.size(),
            "boot: a cascade with lower images of shape {} got a student for samples of shape {}; both must have as "
            "many elements",
            to_string(make_.options().image), to_string(student.sample_shape()));
  }
  cascade_source(const Student&&, Schedule, cascade_options, Source = {}) = delete;
  /// One condition per entry of `samples`; valid until the next call.
  condition_type operator()(const device_type& dev, std::uint64_t seed, std::int64_t step,
                            std::span<const std::int64_t> samples) {
    using T = scalar_type;
    const std::uint64_t lower = lower_stage_seed(seed);
    const auto condition = source_(dev, lower, step, samples);
    const shape all = student_->sample_shape().batched(static_cast<std::int64_t>(samples.size()));
    const view<T, device_type> eps = eps_.get(dev, all), image = image_.get(dev, all);
    fill_noise(dev, counter_key{lower, stream::noise, static_cast<std::uint64_t>(step)}, samples, eps);
    one_step_sample(dev, *student_, make_.schedule(), condition, eps, make_.options().one_step, image, {}, &buffers_);
    return detail::cascade_condition(condition, make_(dev, seed, step, samples, image));
  }

 private:
  const Student* student_;
  low_resolution_images<Schedule, device_type, scalar_type> make_;
  Source source_;
  workspace<scalar_type, device_type> eps_, image_;
  sampler_buffers<scalar_type, device_type> buffers_;
};

}  // namespace boot::inline v0
