// SPDX-License-Identifier: MIT
/// How near the fused kernels of boot::cuda come to a copy on the device: 2^26 elements, the same bytes, paired rounds.
#include "measure.hpp"

#include <boot/bench/statistics.hpp>
#include <boot/core/random.hpp>
#include <boot/device/autotune.hpp>
#include <boot/kernel/op/bootstrap.hpp>
#include <boot/kernel/op/signal_ode.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot_cuda.cuh>

#include <array>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace {

using boot::bf16;
using boot::cuda;
template <class T>
using device_array = boot::tensor<T, cuda>;

/// What comparing one kernel with a copy gave.
struct comparison {
  double share = 0;           ///< the faster copy's time over the kernel's, median of the rounds
  double spread = 0;          ///< its quartiles' distance over the median
  double gigabytes = 0;       ///< the kernel's, per second
  double copy_gigabytes = 0;  ///< the copy's
};
void to_json(boot::measure::json& j, const comparison& c) {
  j = {{"share", c.share}, {"spread", c.spread}, {"gb_per_s", c.gigabytes}, {"copy_gb_per_s", c.copy_gigabytes}};
}

/// Rounds in which `kernel` and `others`, each of which moves as many bytes, take turns. The one that counts is the
/// fastest of the others, by its median.
template <class F, class... G>
comparison compare(const cuda& dev, double bytes, int rounds, const F& kernel, const G&... others) {
  constexpr int calls = 5;
  boot::detail::cuda_stopwatch watch(dev);
  std::array<std::vector<double>, sizeof...(G)> shares, seconds;
  std::vector<double> own;
  for (int round = -1; round < rounds; ++round) {
    const bool first = round % 2 != 0;
    double mine = first ? watch.seconds(calls, kernel) : 0;
    const std::array<double, sizeof...(G)> theirs{watch.seconds(calls, others)...};
    if (!first) mine = watch.seconds(calls, kernel);
    if (round < 0) continue;
    own.push_back(mine);
    for (std::size_t k = 0; k < theirs.size(); ++k) {
      seconds[k].push_back(theirs[k]);
      shares[k].push_back(theirs[k] / mine);
    }
  }
  comparison out{.share = HUGE_VAL};
  for (std::size_t k = 0; k < shares.size(); ++k) {
    const auto s = boot::bench::summarize(shares[k]);
    if (s.median < out.share)
      out = {s.median, s.relative_spread(), bytes * 1e-9 / boot::bench::summarize(own).median,
             bytes * 1e-9 / boot::bench::summarize(seconds[k]).median};
  }
  return out;
}

struct same {
  BOOT_HD float operator()(float v) const { return v; }
};

/// Copies by the driver and by a kernel, half of `bytes` read and half written.
class plain_copies {
 public:
  plain_copies(const cuda& dev, double bytes)
      : dev_(dev), n_(static_cast<std::int64_t>(bytes / 2 / sizeof(float))), from_(dev, {n_}), to_(dev, {n_}) {
    boot::fill_zero(dev, from_.get());
  }
  void by_driver() { boot::copy_bytes(dev_, from_.data(), to_.data(), static_cast<std::size_t>(n_) * sizeof(float)); }
  void by_kernel() { boot::map_elements(dev_, n_, same{}, false, to_.data(), static_cast<const float*>(from_.data())); }

 private:
  cuda dev_;
  std::int64_t n_;
  device_array<float> from_, to_;
};

template <class F>
comparison against_copy(const cuda& dev, double bytes, int rounds, const F& kernel) {
  plain_copies copies(dev, bytes);
  return compare(
      dev, bytes, rounds, kernel, [&] { copies.by_driver(); }, [&] { copies.by_kernel(); });
}

