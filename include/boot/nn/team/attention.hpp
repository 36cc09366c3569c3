// SPDX-License-Identifier: MIT
/// Attention on any TeamDevice: products of matrices by the device's library, the softmax between them by teams.
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>
#include <boot/nn/team/layer_norm.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace boot::inline v0 {

namespace detail {

/// The scores of a piece: planes [queries, keys], one per sample and head, with rows on 16-byte addresses.
struct score_planes {
  std::int64_t queries, keys, row;  // numbers from one query to the next: at least `keys`, the rest has no meaning
  std::int64_t heads;               // planes of a sample
  const std::uint8_t* mask;         // [samples, keys], 0 = padding; null: all tokens count
  int shift;                        // 1 << shift lanes share a row

  /// For groups of `width` numbers.
  score_planes(std::int64_t q, std::int64_t k, std::int64_t h, const std::uint8_t* m, std::int64_t width)
      : queries(q), keys(k), row((k + width - 1) / width * width), heads(h), mask(m), shift(0) {
    while (shift < 5 && (std::int64_t{1} << shift) < row / width) ++shift;
  }
  /// Blocks of 256 threads for one plane.
  [[nodiscard]] std::int64_t blocks() const { return blocks_for(queries, 256 >> shift, 65536); }
};

/// What one thread has of a plane; all threads of a block go through the same number of turns.
struct score_place {
  const std::uint8_t* mask;  // of the plane's sample
  std::int64_t first, step;  // numbers of a row: groups that begin at first, first + step, ..
  std::int64_t turn, turns;  // queries: turn, turn + turns, ..
  int line;                  // its query of a turn
};
template <int width, class Team>
BOOT_HD score_place place_in_scores(const Team& team, const score_planes& planes) {
  static_assert(Team::warp >= 32, "boot: up to 32 lanes share a row");
  const int lanes = 1 << planes.shift, at_once = Team::size >> planes.shift;
  const std::uint8_t* const mask =
      planes.mask == nullptr ? nullptr : planes.mask + short_quotient(team.sample(), planes.heads) * planes.keys;
  return {mask,
          (team.rank() & (lanes - 1)) * width,
          lanes * width,
          team.block() * at_once,
          team.blocks() * at_once,
          team.rank() >> planes.shift};
}
/// Whether number i of a row that ends at `end` is a score of a token that counts.
BOOT_HD inline bool score_counts(const std::uint8_t* mask, std::int64_t i, std::int64_t end) {
  return i < end && (mask == nullptr || mask[i] != 0);
}
template <class Team, class C>
BOOT_HD C sum_of_lanes(const Team& team, C x, int shift) {
  for (int m = (1 << shift) >> 1; m > 0; m >>= 1) x += team.shuffle_xor(x, m);
  return x;
}

/// scores = softmax(scale scores) over the tokens that count, zeros where none does; lse[plane, query], unless null,
/// gets the logarithm of the sum. Maximum and sum are found in one pass. Grid: planes.blocks() x planes.
template <class T>
struct softmax_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  score_planes planes;
  T* scores;
  C scale;
  C* lse;
  std::int64_t lse_plane;  // numbers from one plane to the next

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const score_place p = place_in_scores<width>(team, planes);
    BOOT_NO_UNROLL
    for (std::int64_t base = p.turn; base < planes.queries; base += p.turns) {
      const std::int64_t query = base + p.line, end = query < planes.queries ? planes.keys : 0;
      T* const line = scores + (team.sample() * planes.queries + query) * planes.row;
      C most = C{-3.0e38f}, sum = 0;  // finite: infinities would differ by NaN
      BOOT_NO_UNROLL
      for (std::int64_t i = p.first; i < end; i += p.step) {
        const auto v = load_again<width>(static_cast<const T*>(line) + i, true, width);
        C now = most;
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C x = static_cast<C>(v.v[k]);
          if (score_counts(p.mask, i + k, end) && now < x) now = x;  // a NaN is passed over, its exponential is NaN
        }
        sum *= math::exp((most - now) * scale);
        most = now;
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C e = math::exp((static_cast<C>(v.v[k]) - most) * scale);
          if (score_counts(p.mask, i + k, end)) sum += e;
        }
      }
      C all = most;
      for (int m = (1 << planes.shift) >> 1; m > 0; m >>= 1) {
        const C other = team.shuffle_xor(all, m);
        if (all < other) all = other;
      }
      sum = sum_of_lanes(team, sum * math::exp((most - all) * scale), planes.shift);
      const bool none = sum == C{0};  // a token that counts adds at least something: the largest adds 1
      const C factor = none ? C{0} : math::quotient(C{1}, sum);
      BOOT_NO_UNROLL
      for (std::int64_t i = p.first; i < end; i += p.step) {
        const auto v = load_group<width>(static_cast<const T*>(line) + i, true);
        element_group<T, width> r;
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const C e = math::exp((static_cast<C>(v.v[k]) - all) * scale) * factor;
          store(r.v[k], score_counts(p.mask, i + k, end) ? e : C{0});
        }
        store_group<width>(line + i, r, true);
      }
      if (lse != nullptr && end > 0 && p.first == 0) {
        const C log_sum = sum >= C{0.5} ? math::log(sum) : sum;  // a NaN stays one
        lse[team.sample() * lse_plane + query] = none ? C{0} : math::fma(all, scale, log_sum);
      }
    }
  }
};

