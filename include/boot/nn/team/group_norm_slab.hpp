// SPDX-License-Identifier: MIT
/// Group norm in one kernel: a block keeps a slab of whole groups in registers, so that x is read once.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/nn/team/group_norm_parts.hpp>
#include <boot/nn/team/operations.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace boot::inline v0::detail {

/// Divides by a multiplication where the quotient's numerator times the divisor stays below 2^20.
struct small_divisor {
  int value = 1;
  unsigned inverse = 1u << 20;

  small_divisor() = default;
  explicit small_divisor(int by)
      : value(by), inverse(((1u << 20) + static_cast<unsigned>(by) - 1) / static_cast<unsigned>(by)) {}
  [[nodiscard]] BOOT_HD int operator()(int a) const {
    return static_cast<int>(static_cast<unsigned>(a) * inverse >> 20);
  }
};

/// A sample cut into slabs of whole groups and all pixels, by its shape alone.
struct norm_slabs {
  static constexpr int room = 8;     ///< vectors of 16 bytes that a thread keeps
  static constexpr int widest = 64;  ///< vectors side by side, at most

  int threads = 0;         ///< of a block: 128, 512, or 0 where no slab fits
  std::int64_t count = 0;  ///< slabs of a sample; the last one may have fewer groups
  small_divisor across;    ///< vectors side by side in a slab
  int lines = 0;           ///< pixels that 64 threads have side by side: so the choice is the same for every block
  int groups = 0;          ///< of a slab
  bool vectors = false;    ///< a group is whole vectors: each gives one sum, else each channel does
  small_divisor span;      ///< sums side by side of a group

  /// `width` channels fill a vector.
  norm_slabs(std::int64_t pixels, std::int64_t channels, std::int64_t group_width, int width) {
    if (channels % width != 0 || pixels > 512 * room || channels > (1 << 18)) return;
    const std::int64_t all = channels / width, unit = group_width / std::gcd<std::int64_t>(group_width, width);
    for (const int size : {128, 512}) {
      const std::int64_t least = (pixels * 64 + size * room - 1) / (size * room), units = widest / least / unit;
      if (units == 0 || std::min(units * unit, all) < std::min<std::int64_t>(3, all)) continue;  // 48 bytes of a row
      count = (all + units * unit - 1) / (units * unit);
      threads = size;
      across = small_divisor(static_cast<int>((all / unit + count - 1) / count * unit));
      lines = 64 / across.value;
      groups = static_cast<int>(across.value * width / group_width);
      vectors = group_width % width == 0;
      span = small_divisor(static_cast<int>(vectors ? group_width / width : group_width));
      return;
    }
  }
};

