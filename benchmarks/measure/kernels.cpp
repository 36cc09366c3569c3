// SPDX-License-Identifier: MIT
/// How near the fused host kernels come to a plain copy: 2^24 elements, the same bytes, the same threads, paired rounds.
#include "measure.hpp"

#include <boot/bench/statistics.hpp>
#include <boot/config.hpp>
#include <boot/core/random.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/kernel/op/bootstrap.hpp>
#include <boot/tensor/tensor.hpp>

#if BOOT_HAS_X86
#  include <immintrin.h>
#endif

#include <array>
#include <cstring>
#include <limits>

namespace {

using boot::cpu;

/// Seconds of one call.
template <class F>
double seconds_of(const F& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Copies `bytes` bytes by ordinary loads and stores.
void copy_loop(const float* BOOT_RESTRICT from, float* BOOT_RESTRICT to, std::int64_t n) {
  BOOT_SIMD
  for (std::int64_t i = 0; i < n; ++i) to[i] = from[i];
}

/// The same with stores that go past the caches; an ordinary loop where the processor has none that we know of.
/// `to` must be 64-byte aligned.
void copy_streaming(const float* BOOT_RESTRICT from, float* BOOT_RESTRICT to, std::int64_t n) {
#if BOOT_HAS_X86 && BOOT_VECTOR_BYTES == 64
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_stream_ps(to + i, _mm512_loadu_ps(from + i));
  copy_loop(from + i, to + i, n - i);
  _mm_sfence();
#elif BOOT_HAS_X86 && BOOT_VECTOR_BYTES == 32
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_stream_ps(to + i, _mm256_loadu_ps(from + i));
  copy_loop(from + i, to + i, n - i);
  _mm_sfence();
#elif BOOT_HAS_X86
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
  copy_loop(from + i, to + i, n - i);
  _mm_sfence();
#else
  copy_loop(from, to, n);
#endif
}

/// Three plain copies of `n` floats between two arrays whose pages are touched; each thread has one run of elements.
class plain_copy {
 public:
  static constexpr std::array<const char*, 3> names = {"memcpy", "loop", "streaming stores"};

  plain_copy(const cpu& dev, std::int64_t n)
      : dev_(dev), n_(n), from_(boot::zeros<float>(dev, {n})), to_(boot::zeros<float>(dev, {n})) {}

  /// Seconds of copy `kind`.
  double seconds(std::size_t kind) {
    const std::int64_t parts = dev_.thread_count(), share = (n_ / parts + 63) / 64 * 64;
    const float* const from = from_.data();
    float* const to = to_.data();
    return seconds_of([&] {
      boot::parallel_for(dev_, parts, [&](std::int64_t part) {
        const std::int64_t begin = std::min(n_, part * share);
        const std::int64_t count = part + 1 == parts ? n_ - begin : std::min(n_, begin + share) - begin;
        if (kind == 0) std::memcpy(to + begin, from + begin, static_cast<std::size_t>(count) * sizeof(float));
        if (kind == 1) copy_loop(from + begin, to + begin, count);
        if (kind == 2) copy_streaming(from + begin, to + begin, count);
      });
    });
  }

 private:
  cpu dev_;
  std::int64_t n_;
  boot::tensor<float, cpu> from_, to_;
};

/// What comparing one kernel with the copies gave.
struct comparison {
  double share = 0;           ///< the best copy's time over the kernel's, median of the rounds
  double spread = 0;          ///< its quartiles' distance over the median
  double gigabytes = 0;       ///< the kernel's, per second
  double copy_gigabytes = 0;  ///< the best copy's
  std::string copy;           ///< which copy that is

  [[nodiscard]] std::string text() const {
    return fmt::format("{:.1f} GB/s against {:.1f} GB/s of {}, quartiles {:.0f} % apart", gigabytes, copy_gigabytes,
                       copy, 100 * spread);
  }
};
void to_json(boot::measure::json& j, const comparison& c) {
  j = {{"share", c.share},
       {"spread", c.spread},
       {"gb_per_s", c.gigabytes},
       {"copy_gb_per_s", c.copy_gigabytes},
       {"copy", c.copy}};
}

/// Rounds in which `kernel` and the copies that read and write as many bytes, half of them each, take turns. The best
/// copy is the one against which the kernel looks worst.
template <class F>
comparison compare(const cpu& dev, double bytes, int rounds, const F& kernel) {
  constexpr int calls = 3;  // of each in a round
  plain_copy copy(dev, static_cast<std::int64_t>(bytes / 2 / sizeof(float)));
  std::array<std::vector<double>, plain_copy::names.size()> shares, seconds;
  const auto time_copies = [&] {
    std::array<double, plain_copy::names.size()> s{};
    for (int call = 0; call < calls; ++call)
      for (std::size_t k = 0; k < s.size(); ++k) s[k] += copy.seconds(k) / calls;
    return s;
  };
  const auto time_kernel = [&] {
    return seconds_of([&] {
             for (int call = 0; call < calls; ++call) kernel();
           }) /
           calls;
  };
  std::vector<double> kernel_seconds;
  for (int round = -1; round < rounds; ++round) {
    const bool kernel_first = round % 2 != 0;
    double own = kernel_first ? time_kernel() : 0;
    const auto plain = time_copies();
    if (!kernel_first) own = time_kernel();
    if (round < 0) continue;
    kernel_seconds.push_back(own);
    for (std::size_t k = 0; k < plain.size(); ++k) {
      shares[k].push_back(plain[k] / own);
      seconds[k].push_back(plain[k]);
    }
  }
  comparison out{.share = HUGE_VAL, .spread = 0, .gigabytes = 0, .copy_gigabytes = 0, .copy = {}};
  for (std::size_t k = 0; k < shares.size(); ++k) {
    const auto s = boot::bench::summarize(shares[k]);
    if (s.median >= out.share) continue;
    out = {s.median, s.relative_spread(), bytes * 1e-9 / boot::bench::summarize(kernel_seconds).median,
           bytes * 1e-9 / boot::bench::summarize(seconds[k]).median, plain_copy::names[k]};
  }
  return out;
}

/// Normal numbers, so that neither side meets denormals or powers of two.
boot::tensor<float, cpu> normals(const cpu& dev, std::int64_t n, std::int64_t which) {
  boot::tensor<float, cpu> t(dev, {n});
  boot::parallel_chunks(dev, n, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    boot::fill_normal(t.data() + begin, end - begin, {1, boot::stream::test, 0}, which, begin);
  });
  return t;
}

/// The bootstrap loss kernel on `batch` samples of `n` elements: five inputs, one output, one sum per sample.
comparison loss_against_copy(const cpu& dev, std::int64_t batch, std::int64_t n, int rounds) {
  const std::int64_t all = batch * n;
  std::vector<boot::tensor<float, cpu>> in;
  for (std::int64_t k = 0; k < 5; ++k) in.push_back(normals(dev, all, k));
  boot::tensor<float, cpu> gradient = boot::zeros<float>(dev, {all});
  std::vector<boot::bootstrap_row<float>> rows;
  for (std::int64_t b = 0; b < batch; ++b) {
    const float t = (static_cast<float>(b) + .5f) / static_cast<float>(batch), infinity = HUGE_VALF;
    rows.push_back({1 - t, -t, 1.5f, .05f + .1f * t, 0, 1 / (.1f + t), 1 / static_cast<float>(all),
                    2 / static_cast<float>(all), -infinity, infinity});
  }
  std::vector<float> sums(static_cast<std::size_t>(batch));
  std::vector<float> scratch(static_cast<std::size_t>(boot::element_partials(dev, batch, n)));
  return compare(dev, 6.0 * static_cast<double>(all) * sizeof(float), rounds, [&] {
    boot::for_each_element<float>(dev, boot::bootstrap_euler_op<float>{}, rows.data(), batch, n,
                                  boot::inputs<float, float, float, float, float>(
                                      in[0].data(), in[1].data(), in[2].data(), in[3].data(), in[4].data()),
                                  boot::outputs<float>(gradient.data()), sums.data(), scratch.data());
  });
}

/// AdamW with `averages` moving averages in place: reads value, gradient, moments and averages, writes all but the
/// gradient.
comparison adamw_against_copy(const cpu& dev, std::int64_t n, int averages, int rounds) {
  std::vector<boot::tensor<float, cpu>> a;
  for (std::int64_t k = 0; k < 4 + averages; ++k) a.push_back(normals(dev, n, k));
  for (std::int64_t i = 0; i < n; ++i) a[3].data()[i] = a[3].data()[i] * a[3].data()[i];
  std::array<float*, boot::max_averages> average{};
  for (int k = 0; k < averages; ++k) average[static_cast<std::size_t>(k)] = a[static_cast<std::size_t>(4 + k)].data();
  const boot::adamw_row<float> row{.5f, 1e-4f, .01f, .9f, .999f, 1.2f, 1.1f, 1e-8f, {1e-3f, 1e-3f, 1e-3f, 1e-3f}, 0};
  const boot::group_row<float> group{1, 1};
  const boot::parameter_range range{0, n, 0};
  const double arrays = 7 + 2 * averages;
  return compare(dev, arrays * static_cast<double>(n) * sizeof(float), rounds, [&] {
    boot::adamw_ema(dev, &row, &group, &range, 1, a[0].data(), static_cast<const float*>(a[1].data()), a[2].data(),
                    a[3].data(), average, averages);
  });
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "kernels",
      {{"loss_vs_copy", ">= 0.7", "bootstrap loss and gradient, share of the best plain copy of the same bytes"},
       {"adamw_ema_vs_copy", ">= 0.7", "AdamW with one average, share of the best plain copy of the same bytes"}});
  int rounds = 24;
  report.app().add_option("--rounds", rounds, "paired rounds of each comparison (24)")->check(CLI::PositiveNumber);
  if (const auto status = report.parse(argc, argv)) return *status;
  const cpu dev{.threads = report.device().thread_count()};
  const std::int64_t elements = std::int64_t{1} << (report.quick() ? 22 : 24);
  report.config("elements", elements);
  report.config("rounds", rounds);
  report.config("copies", plain_copy::names);

  if (report.wants("loss_vs_copy")) {
    const comparison large = loss_against_copy(dev, elements >> 16, 1 << 16, rounds);
    report.row("loss_vs_copy", large.share, large.text());
    report.beside(fmt::format("loss {} x 65536", elements >> 16), large);
    report.beside(fmt::format("loss {} x 1024", elements >> 10),
                  loss_against_copy(dev, elements >> 10, 1 << 10, rounds));
  }
  if (report.wants("adamw_ema_vs_copy")) {
    const comparison one = adamw_against_copy(dev, elements, 1, rounds);
    report.row("adamw_ema_vs_copy", one.share, one.text());
    report.beside("adamw, 1 average", one);
    report.beside("adamw, 4 averages", adamw_against_copy(dev, elements, 4, rounds));
  }
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