/// From scores and dp, the gradient of the probabilities p = exp(scale scores - lse): scores = p and, with `slopes`,
/// dp = scale p (dp - sum of p dp over the row). Grid: planes.blocks() x planes.
template <bool slopes, class T>
struct softmax_gradient_body {
  using C = compute_type<T>;
  static constexpr int width = group_size<T>();
  score_planes planes;
  T* scores;
  T* dp;
  C scale;
  const C* lse;
  std::int64_t lse_plane;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    const score_place p = place_in_scores<width>(team, planes);
    BOOT_NO_UNROLL
    for (std::int64_t base = p.turn; base < planes.queries; base += p.turns) {
      const std::int64_t query = base + p.line, end = query < planes.queries ? planes.keys : 0;
      const std::int64_t at = (team.sample() * planes.queries + query) * planes.row;
      const C offset = end > 0 ? lse[team.sample() * lse_plane + query] : C{0};
      C along = 0;
      if constexpr (slopes) {
        BOOT_NO_UNROLL
        for (std::int64_t i = p.first; i < end; i += p.step) {
          const auto v = load_again<width>(static_cast<const T*>(scores) + at + i, true, width);
          const auto g = load_again<width>(static_cast<const T*>(dp) + at + i, true, width);
          BOOT_UNROLL
          for (int k = 0; k < width; ++k) {
            const C e = math::exp(math::fma(static_cast<C>(v.v[k]), scale, -offset));
            if (score_counts(p.mask, i + k, end)) along += e * static_cast<C>(g.v[k]);
          }
        }
        along = sum_of_lanes(team, along, planes.shift);
      }
      BOOT_NO_UNROLL
      for (std::int64_t i = p.first; i < end; i += p.step) {
        const auto v = load_group<width>(static_cast<const T*>(scores) + at + i, true);
        element_group<T, width> e, d;
        if constexpr (slopes) d = load_group<width>(static_cast<const T*>(dp) + at + i, true);
        BOOT_UNROLL
        for (int k = 0; k < width; ++k) {
          const bool counts = score_counts(p.mask, i + k, end);
          const C x = math::exp(math::fma(static_cast<C>(v.v[k]), scale, -offset));
          if constexpr (slopes) store(d.v[k], counts ? (static_cast<C>(d.v[k]) - along) * x * scale : C{0});
          store(e.v[k], counts ? x : C{0});
        }
        store_group<width>(scores + at + i, e, true);
        if constexpr (slopes) store_group<width>(dp + at + i, d, true);
      }
    }
  }
};

