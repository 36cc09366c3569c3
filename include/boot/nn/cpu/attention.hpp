// SPDX-License-Identifier: MIT
/// Host loops of attention: blocks of scores with an online softmax, and a backward pass that computes them again.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/device/memory.hpp>
#include <boot/nn/cpu/gemm.hpp>
#include <boot/tensor/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace boot::inline v0 {

namespace detail {

// Scores lie in memory as [keys of a block, queries of a block]: sums and maxima over keys then run along vectors of
// queries, and every product of a score block reads it the way gemm packs fastest.
inline constexpr std::int64_t attention_queries = 128;       // in a block
inline constexpr std::int64_t attention_keys = 192;          // in a block: its scores stay in the second cache
inline constexpr std::int64_t attention_task_queries = 512;  // of one forward task, which transposes all keys once

/// Sizes of one attention. k and v with a batch of one serve all samples, which then count as one with more queries.
struct attention_sizes {
  std::int64_t samples, queries, keys, heads, width, depth;  ///< width = heads depth
};
template <class Q, class K>
[[nodiscard]] attention_sizes attention_sizes_of(const Q& q, const K& k, std::int64_t heads) {
  const std::int64_t width = q.extents()[-1], samples = k.batch();
  const auto tokens = [&](std::int64_t size) { return samples == 0 ? 0 : size / (width * samples); };
  return {samples, tokens(q.size()), tokens(k.size()), heads, width, width / heads};
}

// Cuts the calling thread's own memory, which is kept: after the first call of a size nothing is allocated.
class attention_space {
 public:
  attention_space(const cpu& dev, std::int64_t bytes) {
    thread_local buffer<cpu> space;
    if (static_cast<std::int64_t>(space.bytes()) < bytes) {
      space = {};
      space = buffer<cpu>(dev, static_cast<std::size_t>(bytes));
    }
    next_ = static_cast<std::byte*>(space.data());
  }
  template <class U>
  [[nodiscard]] static constexpr std::int64_t bytes(std::int64_t count) noexcept {
    return (count * static_cast<std::int64_t>(sizeof(U)) + 127) / 128 * 128;
  }
  template <class U>
  [[nodiscard]] U* take(std::int64_t count) noexcept {
    U* const p = reinterpret_cast<U*>(next_);
    next_ += bytes<U>(count);
    return p;
  }