/// Normal numbers: a size that no cache holds, and neither zeros nor powers of two.
template <class T>
device_array<T> normals(const cuda& dev, std::int64_t n, std::uint64_t which) {
  device_array<float> drawn(dev, {n});
  const std::vector<std::int64_t> sample{0};
  boot::fill_noise(dev, boot::counter_key{which, boot::stream::test, 0}, std::span<const std::int64_t>(sample),
                   boot::view<float, cuda>(drawn.data(), {1, n}));
  device_array<T> result(dev, {n});
  if constexpr (std::is_same_v<T, float>) {
    boot::copy_bytes(dev, drawn.data(), result.data(), static_cast<std::size_t>(n) * sizeof(float));
  } else {
    boot::convert(dev, boot::view<const float, cuda>(drawn.get()), result.get());
  }
  boot::synchronize(dev);
  return result;
}
template <class Row>
device_array<Row> rows_on(const cuda& dev, const std::vector<Row>& rows) {
  return boot::tensor_of<Row>(dev, std::span<const Row>(rows), {std::ssize(rows)});
}

template <class T>
comparison loss(const cuda& dev, std::int64_t batch, std::int64_t n, int rounds) {
  const std::int64_t all = batch * n;
  std::vector<device_array<T>> in;
  for (std::uint64_t k = 0; k < 5; ++k) in.push_back(normals<T>(dev, all, k));
  device_array<T> gradient(dev, {all});
  std::vector<boot::bootstrap_row<float>> rows;
  for (std::int64_t b = 0; b < batch; ++b) {
    const float t = (static_cast<float>(b) + .5f) / static_cast<float>(batch);
    rows.push_back({1 - t, -t, 1.5f, .05f + .1f * t, 0, 1 / (.1f + t), 1 / static_cast<float>(all),
                    2 / static_cast<float>(all), -HUGE_VALF, HUGE_VALF});
  }
  const auto table = rows_on(dev, rows);
  device_array<float> sums(dev, {batch}), scratch(dev, {boot::element_partials(dev, batch, n)});
  return against_copy(dev, 6.0 * static_cast<double>(all) * sizeof(T), rounds, [&] {
    boot::for_each_element<float>(
        dev, boot::bootstrap_euler_op<float>{}, table.data(), batch, n,
        boot::inputs<T, T, T, T, T>(in[0].data(), in[1].data(), in[2].data(), in[3].data(), in[4].data()),
        boot::outputs<T>(gradient.data()), sums.data(), scratch.data());
  });
}

template <class T>
comparison perturb(const cuda& dev, std::int64_t batch, std::int64_t n, int rounds) {
  const std::int64_t all = batch * n;
  const auto y = normals<T>(dev, all, 1), eps = normals<T>(dev, all, 2);
  device_array<T> x(dev, {all});
  const auto table = rows_on(dev, std::vector<boot::ode_row<float>>(static_cast<std::size_t>(batch), {.8f, .6f, 0, 0}));
  return against_copy(dev, 3.0 * static_cast<double>(all) * sizeof(T), rounds, [&] {
    boot::for_each_element<float>(dev, boot::perturb_op<float>{}, table.data(), batch, n,
                                  boot::inputs<T, T>(y.data(), eps.data()), boot::outputs<T>(x.data()));
  });
}

comparison adamw(const cuda& dev, std::int64_t n, int averages, int rounds) {
  std::vector<device_array<float>> a;
  for (int k = 0; k < 4 + averages; ++k) a.push_back(normals<float>(dev, n, static_cast<std::uint64_t>(k)));
  boot::fill_zero(dev, a[3].get());  // second moments are not negative
  std::array<float*, boot::max_averages> average{};
  for (int k = 0; k < averages; ++k) average[static_cast<std::size_t>(k)] = a[static_cast<std::size_t>(4 + k)].data();
  const auto row =
      rows_on(dev, std::vector<boot::adamw_row<float>>{
                       {.5f, 1e-4f, .01f, .9f, .999f, 1.2f, 1.1f, 1e-8f, {1e-3f, 1e-3f, 1e-3f, 1e-3f}, 0}});
  const auto group = rows_on(dev, std::vector<boot::group_row<float>>{{1, 1}});
  const auto range = rows_on(dev, std::vector<boot::parameter_range>{{0, n, 0}});
  return against_copy(dev, (7.0 + 2 * averages) * static_cast<double>(n) * sizeof(float), rounds, [&] {
    boot::adamw_ema(dev, row.data(), group.data(), range.data(), 1, a[0].data(), std::as_const(a[1]).data(),
                    a[2].data(), a[3].data(), average, averages);
  });
}