/// Bytes of a score matrix that is there at one time, unless 64 queries of one sample have more.
inline constexpr std::int64_t attention_score_bytes = std::int64_t{1} << 27;

/// One attention, cut into pieces: some samples with all queries, or a block of one sample's queries.
template <class T>
struct attention_pieces {
  std::int64_t samples, queries, keys, heads, width, depth;  // k and v for all samples: one sample with more queries
  std::int64_t block = 0, group = 0;                         // queries and samples of a piece

  attention_pieces(const shape& q, const shape& k, std::int64_t head_count, std::int64_t score_bytes)
      : samples(k.batch()), queries(0), keys(0), heads(head_count), width(q[-1]), depth(width / heads) {
    if (samples == 0) return;
    queries = q.size() / (width * samples);
    keys = k.size() / (width * samples);
    const std::int64_t query = heads * planes(1, nullptr).row;  // scores of one
    const std::int64_t room = std::max<std::int64_t>(64, score_bytes / static_cast<std::int64_t>(sizeof(T)) / query);
    block = queries;
    if (room < queries) {
      const std::int64_t whole = room / 64 * 64, blocks = (queries + whole - 1) / whole;
      block = ((queries + blocks - 1) / blocks + 63) / 64 * 64;
    }
    group = std::clamp<std::int64_t>(room / std::max<std::int64_t>(1, queries), 1, samples);
  }
  [[nodiscard]] score_planes planes(std::int64_t count, const std::uint8_t* mask) const {
    return {count, keys, heads, mask, group_size<T>()};
  }
  /// Numbers of a piece's scores.
  [[nodiscard]] std::int64_t scores() const { return group * heads * block * planes(block, nullptr).row; }
  /// Calls f(first sample, samples, first query, queries) for every piece, samples and then queries in order.
  template <class F>
  void for_each(const F& f) const {
    for (std::int64_t s = 0; s < samples; s += group)
      for (std::int64_t i = 0; i < queries; i += block)
        f(s, std::min(group, samples - s), i, std::min(block, queries - i));
  }
};

/// A matrix per sample and head: how far rows, samples and heads are apart.
template <class T>
struct head_matrix {
  T* data;
  std::int64_t row, sample, head;
  bool transpose = false;
};
/// c = a b + beta c for every sample and head: calls for the fewer of both, each over the other.
template <class D, class T>
void head_products(const D& dev, std::int64_t samples, std::int64_t heads, std::int64_t m, std::int64_t n,
                   std::int64_t k, const head_matrix<const T>& a, const head_matrix<const T>& b, bool accumulate,
                   const head_matrix<T>& c) {
  using C = compute_type<T>;
  const bool by_head = heads <= samples;
  const auto start = [by_head](const auto& x, std::int64_t i) { return x.data + i * (by_head ? x.head : x.sample); };
  const auto stride = [by_head](const auto& x) { return by_head ? x.sample : x.head; };
  for (std::int64_t i = 0; i < (by_head ? heads : samples); ++i)
    batched_product(dev, by_head ? samples : heads, m, n, k, C{1}, start(a, i), a.row, stride(a), a.transpose,
                    start(b, i), b.row, stride(b), b.transpose, accumulate ? C{1} : C{0}, start(c, i), c.row,
                    stride(c));
}

template <class C>
[[nodiscard]] C attention_scale(std::int64_t depth) {
  return static_cast<C>(1 / std::sqrt(static_cast<double>(depth)));
}

