// SPDX-License-Identifier: MIT
/// The host loop behind every per-element kernel: one functor, N inputs, M outputs, one row of numbers per sample.
#pragma once

#include <boot/config.hpp>
#include <boot/device/cpu.hpp>
#include <boot/kernel/cpu/rows.hpp>
#include <boot/kernel/pack.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if BOOT_HAS_X86 && BOOT_VECTOR_BYTES > 16
#  include <immintrin.h>
#elif BOOT_HAS_X86
#  include <emmintrin.h>
#endif

namespace boot::inline v0 {

namespace detail {

/// Elements that one thread takes at a time: fixed, so that sums are added in the same order for any thread count.
inline constexpr std::int64_t element_grain = 16384;
/// Elements between two additions to the sum, and of the buffer in front of streaming stores.
inline constexpr std::int64_t element_block = 64;
/// From this many bytes on, outputs go past the caches: nothing of them would still be there for whoever reads them.
inline constexpr double element_streaming_bytes = 1 << 27;

template <class T>
[[nodiscard]] bool element_line_start(const T* p) noexcept {
  return reinterpret_cast<std::uintptr_t>(p) % 64 == 0;
}

// Stores that go past the caches: without them each output line is first read for nothing, a sixth of the loss
// kernel's traffic.
template <class T>
void element_stream(T* to, const T* from) noexcept {
  constexpr std::size_t bytes = static_cast<std::size_t>(element_block) * sizeof(T);
#if BOOT_HAS_X86
  auto* const out = reinterpret_cast<float*>(to);
  const auto* const in = reinterpret_cast<const float*>(from);
  for (std::size_t i = 0; i < bytes / sizeof(float); i += BOOT_VECTOR_BYTES / sizeof(float)) {
#  if BOOT_VECTOR_BYTES == 64  // a whole line at once: narrower stores reach memory in parts when other loads press
    _mm512_stream_ps(out + i, _mm512_load_ps(in + i));
#  elif BOOT_VECTOR_BYTES == 32
    _mm256_stream_ps(out + i, _mm256_load_ps(in + i));
#  else
    _mm_stream_ps(out + i, _mm_load_ps(in + i));
#  endif
  }
#else
  std::memcpy(to, from, bytes);
#endif
}

template <class T>
struct element_buffer {
  alignas(64) T value[element_block];
};

// Named pointers in one scope are what lets the loop vectorise without run-time overlap checks.
template <class T, class Op, class Row, class... In>
struct element_span {
  template <std::size_t... O, class... Out>
  BOOT_FORCE_INLINE static T run(const Op& op, const Row& row, std::int64_t n, const In*... x,
                                 std::index_sequence<O...>, Out*... y) {
    T sum = 0;
#if BOOT_HAS_OPENMP
#  pragma omp simd reduction(+ : sum)
#endif
    for (std::int64_t i = 0; i < n; ++i) {
      const auto r = op(row, static_cast<T>(x[i])...);
      (store(y[i], r.out[O]), ...);
      sum += r.sum;
    }
    return sum;
  }
};

// Streaming or not, the same instructions make the outputs and the sum.
template <class T, class Op, class Row, class... In, class... Out, std::size_t... I, std::size_t... O>
T element_loop(const Op& op, const Row row, std::int64_t begin, std::int64_t n, const inputs<In...>& in,
               const outputs<Out...>& out, bool streaming, std::index_sequence<I...>, std::index_sequence<O...> o) {
  using span = element_span<T, Op, Row, In...>;
  T sum = 0;
  std::int64_t i = begin;
  const std::int64_t end = begin + n;
  [[maybe_unused]] pack<element_buffer<Out>...> buffer;
  streaming = streaming && (element_line_start(get<O>(out) + begin) && ...);
  for (; i + element_block <= end; i += element_block) {
    sum += span::run(op, row, element_block, (get<I>(in) + i)..., o,
                     (streaming ? get<O>(buffer).value : get<O>(out) + i)...);
    if (streaming) (element_stream(get<O>(out) + i, get<O>(buffer).value), ...);
  }
  if (i < end) sum += span::run(op, row, end - i, (get<I>(in) + i)..., o, (get<O>(out) + i)...);
#if BOOT_HAS_X86
  if (streaming) _mm_sfence();
#endif
  return sum;
}

}  // namespace detail

/// Runs `op(rows[b], inputs...)` over every element of `batch` samples of `n` elements each and writes its outputs.
///
/// `sums`, unless null, gets one number per sample: the sum of the functor's terms, added in an order that depends on
/// `n` alone. `scratch` must then hold element_partials(dev, batch, n) numbers. T is the type computed in.
template <class T, class Op, class Row, class... In, class... Out>
void for_each_element(const cpu& dev, const Op& op, const Row* rows, std::int64_t batch, std::int64_t n,
                      const inputs<In...>& in, const outputs<Out...>& out, std::type_identity_t<T>* sums = nullptr,
                      std::type_identity_t<T>* scratch = nullptr) {
  const std::int64_t grain = detail::element_grain;
  const std::int64_t pieces = std::max<std::int64_t>(1, (n + grain - 1) / grain);
  const double bytes = static_cast<double>(batch) * static_cast<double>(n) *
                       static_cast<double>((std::size_t{0} + ... + sizeof(In)) + (std::size_t{0} + ... + sizeof(Out)));
  const bool streaming = BOOT_HAS_X86 != 0 && sizeof...(Out) > 0 && bytes >= detail::element_streaming_bytes;
  const auto run = [&](std::int64_t b, std::int64_t piece) {
    const std::int64_t begin = piece * grain, count = std::min(grain, n - begin);
    return detail::element_loop<T>(op, rows[b], b * n + begin, count, in, out, streaming,
                                   std::index_sequence_for<In...>{}, std::index_sequence_for<Out...>{});
  };
  // Small samples are taken several at a time, so that a thread's share is worth its start.
  const std::int64_t together = std::max<std::int64_t>(1, grain / std::max<std::int64_t>(1, n));
  if (pieces == 1) {
    parallel_chunks(dev, batch, together, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t b = first; b < last; ++b) {
        const T sum = run(b, 0);
        if (sums != nullptr) sums[b] = sum;
      }
    });
    return;
  }
  parallel_for(dev, batch * pieces, [&](std::int64_t k) {
    const T sum = run(k / pieces, k % pieces);
    if (sums != nullptr) scratch[k] = sum;
  });
  if (sums == nullptr) return;
  for (std::int64_t b = 0; b < batch; ++b) {
    T sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) sum += scratch[b * pieces + piece];
    sums[b] = sum;
  }
}

/// Numbers that for_each_element needs as scratch for its sums.
[[nodiscard]] inline std::int64_t element_partials(const cpu&, std::int64_t batch, std::int64_t n) noexcept {
  return batch * std::max<std::int64_t>(1, (n + detail::element_grain - 1) / detail::element_grain);
}

}  // namespace boot::inline v0
