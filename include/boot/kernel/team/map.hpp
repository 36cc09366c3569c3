// SPDX-License-Identifier: MIT
/// Element-by-element functors without rows: y = f(x...) or y += f(x...) over flat arrays, on any TeamDevice.
#pragma once

#include <boot/config.hpp>
#include <boot/core/scalar.hpp>
#include <boot/kernel/pack.hpp>
#include <boot/kernel/team/group.hpp>
#include <boot/kernel/team/team_device.hpp>

#include <cstdint>
#include <utility>

namespace boot::inline v0 {

/// out[i] = f(in[i]...), or out[i] += with `accumulate`. f takes and returns the type that Out is computed in.
/// Which thread gets which element depends on the shape alone, aligned or not. Grid: blocks x 1.
template <bool accumulate, class F, class Out, class... In>
struct map_body {
  F f;               ///< functor, trivially copyable
  std::int64_t n;    ///< elements
  Out* out;          ///< written; may be one of the inputs
  inputs<In...> in;  ///< read

  /// One team's share.
  BOOT_NO_EXEC_CHECK
  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    run(team, std::index_sequence_for<In...>{});
  }

 private:
  BOOT_NO_EXEC_CHECK
  template <class Team, std::size_t... I>
  BOOT_HD void run(const Team& team, std::index_sequence<I...>) const {
    using T = compute_type<Out>;
    constexpr int width = detail::group_size<Out, In...>();
    const std::int64_t groups = n / width, step = team.blocks() * Team::size;
    const std::int64_t first = team.block() * Team::size + team.rank();
    const bool whole = (detail::group_aligned(out) && ... && detail::group_aligned(get<I>(in)));
    std::int64_t g = first;
    BOOT_NO_UNROLL
    for (; g < groups; g += step) {
      const std::int64_t at = g * width;
      const pack<detail::element_group<In, width>...> x(detail::load_group<width>(get<I>(in) + at, whole)...);
      detail::element_group<Out, width> y;
      if constexpr (accumulate) y = detail::load_group<width>(static_cast<const Out*>(out) + at, whole);
      BOOT_UNROLL
      for (int k = 0; k < width; ++k) {
        const T value = f(static_cast<T>(get<I>(x).v[k])...);
        store(y.v[k], accumulate ? static_cast<T>(y.v[k]) + value : value);
      }
      detail::store_group<width>(out + at, y, whole);
    }
    if (g != groups) return;  // the thread that would have had the next group gets what is left
    for (std::int64_t i = groups * width; i < n; ++i) {
      const T value = f(static_cast<T>(get<I>(in)[i])...);
      store(out[i], accumulate ? static_cast<T>(out[i]) + value : value);
    }
  }
};

/// Enqueues out = f(in...) or out += f(in...) over `n` elements.
template <TeamDevice D, class F, class Out, class... In>
void map_elements(const D& dev, std::int64_t n, const F& f, bool accumulate, Out* out, const In*... in) {
  const std::int64_t blocks = blocks_for(n, 256 * detail::group_size<Out, In...>());
  if (accumulate) {
    launch(dev, map_body<true, F, Out, In...>{f, n, out, inputs<In...>(in...)}, blocks, 1);
  } else {
    launch(dev, map_body<false, F, Out, In...>{f, n, out, inputs<In...>(in...)}, blocks, 1);
  }
}

}  // namespace boot::inline v0