comparison group_norm(const cuda& dev, const boot::shape& s, int rounds) {
  const auto x = normals<float>(dev, s.size(), 1), w = normals<float>(dev, s[3], 2), b = normals<float>(dev, s[3], 3);
  device_array<float> y(dev, {s.size()}), saved(dev, {s.batch() * 32 * 2});
  return against_copy(dev, 2.0 * static_cast<double>(s.size()) * sizeof(float), rounds, [&] {
    boot::group_norm_forward(dev, boot::view<const float, cuda>(x.data(), s), w.data(), b.data(),
                             boot::view<const float, cuda>{}, 32, 1e-5, true, boot::view<float, cuda>(y.data(), s),
                             saved.data());
  });
}

comparison noise(const cuda& dev, std::int64_t batch, std::int64_t n, int rounds) {
  device_array<float> out(dev, {batch, n}), other(dev, {batch, n});
  std::vector<std::int64_t> samples;
  for (std::int64_t i = 0; i < batch; ++i) samples.push_back(i);
  const std::size_t bytes = static_cast<std::size_t>(batch * n) * sizeof(float);
  return compare(
      dev, static_cast<double>(bytes), rounds,
      [&] {
        boot::fill_noise(dev, boot::counter_key{1, boot::stream::noise, 0}, std::span<const std::int64_t>(samples),
                         out.get());
      },
      [&] { boot::fill_zero(dev, other.data(), bytes); });
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "cuda_kernels", {{"stream_vs_copy", ">= 0.9",
                        "worst of loss, AdamW with one average, perturb, group norm with SiLU: share of a copy"},
                       {"noise_vs_copy", ">= 0.5", "normal numbers: share of a fill of the same tensor"}});
  int rounds = 15;
  report.app().add_option("--rounds", rounds, "paired rounds of each comparison (15)")->check(CLI::PositiveNumber);
  if (const auto status = report.parse(argc, argv)) return *status;
  const boot::cuda_stream stream;
  const cuda dev = stream.device();
  report.config("card", boot::cuda_device_name());
  const std::int64_t elements = std::int64_t{1} << (report.quick() ? 22 : 26);
  report.config("elements", elements);
  report.config("rounds", rounds);

  if (report.wants("stream_vs_copy")) {
    double worst = HUGE_VAL;
    std::string which;
    const auto counts = [&](std::string name, const comparison& c) {
      report.beside(name, c);
      if (c.share < worst) worst = c.share, which = std::move(name);
    };
    counts("loss, 2^16 a sample", loss<float>(dev, elements >> 16, 1 << 16, rounds));
    counts("perturb, 2^16 a sample", perturb<float>(dev, elements >> 16, 1 << 16, rounds));
    counts("AdamW, 1 average", adamw(dev, elements, 1, rounds));
    counts("group norm with SiLU, 32 x 32 x 128", group_norm(dev, {elements >> 17, 32, 32, 128}, rounds));
    report.row("stream_vs_copy", worst, which);
    report.beside("loss, 3072 a sample", loss<float>(dev, elements / 3072, 3072, rounds));
    report.beside("loss, bf16", loss<bf16>(dev, elements >> 16, 1 << 16, rounds));
    report.beside("perturb, bf16", perturb<bf16>(dev, elements >> 16, 1 << 16, rounds));
    report.beside("AdamW, 4 averages", adamw(dev, elements, 4, rounds));
    report.beside("group norm with SiLU, 8 x 8 x 512", group_norm(dev, {elements >> 15, 8, 8, 512}, rounds));
  }
  if (report.wants("noise_vs_copy")) {
    const comparison c = noise(dev, elements >> 16, 1 << 16, rounds);
    report.row("noise_vs_copy", c.share);
    report.beside("noise, 2^16 a sample", c);
    report.beside("noise, 3072 a sample", noise(dev, elements / 3072, 3072, rounds));
  }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