 private:
  std::byte* next_;
};

// to[j, i] (+)= from[i, j] for `rows` rows of `columns` numbers, in strips that stay in cache lines.
template <class T>
void attention_transpose(const T* BOOT_RESTRICT from, std::int64_t from_row, std::int64_t rows, std::int64_t columns,
                         T* BOOT_RESTRICT to, std::int64_t to_row, bool accumulate = false) {
  constexpr std::int64_t strip = 16;
  for (std::int64_t i0 = 0; i0 < rows; i0 += strip) {
    const std::int64_t i1 = std::min(rows, i0 + strip);
    for (std::int64_t j = 0; j < columns; ++j) {
      T* const line = to + j * to_row;
      if (accumulate) {
        for (std::int64_t i = i0; i < i1; ++i) line[i] += from[i * from_row + j];
      } else {
        for (std::int64_t i = i0; i < i1; ++i) line[i] = from[i * from_row + j];
      }
    }
  }
}

/// The tokens of one sample and head that count: rows of `depth` numbers, `row` apart.
template <class T>
struct attention_tokens {
  const T* data;
  std::int64_t row;
};
// Tokens that count, in order, and how many; no list when all do.
inline std::int64_t attention_list(const std::uint8_t* mask, std::int64_t keys, std::int64_t* list) noexcept {
  std::int64_t n = 0;
  for (std::int64_t i = 0; i < keys; ++i)
    if (mask[i] != 0) list[n++] = i;
  return n;
}
// Padding is left out before anything is computed: the tokens that count are copied together.
template <class T>
[[nodiscard]] attention_tokens<T> attention_gather(const T* from, std::int64_t row, std::int64_t depth,
                                                   const std::int64_t* list, std::int64_t n, T* to) {
  if (list == nullptr) return {from, row};
  for (std::int64_t i = 0; i < n; ++i) std::copy_n(from + list[i] * row, depth, to + i * depth);
  return {to, depth};
}

// most[j] = max(most[j], scores[i, j]); a NaN is passed over, the exponentials find it again.
template <class T>
void attention_maxima(const T* BOOT_RESTRICT scores, std::int64_t keys, std::int64_t queries, T* BOOT_RESTRICT most) {
  for (std::int64_t i = 0; i < keys; ++i) {
    const T* BOOT_RESTRICT line = scores + i * queries;
    BOOT_SIMD
    for (std::int64_t j = 0; j < queries; ++j) most[j] = most[j] < line[j] ? line[j] : most[j];
  }
}
// scores = exp(scale scores - shift), sum += their sum over the keys.
template <class T>
void attention_exponentials(T* BOOT_RESTRICT scores, std::int64_t keys, std::int64_t queries, T scale,
                            const T* BOOT_RESTRICT shift, T* BOOT_RESTRICT sum) {
  for (std::int64_t i = 0; i < keys; ++i) {
    T* BOOT_RESTRICT line = scores + i * queries;
    BOOT_SIMD
    for (std::int64_t j = 0; j < queries; ++j) {
      const T p = math::exp(math::fma(line[j], scale, -shift[j]));
      line[j] = p;
      sum[j] += p;
    }
  }
}
// p = exp(scale scores - lse) in place of the scores, and ds = scale p (dp - delta) in place of dp.
template <class T>
void attention_slopes(T* BOOT_RESTRICT scores, T* BOOT_RESTRICT dp, std::int64_t keys, std::int64_t queries, T scale,
                      const T* BOOT_RESTRICT lse, const T* BOOT_RESTRICT delta) {
  for (std::int64_t i = 0; i < keys; ++i) {
    T* BOOT_RESTRICT p = scores + i * queries;
    T* BOOT_RESTRICT ds = dp + i * queries;
    BOOT_SIMD
    for (std::int64_t j = 0; j < queries; ++j) {
      const T e = math::exp(math::fma(p[j], scale, -lse[j]));
      p[j] = e;
      ds[j] = (ds[j] - delta[j]) * e * scale;
    }
  }
}
// p = exp(scale scores - lse) in place of the scores.
template <class T>
void attention_probabilities(T* BOOT_RESTRICT scores, std::int64_t keys, std::int64_t queries, T scale,
                             const T* BOOT_RESTRICT lse) {
  for (std::int64_t i = 0; i < keys; ++i) {
    T* BOOT_RESTRICT p = scores + i * queries;
    BOOT_SIMD
    for (std::int64_t j = 0; j < queries; ++j) p[j] = math::exp(math::fma(p[j], scale, -lse[j]));
  }
}
template <class T>
void attention_rescale(T* BOOT_RESTRICT rows, std::int64_t depth, std::int64_t queries, const T* BOOT_RESTRICT factor) {
  for (std::int64_t i = 0; i < depth; ++i) {
    T* BOOT_RESTRICT line = rows + i * queries;
    BOOT_SIMD
    for (std::int64_t j = 0; j < queries; ++j) line[j] *= factor[j];
  }
}
// Rows of tokens out of rows of features: token i of `from` [depth, tokens] goes to row list[i], or i without a list.
template <class T>
void attention_scatter(const T* from, std::int64_t from_row, std::int64_t tokens, std::int64_t depth, T* to,
                       std::int64_t to_row, const std::int64_t* list, bool accumulate) {
  if (list == nullptr) return attention_transpose(from, from_row, depth, tokens, to, to_row, accumulate);
  for (std::int64_t i = 0; i < tokens; ++i) {
    T* const line = to + list[i] * to_row;
    for (std::int64_t j = 0; j < depth; ++j) line[j] = (accumulate ? line[j] : T{0}) + from[j * from_row + i];
  }
}
// The sum of x y over `n` numbers, in eight lanes.
template <class T>
[[nodiscard]] T attention_dot(const T* BOOT_RESTRICT x, const T* BOOT_RESTRICT y, std::int64_t n) {
  T lane[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    BOOT_SIMD
    for (std::int64_t j = 0; j < 8; ++j) lane[j] += x[i + j] * y[i + j];
  }
  for (std::int64_t j = 0; i < n; ++i, ++j) lane[j] += x[i] * y[i];
  return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}
template <class T>
void attention_zero_rows(T* to, std::int64_t row, std::int64_t rows, std::int64_t depth) {
  for (std::int64_t i = 0; i < rows; ++i) std::fill_n(to + i * row, depth, T{0});
}

// One head of one sample, queries [0, queries): q, out and lse start at the first of them.
template <class T>
void attention_head_forward(const cpu& dev, const attention_sizes& s, std::int64_t queries, const T* q, const T* k,
                            const T* v, const std::uint8_t* mask, T* out, T* lse) {
  using space_type = attention_space;
  const std::int64_t d = s.depth, block_q = std::min(queries, attention_queries);
  const std::int64_t block_k = std::min(s.keys, attention_keys);
  space_type space(dev, space_type::bytes<std::int64_t>(s.keys) + space_type::bytes<T>(block_k * block_q) +
                            2 * space_type::bytes<T>(s.keys * d) + space_type::bytes<T>(d * block_q) +
                            4 * space_type::bytes<T>(block_q));
  std::int64_t* const list = mask == nullptr ? nullptr : space.take<std::int64_t>(s.keys);
  const std::int64_t n = mask == nullptr ? s.keys : attention_list(mask, s.keys, list);
  if (n == 0) {
    attention_zero_rows(out, s.width, queries, d);
    if (lse != nullptr) std::fill_n(lse, queries, T{0});
    return;
  }
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(d)));
  T* const keys = space.take<T>(s.keys * d);  // [depth, keys]
  T* const spare = space.take<T>(s.keys * d);
  const attention_tokens<T> ordered = attention_gather(k, s.width, d, list, n, spare);
  attention_transpose(ordered.data, ordered.row, n, d, keys, n);
  const attention_tokens<T> values = attention_gather(v, s.width, d, list, n, spare);
  T* const scores = space.take<T>(block_k * block_q);
  T* const result = space.take<T>(d * block_q);  // [depth, queries]
  T* const most = space.take<T>(block_q);
  T* const shift = space.take<T>(block_q);
  T* const sum = space.take<T>(block_q);
  T* const factor = space.take<T>(block_q);
  for (std::int64_t q0 = 0; q0 < queries; q0 += block_q) {
    const std::int64_t nq = std::min(block_q, queries - q0);
    for (std::int64_t k0 = 0; k0 < n; k0 += block_k) {
      const std::int64_t nk = std::min(block_k, n - k0);
      gemm<T>(dev, nk, nq, d, {keys + k0, 1, n}, {q + q0 * s.width, 1, s.width}, scores, nq);
      if (k0 == 0) {
        std::copy_n(scores, nq, most);
        attention_maxima(scores, nk, nq, most);
        for (std::int64_t j = 0; j < nq; ++j) shift[j] = most[j] * scale, sum[j] = T{0};
      } else {
        attention_maxima(scores, nk, nq, most);
        for (std::int64_t j = 0; j < nq; ++j) {  // what was summed so far belongs to the earlier maximum
          const T now = most[j] * scale;
          factor[j] = math::exp(shift[j] - now);
          shift[j] = now;
          sum[j] *= factor[j];
        }
        attention_rescale(result, d, nq, factor);
      }
      attention_exponentials(scores, nk, nq, scale, shift, sum);
      gemm<T>(dev, d, nq, nk, {values.data + k0 * values.row, 1, values.row}, {scores, nq, 1}, result, nq, k0 > 0);
    }
    for (std::int64_t j = 0; j < nq; ++j) factor[j] = T{1} / sum[j];
    attention_rescale(result, d, nq, factor);
    attention_scatter(result, nq, nq, d, out + q0 * s.width, s.width, nullptr, false);
    if (lse != nullptr)
      for (std::int64_t j = 0; j < nq; ++j) lse[q0 + j] = shift[j] + std::log(sum[j]);
  }
}

