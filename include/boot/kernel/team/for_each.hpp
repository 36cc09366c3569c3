// SPDX-License-Identifier: MIT
/// The per-element kernel on any TeamDevice: one functor, N inputs, M outputs, one row of numbers per sample.
#pragma once

#include <boot/kernel/team/body.hpp>
#include <boot/kernel/team/rows.hpp>
#include <boot/kernel/team/team_device.hpp>

#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

namespace detail {

template <class T, class Op, class Row, class In, class Out>
struct element_kernel {
  Op op;
  const Row* rows;
  std::int64_t n;
  In in;
  Out out;
  T* partial;

  BOOT_NO_EXEC_CHECK
  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    boot::element_body<T>(team, op, rows, n, in, out, partial);
  }
};

template <class T>
struct finish_sum_kernel {
  const T* partial;
  std::int64_t count;
  T* sums;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    finish_sum_body(team, partial, count, sums);
  }
};

/// Blocks that share a sample of n elements: each takes 16 KiB or so at a time.
[[nodiscard]] inline std::int64_t element_team_blocks(std::int64_t n) noexcept { return blocks_for(n, 4096, 256); }

}  // namespace detail

/// Numbers that for_each_element needs as scratch for its sums.
template <TeamDevice D>
[[nodiscard]] std::int64_t element_partials(const D&, std::int64_t batch, std::int64_t n) noexcept {
  return batch * detail::element_team_blocks(n);
}

/// Runs `op(rows[b], inputs...)` over every element of `batch` samples of `n` elements each and writes its outputs.
///
/// `sums`, unless null, gets one number per sample: the sum of the functor's terms, added in an order that depends on
/// `n` alone. `scratch` must then hold element_partials(dev, batch, n) numbers. T is the type computed in.
template <class T, TeamDevice D, class Op, class Row, class... In, class... Out>
void for_each_element(const D& dev, const Op& op, const Row* rows, std::int64_t batch, std::int64_t n,
                      const inputs<In...>& in, const outputs<Out...>& out, std::type_identity_t<T>* sums = nullptr,
                      std::type_identity_t<T>* scratch = nullptr) {
  const std::int64_t blocks = detail::element_team_blocks(n);
  T* const partial = sums == nullptr ? nullptr : blocks == 1 ? sums : scratch;
  launch(dev, detail::element_kernel<T, Op, Row, inputs<In...>, outputs<Out...>>{op, rows, n, in, out, partial}, blocks,
         batch);
  if (sums != nullptr && blocks > 1) launch(dev, detail::finish_sum_kernel<T>{scratch, blocks, sums}, 1, batch);
}

}  // namespace boot::inline v0