template <TeamDevice D, StorageScalar T>
void attention_forward_in(const D& dev, const attention_pieces<T>& a, const T* q, const T* k, const T* v,
                          const std::uint8_t* mask, T* out, compute_type<T>* lse) {
  using C = compute_type<T>;
  using matrix_in = head_matrix<const T>;
  if (a.samples == 0 || a.queries == 0) return;
  const auto bytes = static_cast<std::size_t>(a.scores()) * sizeof(T);
  T* const scores = static_cast<T*>(device_scratch(dev, bytes, 1));
  a.for_each([&](std::int64_t s, std::int64_t samples, std::int64_t first, std::int64_t queries) {
    const std::int64_t of_q = a.queries * a.width, of_k = a.keys * a.width, at_q = s * of_q + first * a.width;
    const score_planes planes = a.planes(queries, mask == nullptr ? nullptr : mask + s * a.keys);
    const std::int64_t plane = queries * planes.row, from = s * a.heads * a.queries + first;
    const head_matrix<T> p{scores, planes.row, a.heads * plane, plane};
    head_products(dev, samples, a.heads, queries, a.keys, a.depth, matrix_in{q + at_q, a.width, of_q, a.depth},
                  matrix_in{k + s * of_k, a.width, of_k, a.depth, true}, false, p);
    launch(
        dev,
        softmax_body<T>{planes, scores, attention_scale<C>(a.depth), lse == nullptr ? nullptr : lse + from, a.queries},
        planes.blocks(), samples * a.heads);
    head_products(dev, samples, a.heads, queries, a.depth, a.keys, matrix_in{p.data, p.row, p.sample, p.head},
                  matrix_in{v + s * of_k, a.width, of_k, a.depth}, false,
                  head_matrix<T>{out + at_q, a.width, of_q, a.depth});
  });
}

/// Operands and gradients of the backward pass; a gradient that is not wanted is null.
template <class T>
struct attention_operands {
  const T *q, *k, *v;
  const std::uint8_t* mask;
  const compute_type<T>* lse;
  const T* dout;
  T *dq, *dk, *dv;
  bool add_q, add_k, add_v;
};

template <TeamDevice D, StorageScalar T>
void attention_backward_in(const D& dev, const attention_pieces<T>& a, const attention_operands<T>& o) {
  using C = compute_type<T>;
  using matrix_in = head_matrix<const T>;
  const std::int64_t of_q = a.queries * a.width, of_k = a.keys * a.width;
  const auto clear = [&](T* p, std::int64_t n) { fill_zero(dev, p, static_cast<std::size_t>(n) * sizeof(T)); };
  const bool slopes = o.dq != nullptr || o.dk != nullptr;
  if (a.samples == 0 || (!slopes && o.dv == nullptr)) return;
  if (a.queries == 0) {
    if (o.dk != nullptr && !o.add_k) clear(o.dk, a.samples * of_k);
    if (o.dv != nullptr && !o.add_v) clear(o.dv, a.samples * of_k);
    return;
  }
  bool add_q = o.add_q;
  if (a.block < a.queries && !add_q && o.dq != nullptr && (o.dq == o.dk || o.dq == o.dv)) {
    // One array: later queries' dq would be written over what dk and dv have got from earlier ones.
    clear(o.dq, a.samples * of_q);
    add_q = true;
  }
  const std::int64_t count = a.scores();
  T* const p =
      static_cast<T*>(device_scratch(dev, static_cast<std::size_t>(slopes ? 2 * count : count) * sizeof(T), 1));
  T* const ds = slopes ? p + count : nullptr;
  a.for_each([&](std::int64_t s, std::int64_t samples, std::int64_t first, std::int64_t queries) {
    const std::int64_t at_q = s * of_q + first * a.width;
    const score_planes planes = a.planes(queries, o.mask == nullptr ? nullptr : o.mask + s * a.keys);
    const std::int64_t plane = queries * planes.row;
    const matrix_in q{o.q + at_q, a.width, of_q, a.depth}, dout{o.dout + at_q, a.width, of_q, a.depth};
    const matrix_in k{o.k + s * of_k, a.width, of_k, a.depth};
    const auto of_scores = [&](auto* data, bool transpose) {
      return head_matrix{data, planes.row, a.heads * plane, plane, transpose};
    };
    const auto of_keys = [&](T* data) { return head_matrix<T>{data + s * of_k, a.width, of_k, a.depth}; };
    const T *const read_p = p, *const read_ds = ds;
    const C scale = attention_scale<C>(a.depth);
    const C* const lse = o.lse + s * a.heads * a.queries + first;
    head_products(dev, samples, a.heads, queries, a.keys, a.depth, q, matrix_in{k.data, k.row, k.sample, k.head, true},
                  false, of_scores(p, false));
    if (slopes) {
      head_products(dev, samples, a.heads, queries, a.keys, a.depth, dout,
                    matrix_in{o.v + s * of_k, a.width, of_k, a.depth, true}, false, of_scores(ds, false));
      launch(dev, softmax_gradient_body<true, T>{planes, p, ds, scale, lse, a.queries}, planes.blocks(),
             samples * a.heads);
    } else {
      launch(dev, softmax_gradient_body<false, T>{planes, p, nullptr, scale, lse, a.queries}, planes.blocks(),
             samples * a.heads);
    }
    if (o.dq != nullptr)
      head_products(dev, samples, a.heads, queries, a.depth, a.keys, of_scores(read_ds, false), k, add_q,
                    head_matrix<T>{o.dq + at_q, a.width, of_q, a.depth});
    if (o.dk != nullptr)
      head_products(dev, samples, a.heads, a.keys, a.depth, queries, of_scores(read_ds, true), q, o.add_k || first > 0,
                    of_keys(o.dk));
    if (o.dv != nullptr)
      head_products(dev, samples, a.heads, a.keys, a.depth, queries, of_scores(read_p, true), dout,
                    o.add_v || first > 0, of_keys(o.dv));
  });
}

}  // namespace detail

