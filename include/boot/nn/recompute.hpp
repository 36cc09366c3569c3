// SPDX-License-Identifier: MIT
/// Recomputed blocks: keep a block's operands only, and run its forward again when backward() needs the rest.
#pragma once

#include <boot/nn/graph.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace boot::inline v0 {

namespace detail {
/// A value of the graph G, however it is passed.
template <class V, class G>
// clang-format off
concept OperandOf = std::is_same_v<std::remove_cvref_t<V>, typename G::value>;
// clang-format on

/// The graph's friend that runs a block without keeping anything, and again when backward() comes to it.
struct recomputation {
  template <class G, class Block, class... V>
  static typename G::value run(G& g, const Block& block, V&&... operand) {
    static_assert(std::is_trivially_copyable_v<Block> && sizeof(Block) <= G::node_bytes && alignof(Block) <= 16,
                  "boot: a block to recompute is stored until backward(), so it must be trivially copyable and small: "
                  "pass a layer as std::cref(layer), let a lambda capture pointers, references, views and numbers, and "
                  "pass values of the graph as operands");
    static_assert(sizeof...(V) <= max_block_operands, "boot: too many operands for one recomputed block");
    if (!g.keeping_) return block(g, std::forward<V>(operand)...);
    return first(g, block, std::array<int, sizeof...(V)>{operand.id_...}, std::make_index_sequence<sizeof...(V)>{});
  }

 private:
  template <class G, class Block, std::size_t N, std::size_t... I>
  static typename G::value first(G& g, const Block& block, const std::array<int, N>& ids, std::index_sequence<I...>) {
    using value = typename G::value;
    const int begin = static_cast<int>(g.slots_.size());
    [[maybe_unused]] std::array<value, N> inside{stand_in(g, ids[I])...};
    const std::array<int, N> inner{inside[I].id_...};
    g.keeping_ = false;  // after an exception the next begin() sets both right
    g.block_begin_ = begin;
    value out = block(g, std::move(inside[I])...);
    g.block_begin_ = 0;
    g.keeping_ = true;
    for (std::size_t k = 0; k < N; ++k)
      if (ids[k] >= 0 && out.id_ == inner[k]) return value(&g, ids[k]);  // handed through
    if (out.id_ < begin || !g.at(out.id_).wants_gradient || g.at(out.id_).parameter_offset >= 0) return out;
    unsigned saves = 0;
    for (std::size_t k = 0; k < N; ++k) saves |= ids[k] < 0 ? 0 : 1u << k;
    auto n = g.make_node(block, ids, saves, out.id_);
    n.run_again = [](G& again, typename G::node& m) {
      const Block& stored = *std::launder(reinterpret_cast<const Block*>(m.op));
      [[maybe_unused]] std::array<value, N> held{(m.in[I] < 0 ? value() : value(&again, m.in[I]))...};
      again.forget(m);  // the block, if it takes its operands by value, may let go of them before its end
      m.saves = 0;
      continue_from(again, m.out, stored(again, std::move(held[I])...));
    };
    g.nodes_.push_back(n);
    return out;
  }
  // What the block sees for an operand while nothing is kept: told by its place from what the block may not use.
  template <class G>
  static typename G::value stand_in(G& g, int id) {
    if (id < 0) return {};
    typename G::slot s;
    s.extents = g.at(id).extents;
    s.external = g.place(g.at(id));
    s.wants_gradient = g.at(id).wants_gradient;
    s.narrow = g.at(id).narrow;
    s.rounded = g.at(id).rounded;
    return g.add(s);
  }
  // The result of a block that ran again takes over the gradient of its first result.
  template <class G>
  static void continue_from(G& g, int before, const typename G::value& now) {
    require(now.has_value() && now.extents() == g.at(before).extents && !g.at(now.id_).has_gradient,
            "boot: a recomputed block gave another result in backward() than before; it must do the same both times, "
            "so let it capture nothing that changes");
    auto &from = g.at(before), &to = g.at(now.id_);
    if (auto& found = g.found_result_;
        g.mode_ == graph_mode::plan && std::find(found.begin(), found.end(), before) != found.end())
      found.push_back(now.id_);
    to.has_gradient = true;
    to.external_gradient = from.external_gradient;
    to.gradient_place = std::exchange(from.gradient_place, -1);
  }
};
}  // namespace detail

/// block(g, operand...), where a recorded run keeps nothing of what happens inside but the operands (Chen et al. 2016).
/// backward() runs the block once more, recorded, and then goes back through it. Results and gradients are the bits of
/// the plain call: every sum is taken in the same order. Nothing changes outside of recorded runs, nor for blocks in
/// which nothing wants a gradient.
///
/// The block is copied and stored until backward(), so it must be trivially copyable and at most 96 bytes: pass a layer
/// of the network as std::cref(layer), or a lambda. What either refers to must outlive backward() and be the same then,
/// so a lambda captures local variables by value. Values of the graph come in as operands, at most max_block_operands,
/// of which some may be empty: a lambda cannot hold a copy of one, which would keep its memory, and using one from
/// outside throws boot::error in the first recorded run or plan. Blocks may lie within blocks; the inner one then runs
/// forward three times in all. plan() tells the memory with what is recomputed, and adds its FLOP to backward_flop.
///
/// The block takes its operands as const references, or by value: then it may let go of one before its end, which frees
/// memory in inference if the caller moved it in, and in backward().
///
///     h = boot::recompute(g, std::cref(blocks[i]), std::move(h), embedding);
///     h = boot::recompute(g, [this](auto& q, const auto& x) { return boot::silu(q, first(q, x)); }, h);
template <class G, class Block, detail::OperandOf<G>... V>
[[nodiscard]] typename G::value recompute(G& g, const Block& block, V&&... operand) {
  return detail::recomputation::run(g, block, std::forward<V>(operand)...);
}
/// The same where `on`, else the plain call: for a network's own option.
template <class G, class Block, detail::OperandOf<G>... V>
[[nodiscard]] typename G::value recompute(G& g, bool on, const Block& block, V&&... operand) {
  if (!on) return block(g, std::forward<V>(operand)...);
  return detail::recomputation::run(g, block, std::forward<V>(operand)...);
}

}  // namespace boot::inline v0