// Where one head of one sample begins in every array of the backward pass; a gradient that is not wanted is null.
template <class T>
struct attention_slice {
  const T *q, *k, *v, *out, *lse, *dout;
  const std::uint8_t* mask;
  T *dq, *dk, *dv;
  bool add_q, add_k, add_v;
};

// The gradients may be one array (k = v = q): that of q is complete before those of k and v are added.
template <class T>
void attention_head_backward(const cpu& dev, const attention_sizes& s, const attention_slice<T>& a) {
  using space_type = attention_space;
  const std::int64_t d = s.depth, block_q = std::min(s.queries, attention_queries);
  const std::int64_t block_k = std::min(s.keys, attention_keys);
  const std::int64_t all = space_type::bytes<T>(s.keys * d);
  space_type space(dev, space_type::bytes<std::int64_t>(s.keys) + 5 * all +
                            2 * space_type::bytes<T>(block_k * block_q) + space_type::bytes<T>(d * block_q) +
                            space_type::bytes<T>(block_q));
  std::int64_t* const list = a.mask == nullptr ? nullptr : space.take<std::int64_t>(s.keys);
  const std::int64_t n = a.mask == nullptr ? s.keys : attention_list(a.mask, s.keys, list);
  if (a.dq != nullptr && !a.add_q && n == 0) attention_zero_rows(a.dq, s.width, s.queries, d);
  T* const dk = space.take<T>(s.keys * d);  // [depth, keys], as the three below
  T* const dv = space.take<T>(s.keys * d);
  if (n > 0 && s.queries > 0) {
    const bool needs_ds = a.dq != nullptr || a.dk != nullptr;
    T* const keys = space.take<T>(s.keys * d);
    T* const values = space.take<T>(s.keys * d);
    T* const spare = space.take<T>(s.keys * d);
    const attention_tokens<T> rows_v = attention_gather(a.v, s.width, d, list, n, spare);
    attention_transpose(rows_v.data, rows_v.row, n, d, values, n);
    const attention_tokens<T> rows_k = attention_gather(a.k, s.width, d, list, n, spare);
    attention_transpose(rows_k.data, rows_k.row, n, d, keys, n);
    T* const p = space.take<T>(block_k * block_q);  // [keys, queries]: scores, then probabilities
    T* const ds = space.take<T>(block_k * block_q);
    T* const dq = space.take<T>(d * block_q);  // [depth, queries]
    T* const delta = space.take<T>(block_q);
    const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(d)));
    for (std::int64_t q0 = 0; q0 < s.queries; q0 += block_q) {
      const std::int64_t nq = std::min(block_q, s.queries - q0);
      const T* const q = a.q + q0 * s.width;
      const T* const dout = a.dout + q0 * s.width;
      for (std::int64_t j = 0; j < nq; ++j) delta[j] = attention_dot(dout + j * s.width, a.out + (q0 + j) * s.width, d);
      for (std::int64_t k0 = 0; k0 < n; k0 += block_k) {
        const std::int64_t nk = std::min(block_k, n - k0);
        gemm<T>(dev, nk, nq, d, {keys + k0, 1, n}, {q, 1, s.width}, p, nq);
        if (needs_ds) {
          gemm<T>(dev, nk, nq, d, {values + k0, 1, n}, {dout, 1, s.width}, ds, nq);
          attention_slopes(p, ds, nk, nq, scale, a.lse + q0, delta);
        } else {
          attention_probabilities(p, nk, nq, scale, a.lse + q0);
        }
        if (a.dv != nullptr) gemm<T>(dev, d, nk, nq, {dout, 1, s.width}, {p, 1, nq}, dv + k0, n, q0 > 0);
        if (a.dk != nullptr) gemm<T>(dev, d, nk, nq, {q, 1, s.width}, {ds, 1, nq}, dk + k0, n, q0 > 0);
        if (a.dq != nullptr)
          gemm<T>(dev, d, nq, nk, {rows_k.data + k0 * rows_k.row, 1, rows_k.row}, {ds, nq, 1}, dq, nq, k0 > 0);
      }
      if (a.dq != nullptr) attention_scatter(dq, nq, nq, d, a.dq + q0 * s.width, s.width, nullptr, a.add_q);
    }
  }
  for (const bool of_keys : {true, false}) {
    T* const to = of_keys ? a.dk : a.dv;
    const bool add = of_keys ? a.add_k : a.add_v;
    if (to == nullptr) continue;
    if (!add && (n < s.keys || s.queries == 0)) attention_zero_rows(to, s.width, s.keys, d);
    if (s.queries > 0) attention_scatter(of_keys ? dk : dv, n, n, d, to, s.width, list, add);
  }
}

}  // namespace detail