/// y = f((x - mean) slope + offset), and mean and reciprocal deviation unless `saved` is null. Threads lie side by side
/// over a slab's vectors and behind one another over its pixels. The variance is taken about the mean, out of the
/// registers; what the mean lacks is found by the way (Chan et al. 1983). Grid: norm_slabs::count x batch.
template <bool with_silu, int Threads, class T>
struct norm_slab_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>(), channels_most = norm_slabs::widest * width;
  static constexpr bool keeps = sizeof(T) == sizeof(C);  // what is held becomes x - mean, where that fits
  static constexpr launch_tuning tuning{Threads, 1024 / Threads};
  static constexpr std::size_t shared_bytes = (2 * Threads * width + 3 * channels_most) * sizeof(C);
  norm_slabs cut;
  norm_operands<T> p;
  C share, epsilon;  // one over a group's numbers
  C* saved;
  T* y;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    static_assert(Team::size <= Threads && Team::size % 64 == 0, "boot: the slab is cut for multiples of 64 threads");
    constexpr int held = norm_slabs::room * Threads / Team::size, warps = Team::size / Team::warp;
    const int lines = cut.lines * (Team::size / 64), line = cut.across(team.rank());
    const int vector = team.rank() - line * cut.across.value;
    const std::int64_t sample = team.sample(), first_group = team.block() * cut.groups;
    const int groups = static_cast<int>(p.groups - first_group < cut.groups ? p.groups - first_group : cut.groups);
    const int group_width = static_cast<int>(p.group_width), channels = groups * group_width;
    const std::int64_t first = first_group * group_width;
    const bool there = line < lines && vector * width < channels;
    const int pixels = there ? static_cast<int>(p.pixels) : 0;
    const std::int64_t start = (sample * p.pixels + line) * p.channels + first + vector * width;
    const std::int64_t step = lines * p.channels;
    const bool whole = group_aligned(p.x) && group_aligned(y);

    group_words x[held] = {};
    const T* from = p.x + start;
    if (whole) {
      BOOT_UNROLL
      for (int i = 0; i < held; ++i, from += step)
        if (line + i * lines < pixels) x[i] = packed(load_group<width>(from, true));
    } else {
      BOOT_UNROLL
      for (int i = 0; i < held; ++i, from += step)
        if (line + i * lines < pixels) x[i] = packed(load_group<width>(from, false));
    }

    // A group's sums lie next to each other, line after line.
    const int begin = cut.vectors ? vector : vector * width, group = cut.span(begin);
    const int inside = begin - group * cut.span.value, group_parts = lines * cut.span.value;
    const int to = there ? group * group_parts + line * cut.span.value + inside : -1;
    C* const parts = team.template scratch<C>();
    C* const squares = parts + Team::size * width;
    C* const mean = squares + Team::size * width;  // but for what its rounding lacks
    C *const slope = mean + channels_most, *const offset = slope + channels_most;
    BOOT_NO_UNROLL
    for (int c = team.rank(); c < channels; c += Team::size) {
      const C factor = p.factor(sample, first + c);
      slope[c] = p.weight[first + c] * factor;
      offset[c] = math::fma(p.offset(first + c), factor, p.shift(sample, first + c));
    }

    int rows = 0;
    C sum[width] = {}, square[width] = {}, centre[width];
    BOOT_UNROLL
    for (int i = 0; i < held; ++i) {
      rows += line + i * lines < pixels ? 1 : 0;
      const auto v = widened(x[i]);  // zero where there is no row
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) sum[k] += v.v[k];
    }
    put(parts, to, inside, group_parts, sum);
    team.sync();
    BOOT_NO_UNROLL
    for (int base = 0; base < groups; base += warps) {
      const int g = base + team.rank() / Team::warp, lane = g < groups ? team.rank() % Team::warp : 1 << 30;
      C all = 0;
      for (int e = lane; e < group_parts; e += Team::warp) all += parts[g * group_parts + e];
      all = warp_sum(team, all) * share;
      for (int c = lane; c < group_width; c += Team::warp) mean[g * group_width + c] = all;
    }
    team.sync();
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) centre[k] = mean[there ? vector * width + k : 0];
    level(parts, to, inside, group_parts, rows, centre);
    BOOT_UNROLL
    for (int i = 0; i < held; ++i) {
      if (i >= rows) continue;
      auto v = widened(x[i]);
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) {
        v.v[k] -= centre[k];
        square[k] = math::fma(v.v[k], v.v[k], square[k]);
      }
      if constexpr (keeps) __builtin_memcpy(&x[i], &v, sizeof v);
    }
    put(squares, to, inside, group_parts, square);
    team.sync();
    BOOT_NO_UNROLL
    for (int base = 0; base < groups; base += warps) {
      const int g = base + team.rank() / Team::warp, lane = g < groups ? team.rank() % Team::warp : 1 << 30;
      C off = 0, variance = 0;
      for (int e = lane; e < group_parts; e += Team::warp) {
        off += parts[g * group_parts + e];
        variance += squares[g * group_parts + e];
      }
      off = warp_sum(team, off) * share;
      variance = math::fma(-off, off, warp_sum(team, variance) * share);
      if (g >= groups) continue;
      const C middle = mean[g * group_width] + off;
      const C reciprocal = math::quotient(C{1}, math::sqrt(variance + epsilon));
      for (int c = g * group_width + lane; c < (g + 1) * group_width; c += Team::warp) {
        slope[c] *= reciprocal;
        offset[c] = math::fma(-off, slope[c], offset[c]);
      }
      if (saved == nullptr || lane != 0) continue;
      C* const own = saved + 2 * (sample * p.groups + first_group + g);
      own[0] = middle;
      own[1] = reciprocal;
    }
    team.sync();

    constexpr int part = width < 4 ? width : 4;  // constants of four channels at a time: registers are few
    BOOT_UNROLL
    for (int h = 0; h < width; h += part) {
      C m[part], s[part], o[part];
      BOOT_UNROLL
      for (int k = 0; k < part; ++k) {
        const int c = there ? vector * width + h + k : 0;
        m[k] = keeps ? C{0} : mean[c];
        s[k] = slope[c];
        o[k] = offset[c];
      }
      T* target = y + start;
      BOOT_UNROLL
      for (int i = 0; i < held; ++i, target += step) {
        if (i >= rows) continue;
        const auto v = widened(x[i]);
        auto q = unpacked(x[i]);
        BOOT_UNROLL
        for (int k = h; k < h + part; ++k) {
          const C z = math::fma(keeps ? v.v[k] : v.v[k] - m[k - h], s[k - h], o[k - h]);
          store(q.v[k], with_silu ? norm_silu(z) : z);
        }
        x[i] = packed(q);
        if (h + part == width && !(keeps && !whole)) store_group<width>(target, q, whole);
      }
    }
    if (whole || !keeps) return;  // floats that are not aligned wait: tested above, they would cost every store a tenth
    T* target = y + start;
    BOOT_UNROLL
    for (int i = 0; i < held; ++i, target += step)
      if (i < rows) store_group<width>(target, unpacked(x[i]), false);
  }

 private:
  // Words, not elements, lie in registers: an element of 16 bits would take a whole one.
  BOOT_HD static group_words packed(const element_group<T, width>& v) {
    group_words w;
    __builtin_memcpy(&w, &v, sizeof w);
    return w;
  }
  BOOT_HD static element_group<T, width> unpacked(const group_words& w) {
    element_group<T, width> v;
    __builtin_memcpy(&v, &w, sizeof v);
    return v;
  }
  BOOT_HD static element_group<C, width> widened(group_words w) {
    element_group<C, width> v;
    if constexpr (sizeof(T) == 2) {
      BOOT_UNROLL
      for (int k = 0; k < 4; ++k) {
#if BOOT_DEVICE_CODE
        asm volatile("" : "+r"(w.v[k]));  // hides that they were widened before: the compiler would keep the elements
#endif
        v.v[2 * k] = as_float(w.v[k] << 16);
        v.v[2 * k + 1] = as_float(w.v[k] & 0xffff0000u);
      }
    } else {
      __builtin_memcpy(&v, &w, sizeof v);
    }
    return v;
  }

  // Lays a thread's numbers where its groups' are.
  BOOT_HD void put(C* parts, int to, int inside, int group_parts, const C (&v)[width]) const {
    if (to < 0) return;
    if (cut.vectors) {
      C sum = v[0];
      BOOT_UNROLL
      for (int k = 1; k < width; ++k) sum += v[k];
      parts[to] = sum;
      return;
    }
    int left = cut.span.value - inside;
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) {
      parts[to] = v[k];
      to = after(to, left, group_parts);
    }
  }
  // Takes `rows` means from each number that lies there: what is left sums to what the means lack.
  BOOT_HD void level(C* parts, int to, int inside, int group_parts, int rows, const C (&v)[width]) const {
    if (to < 0) return;
    if (cut.vectors) {
      parts[to] = math::fma(static_cast<C>(-rows * width), v[0], parts[to]);
      return;
    }
    int left = cut.span.value - inside;
    BOOT_UNROLL
    for (int k = 0; k < width; ++k) {
      parts[to] = math::fma(static_cast<C>(-rows), v[k], parts[to]);
      to = after(to, left, group_parts);
    }
  }
  // The place of the next channel's number.
  BOOT_HD int after(int to, int& left, int group_parts) const {
    if (--left > 0) return to + 1;
    left = cut.span.value;
    return to + 1 + group_parts - cut.span.value;
  }
};

}  // namespace boot::inline v0::detail