/// out = softmax(q k^T / sqrt(depth)) v for every head. q and out are [batch, ..., heads depth], k and v [batch or 1,
/// ..., heads depth]: the middle extents together are the tokens. `mask` is null or holds a number per token of k, 0
/// for padding, whose k and v must be finite; where all are padding the result is zero. `lse` is null or gets a number
/// per head and query, the logarithm of the softmax's sum. Scores are rounded to T. They take 128 MiB of slot 1 of the
/// device's scratch memory at most, unless 64 queries have more: memory beyond the arrays is linear in the tokens.
template <TeamDevice D, StorageScalar T>
void attention_forward(const D& dev, view<const T, D> q, view<const T, D> k, view<const T, D> v,
                       const std::uint8_t* mask, std::int64_t heads, view<T, D> out, compute_type<T>* lse) {
  const detail::attention_pieces<T> a(q.extents(), k.extents(), heads, detail::attention_score_bytes);
  detail::attention_forward_in<D, T>(dev, a, q.data(), k.data(), v.data(), mask, out.data(), lse);
}

/// Gradients of attention_forward() with its `lse`; those without data are not computed. dq (+)= ..., dk (+)= ...,
/// dv (+)= ...; two or three of them may be one array where their operands were one. Padding gets zeros. Twice the
/// memory of attention_forward().
template <TeamDevice D, StorageScalar T>
void attention_backward(const D& dev, view<const T, D> q, view<const T, D> k, view<const T, D> v,
                        const std::uint8_t* mask, std::int64_t heads, view<const T, D>, const compute_type<T>* lse,
                        view<const T, D> dout, view<T, D> dq, view<T, D> dk, view<T, D> dv, bool add_q, bool add_k,
                        bool add_v) {
  const detail::attention_pieces<T> a(q.extents(), k.extents(), heads, detail::attention_score_bytes);
  detail::attention_backward_in<D, T>(
      dev, a,
      {q.data(), k.data(), v.data(), mask, lse, dout.data(), dq.data(), dk.data(), dv.data(), add_q, add_k, add_v});
}

}  // namespace boot::inline v0