/// out = softmax(q k^T / sqrt(depth)) v for every head. q and out are [batch, ..., heads depth], k and v [batch or 1,
/// ..., heads depth]: the middle extents together are the tokens. `mask` is null or holds a number per token of k, 0
/// for padding; where all are padding the result is zero. `lse` is null or gets a number per head and query, the
/// logarithm of the softmax's sum. Memory beyond the arrays is linear in the tokens.
template <ComputeScalar T>
void attention_forward(const cpu& dev, view<const T, cpu> q, view<const T, cpu> k, view<const T, cpu> v,
                       const std::uint8_t* mask, std::int64_t heads, view<T, cpu> out, T* lse) {
  const detail::attention_sizes s = detail::attention_sizes_of(q, k, heads);
  const std::int64_t pieces = (s.queries + detail::attention_task_queries - 1) / detail::attention_task_queries;
  parallel_for(dev, s.samples * heads * pieces, [=](std::int64_t task) {
    const std::int64_t piece = task % pieces, head = task / pieces % heads, sample = task / pieces / heads;
    const std::int64_t first = piece * detail::attention_task_queries;
    const std::int64_t at_q = (sample * s.queries + first) * s.width + head * s.depth;
    const std::int64_t at_k = sample * s.keys * s.width + head * s.depth;
    detail::attention_head_forward(dev, s, std::min(detail::attention_task_queries, s.queries - first), q.data() + at_q,
                                   k.data() + at_k, v.data() + at_k, mask == nullptr ? nullptr : mask + sample * s.keys,
                                   out.data() + at_q,
                                   lse == nullptr ? nullptr : lse + (sample * heads + head) * s.queries + first);
  });
}

/// Gradients of attention_forward() with its `out` and `lse`; those without data are not computed. dq (+)= ..., dk (+)=
/// ..., dv (+)= ...; two or three of them may be one array where their operands were one. Padding gets zeros.
template <ComputeScalar T>
void attention_backward(const cpu& dev, view<const T, cpu> q, view<const T, cpu> k, view<const T, cpu> v,
                        const std::uint8_t* mask, std::int64_t heads, view<const T, cpu> out, const T* lse,
                        view<const T, cpu> dout, view<T, cpu> dq, view<T, cpu> dk, view<T, cpu> dv, bool add_q,
                        bool add_k, bool add_v) {
  const detail::attention_sizes s = detail::attention_sizes_of(q, k, heads);
  parallel_for(dev, s.samples * heads, [=](std::int64_t task) {
    const std::int64_t head = task % heads, sample = task / heads;
    const std::int64_t at_q = sample * s.queries * s.width + head * s.depth;
    const std::int64_t at_k = sample * s.keys * s.width + head * s.depth;
    const auto there = [](T* p, std::int64_t at) { return p == nullptr ? nullptr : p + at; };
    const detail::attention_slice<T> slice{q.data() + at_q,
                                           k.data() + at_k,
                                           v.data() + at_k,
                                           out.data() + at_q,
                                           lse + task * s.queries,
                                           dout.data() + at_q,
                                           mask == nullptr ? nullptr : mask + sample * s.keys,
                                           there(dq.data(), at_q),
                                           there(dk.data(), at_k),
                                           there(dv.data(), at_k),
                                           add_q,
                                           add_k,
                                           add_v};
    detail::attention_head_backward(dev, s, slice);
  });
}

}  // namespace boot::inline v0
