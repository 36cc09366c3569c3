// SPDX-License-Identifier: MIT
/// Reverse-mode differentiation: a graph runs a network's code to plan memory, to infer, or to record a tape.
#pragma once

#include <boot/core/scalar.hpp>
#include <boot/device/memory.hpp>
#include <boot/nn/arena.hpp>
#include <boot/nn/op_context.hpp>
#include <boot/tensor/parameter.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0 {

namespace detail {
struct recomputation;  // nn/recompute.hpp
}  // namespace detail

/// What a graph does with a network's code.
enum class graph_mode {
  plan,       ///< shapes, bytes and FLOP only: nothing is computed
  inference,  ///< outputs only: an activation's memory is reused as soon as nobody holds it
  recorded    ///< outputs and what backward() needs
};

/// What a plan found.
struct graph_plan {
  std::int64_t bytes = 0;    ///< activation memory at its peak, forward and backward
  double forward_flop = 0;   ///< of matrix products, 2 per multiply-add
  double backward_flop = 0;  ///< the same of backward(), with what recomputed blocks do again
  bool recorded = false;     ///< of runs that can be differentiated
  std::vector<int> result;   ///< which of a run's activations are the network's result, an array of T
  std::shared_ptr<const activation_plan> places;  ///< where the activations lie
};

/// Runs a network's code in one of three modes. A graph owns its activations' memory, planned once and then reused.
///
/// An operation is a trivially copyable struct with
///   `shape result(const shape&...) const`                          throws boot::error for operands that do not fit
///   `template <class C> void forward(const D&, C& context) const`
///   `template <class C> void backward(const D&, C& context) const`
///   `static constexpr unsigned saves`                               bit i: backward needs operand i; bit 31: the result
/// and optionally
///   `std::int64_t saved_size(const shape&...) const`                numbers to keep from forward to backward
///   `double flop(const shape&...) const`                            of forward, 2 per multiply-add
///   `double backward_flop(const shape&...) const`                   of backward when every operand wants its gradient
///   `static constexpr bool remade = true`                           nobody keeps the result for backward: forward runs
///                                                                   again where it is needed. For cheap operations that
///                                                                   save every activation they read
///   `static constexpr unsigned parameters = 0b110`                  bit i: operand i is a parameter; the operation also
///                                                                   runs on views of bf16 (below)
///   `static constexpr unsigned passes = 0b1`                        bit i: what backward adds to operand i's gradient is
///                                                                   the result's gradient, element for element. The
///                                                                   graph may hand the array itself on, without a copy:
///                                                                   context.wants(i) is false then
/// Without backward_flop, backward counts flop() once per saved operand that wants its gradient, as for a product of two
/// factors. Forward must give the same bits whether `context.saved` is there or empty (nothing will be differentiated).
/// See nn/operations.hpp for the library's own and docs/your_own_model.md for how to add one.
///
/// With A = bf16, mixed precision: activations and their gradients are stored in bf16, and so half the memory, and
/// matrices of weights are read as if they were, while every operation computes in T on views of T, whoever wrote it.
/// In full precision stay the weights themselves and their gradient, parameters of one dimension (biases and norms),
/// inputs, what an operation keeps for itself, and the network's result with the gradient it is given.
///
/// Views of T are copies then, which cost time. Where the device's functions take bf16 (boot::cuda), an operation that
/// has `parameters` gets what is stored itself: `context.in`, `out` and `gradient` are views of bf16, all parameters
/// rounded once per run; for the operands in `parameters` it asks `context.parameter(i)`, if they have one dimension, and
/// `context.parameter_gradient(i)`, which are views of T. It must not assume that all its types are equal then. Inputs
/// are rounded for it, once for all that read them at one time. If its result is the network's, that is an array of T
/// whose numbers are rounded to bf16, and so is the gradient it is given; on boot::cpu neither is. Where an operand is
/// something else, a parameter that it does not declare for example, the operation gets copies as any other does.
template <ComputeScalar T, Device D, StorageScalar A = T>
requires(std::same_as<A, T> || (std::same_as<T, float> && std::same_as<A, bf16>)) class graph {
 public:
  using scalar_type = T;      ///< what activations are computed in
  using device_type = D;      ///< where they live
  using activation_type = A;  ///< what activations are stored in

  /// Counts as a holder of one activation: its memory may be reused when the last holder is gone.
  class value {
   public:
    value() = default;
    value(const value& other) : graph_(other.graph_), id_(other.id_) {
      if (graph_ != nullptr) graph_->retain(id_);
    }
    value(value&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)), id_(other.id_) {}
    value& operator=(value other) noexcept {
      std::swap(graph_, other.graph_);
      std::swap(id_, other.id_);
      return *this;
    }
    ~value() {
      if (graph_ != nullptr) graph_->release(id_);
    }
    /// Shape of the activation.
    [[nodiscard]] const shape& extents() const { return graph_->slots_[static_cast<std::size_t>(id_)].extents; }
    /// False for a default-constructed value.
    [[nodiscard]] bool has_value() const noexcept { return graph_ != nullptr; }

   private:
    friend graph;
    friend detail::recomputation;
    value(graph* g, int id) : graph_(g), id_(id) { g->retain(id); }
    graph* graph_ = nullptr;
    int id_ = -1;
  };

  graph() = default;
  graph(const graph&) = delete;
  graph& operator=(const graph&) = delete;

  /// Starts a run of the code that `plan` was made of, recorded if the plan was; takes memory where it has too little.
  /// `weights` and `gradient` are flat arrays of `layout`; the gradient may be empty unless recorded. No value of an
  /// earlier run may be alive; a run that ended in an exception leaves nothing behind.
  void begin(const D& dev, const graph_plan& plan, const parameter_layout& layout, view<const T, D> weights,
             view<T, D> gradient) {
    require(plan.places != nullptr,
            "boot: a graph was begun without a plan; make one of the same code by graph::plan()");
    if (capacity() < plan.bytes) {
      memory_ = {};
      memory_ = buffer<D>(dev, static_cast<std::size_t>(plan.bytes));
    }
    start(dev, plan.recorded ? graph_mode::recorded : graph_mode::inference, plan.recorded, layout, weights, gradient);
    plan_.result = plan.result;
    places_.follow(plan.places);
    round_weights();
  }
  /// The mode of this run.
  [[nodiscard]] graph_mode mode() const noexcept { return mode_; }
  /// Device of this run.
  [[nodiscard]] const D& device() const noexcept { return device_; }

  /// An array of the caller's as a leaf without gradient; it must outlive the run.
  [[nodiscard]] value input(view<const T, D> data) {
    slot s;
    s.extents = data.extents();
    s.external = data.data();
    return add(s);
  }
  /// A network's parameter as a leaf.
  [[nodiscard]] value operator()(const parameter& p) {
    require(p.index >= 0, "boot: a parameter without a place was used; build a parameter_layout of the network first");
    slot s;
    s.extents = p.extents;
    s.external = weights_.data() == nullptr ? nullptr : weights_.data() + p.offset;
    s.parameter_offset = p.offset;
    s.rounded = mixed && p.extents.rank() > 1;
    s.wants_gradient = recording_ && layout_->group_of(p.index).trainable;
    return add(s);
  }
  /// The result of an operation on the operands.
  template <class Op, std::same_as<value>... V>
  [[nodiscard]] value apply(const Op& op, const V&... operand) {
    static_assert(std::is_trivially_copyable_v<Op> && sizeof(Op) <= node_bytes && sizeof...(V) <= max_operands);
    std::array<int, sizeof...(V)> ids{operand.id_...};
    for (const int id : ids) check_operand(id);
    const auto run = [&]<std::size_t... I>(std::index_sequence<I...>) {
      slot s;
      s.extents = op.result(shape_of(ids[I])...);
      const bool narrow = runs_narrow<Op>(ids);
      [[maybe_unused]] std::array<value, sizeof...(V)> held;  // until the operation has run
      if constexpr (narrow_operation<Op>)
        if (narrow) ((held[I] = stored_operand((Op::parameters & (1u << I)) != 0, ids[I])), ...);
      for (const int id : ids) s.wants_gradient = s.wants_gradient || at(id).wants_gradient;
      const bool keeps = keeping_ && s.wants_gradient;
      std::int64_t saved = 0;
      if constexpr (detail::SavesMore<Op, V...>)
        if (keeps) saved = op.saved_size(shape_of(ids[I])...);
      double flop = 0, backward_flop = 0;
      if constexpr (detail::CountsFlop<Op, V...>) flop = op.flop(shape_of(ids[I])...);
      (differentiated_ ? plan_.backward_flop : plan_.forward_flop) += flop;
      if constexpr (detail::CountsBackwardFlop<Op, V...>) {
        backward_flop = op.backward_flop(shape_of(ids[I])...);
      } else {  // a matrix product per saved factor; a bias is no factor
        for (int k = 0; k < static_cast<int>(ids.size()); ++k)
          if ((Op::saves & (1u << k)) && at(ids[static_cast<std::size_t>(k)]).wants_gradient) backward_flop += flop;
      }
      s.narrow = mixed && !is_result(static_cast<int>(slots_.size()));
      allocate(s);
      value out = add(s);
      int saved_id = -1;
      if (saved > 0) {
        slot extra;
        extra.extents = {saved};
        allocate(extra);
        saved_id = static_cast<int>(slots_.size());
        slots_.push_back(extra);
        retain(saved_id);
      }
      if constexpr (narrow_operation<Op>) {
        if (narrow) {
          op_context<T, D, A> c;
          copies made(*this);
          (set_stored(ids[I], I, c), ...);
          const slot& to = at(out.id_);
          c.out = to.narrow ? this->narrow(to.place, to.extents) : made.template take<A>(to.extents);
          if (saved_id >= 0) c.saved = full(saved_id);
          if (mode_ != graph_mode::plan) {
            op.forward(device_, c);
            if (!to.narrow) convert(device_, view<const A, D>(c.out), full(out.id_));
          }
        }
      }
      if (!narrow) {
        op_context<T, D> c;
        copies in_full(*this);
        ((c.in[I] = read(ids[I], in_full)), ...);
        c.out = at(out.id_).narrow ? in_full.template take<T>(at(out.id_).extents) : full(out.id_);
        if (saved_id >= 0) c.saved = full(saved_id);
        if (mode_ != graph_mode::plan) {
          op.forward(device_, c);
          if (at(out.id_).narrow) write_narrow(at(out.id_).place, c.out);
        }
      }
      if (keeps) {
        node n = make_node(op, ids, Op::saves, out.id_, true);
        n.saved = saved_id;
        n.backward_flop = backward_flop;
        if constexpr (detail::PassingOperation<Op>) n.passes = Op::passes;
        n.run = [](const std::byte* bytes, const D& dev, op_context<T, D>& c) { stored<Op>(bytes).backward(dev, c); };
        if constexpr (narrow_operation<Op>) {
          if (narrow)
            n.run_narrow = [](const std::byte* bytes, const D& dev, op_context<T, D, A>& c) {
              stored<Op>(bytes).backward(dev, c);
            };
        }
        if constexpr (detail::RemadeOperation<Op>) {
          bool there = true;  // what forward reads lies with the caller, or is saved
          for (std::size_t k = 0; k < ids.size(); ++k)
            there = there && (at(ids[k]).place < 0 || (Op::saves & (1u << k)) != 0);
          if (there) {
            at(out.id_).maker = static_cast<int>(nodes_.size());
            n.make = [](const std::byte* bytes, const D& dev, op_context<T, D>& c) {
              stored<Op>(bytes).forward(dev, c);
            };
            if constexpr (narrow_operation<Op>) {
              if (narrow)
                n.make_narrow = [](const std::byte* bytes, const D& dev, op_context<T, D, A>& c) {
                  stored<Op>(bytes).forward(dev, c);
                };
            }
          }
        }
        nodes_.push_back(n);
      }
      return out;
    };
    return run(std::make_index_sequence<sizeof...(V)>{});
  }

  /// The numbers of a value; empty in plan mode. With A other than T only of inputs, parameters and the result.
  [[nodiscard]] view<const T, D> data(const value& v) const {
    require(mode_ == graph_mode::plan || !at(v.id_).narrow,
            "boot: the numbers of an activation of shape {} were asked for, which is stored in bf16; in such a graph "
            "only a network's result can be read, so ask for them in a graph without",
            to_string(v.extents()));
    return full(v.id_);
  }

  /// Adds dL/d parameters to the flat gradient, given dL/d `root`. Once per run; frees what the tape kept.
  void backward(const value& root, view<const T, D> root_gradient) {
    require(recording_, "boot: backward() on a graph that was not recorded; begin it with a plan of a recorded run");
    require(!differentiated_,
            "boot: backward() a second time on one recorded run; it frees what it read, so record the network again");
    require(mode_ == graph_mode::plan || root_gradient.size() == root.extents().size(),
            "boot: backward() got a gradient of shape {} for a result of shape {}", to_string(root_gradient.extents()),
            to_string(root.extents()));
    differentiated_ = true;
    at(root.id_).external_gradient = root_gradient.data();
    at(root.id_).has_gradient = true;
    while (!nodes_.empty()) {  // a stack: a recomputed block puts its operations where it was
      node n = nodes_.back();
      nodes_.pop_back();
      if (at(n.out).has_gradient) {
        if (n.run_again != nullptr) {
          n.run_again(*this, n);
        } else {
          differentiate(n);
        }
      }
      forget(n);
    }
  }

  /// Runs `code(*this)` (and backward when `recorded`) without computing, and returns what it will need.
  template <class Code>
  [[nodiscard]] graph_plan plan(const D& dev, bool recorded, const parameter_layout& layout, const Code& code) {
    // Which activations are the result is known at the end, and how they are stored may move others: again until both
    // agree.
    for (int pass = 0;; ++pass) {
      require(pass < 8, "boot: the plan of a network does not settle; its code must not depend on earlier runs");
      const std::vector<int> assumed = std::exchange(found_result_, {});
      start(dev, graph_mode::plan, recorded, layout, {}, {});
      plan_.result = assumed;
      round_weights();
      const value root = code(*this);
      found_result_.push_back(root.id_);
      if (recorded) backward(root, {});
      if (!mixed || found_result_ == assumed) break;
    }
    found_result_.clear();
    plan_.recorded = recorded;
    plan_.places = places_.packed();
    plan_.bytes = plan_.places->bytes;
    return std::exchange(plan_, {});
  }
  /// Bytes of activation memory held.
  [[nodiscard]] std::int64_t capacity() const noexcept { return static_cast<std::int64_t>(memory_.bytes()); }

 private:
  friend detail::recomputation;
  static constexpr std::size_t node_bytes = 96;
  static constexpr bool mixed = !std::same_as<A, T>;
  static constexpr bool narrow_device = mixed && detail::NarrowDevice<D>;
  template <class Op>
  static constexpr bool narrow_operation = narrow_device&& detail::NarrowOperation<Op>;

  struct slot {
    shape extents;
    int place = -1;  // of places_, or -1
    const void* external = nullptr;
    const T* external_gradient = nullptr;
    std::int64_t parameter_offset = -1;
    int gradient_place = -1;
    int holders = 0;
    int maker = -1;        // the node that can make it again, or -1
    int narrow_copy = -1;  // the slot of its numbers as A, as long as that has a place
    bool wants_gradient = false;
    bool has_gradient = false;
    bool narrow = false;   // it and its gradient are stored as A
    bool rounded = false;  // stored as T and read as if it were stored as A
  };
  struct node {
    alignas(16) std::byte op[node_bytes];
    void (*run)(const std::byte*, const D&, op_context<T, D>&);   // an operation's backward
    void (*make)(const std::byte*, const D&, op_context<T, D>&);  // its forward, where the result is not kept
    // The same of an operation that runs on what is stored, else null.
    void (*run_narrow)(const std::byte*, const D&, op_context<T, D, A>&);
    void (*make_narrow)(const std::byte*, const D&, op_context<T, D, A>&);
    void (*run_again)(graph&, node&);  // a recomputed block's forward, else null
    std::array<int, max_block_operands> in;
    int operands, out, saved;
    unsigned saves;    // operands it needs, and of these
    unsigned remakes;  // those that are made again
    unsigned passes;   // operands whose gradient may begin as the result's own array
    double backward_flop;
  };

  void start(const D& dev, graph_mode mode, bool recording, const parameter_layout& layout, view<const T, D> weights,
             view<T, D> gradient) {
    device_ = dev;
    mode_ = mode;
    layout_ = &layout;
    weights_ = weights;
    parameter_gradient_ = gradient;
    recording_ = keeping_ = recording;
    differentiated_ = false;
    block_begin_ = 0;
    slots_.clear();
    nodes_.clear();
    places_.record();
    plan_ = {};
  }

  [[nodiscard]] slot& at(int id) { return slots_[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const slot& at(int id) const { return slots_[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const shape& shape_of(int id) const { return at(id).extents; }
  [[nodiscard]] static std::int64_t bytes_of(const slot& s) noexcept {
    return s.extents.size() * static_cast<std::int64_t>(s.narrow ? sizeof(A) : sizeof(T));
  }
  // Null while there is no memory: a plan computes nothing.
  [[nodiscard]] void* memory(int place) const noexcept {
    if (mode_ == graph_mode::plan || place < 0) return nullptr;
    return static_cast<std::byte*>(memory_.data()) + places_.offset(place);
  }
  [[nodiscard]] const void* place(const slot& s) const noexcept {
    return s.external != nullptr ? s.external : memory(s.place);
  }
  [[nodiscard]] view<T, D> full(int place, const shape& s) const { return {static_cast<T*>(memory(place)), s}; }
  [[nodiscard]] view<A, D> narrow(int place, const shape& s) const { return {static_cast<A*>(memory(place)), s}; }
  // A slot that is stored as T. What it points at is written only where it lies in memory_.
  [[nodiscard]] view<T, D> full(int id) const {
    return {static_cast<T*>(const_cast<void*>(place(at(id)))), at(id).extents};
  }
  [[nodiscard]] bool is_result(int id) const noexcept {
    return std::find(plan_.result.begin(), plan_.result.end(), id) != plan_.result.end();
  }

  // What a slot that is stored as A holds.
  [[nodiscard]] view<const A, D> as_stored(int id) const {
    return {static_cast<const A*>(place(at(id))), at(id).extents};
  }
  // Operations that run on what is stored read weights from one rounded copy of all parameters.
  void round_weights() {
    rounded_weights_ = -1;
    if constexpr (narrow_device) {
      const std::int64_t n = layout_->size();
      if (n == 0) return;
      rounded_weights_ = places_.take(n * static_cast<std::int64_t>(sizeof(A)));
      if (mode_ != graph_mode::plan) convert(device_, weights_, narrow(rounded_weights_, {n}));
    }
  }
  // Whether an operation gets its operands as they are stored. It does not depend on which activation is the result,
  // which the first pass of a plan does not know.
  template <class Op, std::size_t N>
  [[nodiscard]] bool runs_narrow([[maybe_unused]] const std::array<int, N>& ids) const {
    bool fits = narrow_operation<Op>;
    if constexpr (narrow_operation<Op>)
      for (std::size_t k = 0; k < N; ++k) {
        const slot& s = at(ids[k]);
        // What lies with the caller in full and wants no gradient is an input: a copy of it is made.
        const bool is_input = s.place < 0 && s.parameter_offset < 0 && !s.rounded && !s.wants_gradient;
        fits = fits && ((Op::parameters & (1u << k)) != 0 ? s.parameter_offset >= 0 : s.narrow || is_input);
      }
    return fits;
  }
  // Operand `id` of an operation that gets its operands as they are stored: itself, or where it is an input, an
  // activation with its numbers in its stead, made once for all that read it at one time.
  [[nodiscard]] value stored_operand(bool is_parameter, int& id) {
    if (is_parameter || at(id).narrow) return {};
    const int known = at(id).narrow_copy;
    if (known >= 0 && at(known).place >= 0) return value(this, id = known);
    slot s;
    s.extents = shape_of(id);
    s.narrow = true;
    allocate(s);
    value copy = add(s);
    at(id).narrow_copy = copy.id_;
    if (mode_ != graph_mode::plan)
      convert(device_, view<const T, D>(full(id)), narrow(at(copy.id_).place, shape_of(id)));
    id = copy.id_;
    return copy;
  }
  // Operand i as it is stored; of parameters what forward and backward may read.
  void set_stored(int id, std::size_t i, op_context<T, D, A>& c) const requires narrow_device {
    const slot& s = at(id);
    c.in[i] = {nullptr, s.extents};
    c.parameters[i] = {nullptr, s.extents};
    if (s.parameter_offset < 0) {
      c.in[i] = as_stored(id);
    } else if (mode_ != graph_mode::plan) {
      c.in[i] = {static_cast<const A*>(memory(rounded_weights_)) + s.parameter_offset, s.extents};
      if (!s.rounded) c.parameters[i] = full(id);
    }
  }
  // A node's operation.
  template <class Op>
  [[nodiscard]] static std::remove_const_t<Op> stored(const std::byte* bytes) {
    std::remove_const_t<Op> copy;
    std::memcpy(static_cast<void*>(&copy), bytes, sizeof(Op));
    return copy;
  }

  // Room for copies of what one operation touches and is not stored as it reads it; gone at the end of the scope.
  class copies {
   public:
    explicit copies(graph& g) : graph_(g) {}
    copies(const copies&) = delete;
    copies& operator=(const copies&) = delete;
    ~copies() {
      while (count_ > 0) {
        --count_;
        graph_.places_.give(taken_[count_]);
      }
    }
    template <class U>
    [[nodiscard]] view<U, D> take(const shape& s) {
      taken_[count_] = graph_.places_.take(s.size() * static_cast<std::int64_t>(sizeof(U)));
      return {static_cast<U*>(graph_.memory(taken_[count_++])), s};
    }

   private:
    graph& graph_;
    std::array<int, 2 * max_operands + 2> taken_;
    std::size_t count_ = 0;
  };
  // What an operation reads of a slot.
  [[nodiscard]] view<T, D> read(int id, copies& in_full) const {
    const slot& s = at(id);
    if constexpr (mixed) {
      if (s.narrow || s.rounded) {
        const view<T, D> copy = in_full.template take<T>(s.extents);
        if (mode_ == graph_mode::plan) return copy;
        if (s.narrow) {
          convert(device_, as_stored(id), copy);
        } else {
          round_to<A>(device_, view<const T, D>(static_cast<const T*>(place(s)), s.extents), copy);
        }
        return copy;
      }
    }
    return full(id);
  }

  value add(const slot& s) {
    slots_.push_back(s);
    return value(this, static_cast<int>(slots_.size()) - 1);
  }
  void allocate(slot& s) { s.place = places_.take(bytes_of(s)); }
  void retain(int id) { ++at(id).holders; }
  void release(int id) {
    slot& s = at(id);
    if (--s.holders == 0 && s.place >= 0) places_.give(std::exchange(s.place, -1));
  }
  void check_operand(int id) const {
    require(
        id >= block_begin_,
        "boot: a recomputed block used a value of the graph from outside, which may be gone when it runs again; pass "
        "the value to recompute() as an operand and use the block's own argument for it");
  }
  template <class Op, std::size_t N>
  node make_node(const Op& op, const std::array<int, N>& ids, unsigned saves, int out, bool may_remake = false) {
    node n{};
    std::memcpy(n.op, static_cast<const void*>(&op), sizeof(Op));
    n.operands = static_cast<int>(N);
    for (std::size_t k = 0; k != N; ++k) {
      n.in[k] = ids[k];
      if (!(saves & (1u << k))) continue;
      if (may_remake && at(ids[k]).maker >= 0) {
        n.remakes |= 1u << k;
      } else {
        retain(ids[k]);
      }
    }
    n.out = out;
    if (saves & (1u << 31)) retain(out);
    n.saved = -1;
    n.saves = saves;
    return n;
  }
  void differentiate(const node& n) {
    if constexpr (narrow_device) {
      if (n.run_narrow != nullptr) return differentiate_narrow(n);
    }
    op_context<T, D> c;
    copies in_full(*this);
    const int heir = heir_of(n);
    for (int k = 0; k < n.operands; ++k) prepare(n, k, k == heir, c, in_full);
    slot& out = at(n.out);
    if (out.external_gradient != nullptr || out.gradient_place < 0) {
      c.out_gradient = {out.external_gradient, out.extents};
    } else {
      c.out_gradient = read_gradient(out, in_full);
    }
    if (n.saves & (1u << 31)) c.out = read(n.out, in_full);
    if (n.saved >= 0) c.saved = full(n.saved);
    if (mode_ != graph_mode::plan) {
      n.run(n.op, device_, c);
      for (int k = 0; k < n.operands; ++k)
        if (const slot& s = at(n.in[static_cast<std::size_t>(k)]); s.narrow && c.wants(k))
          write_narrow(s.gradient_place, c.gradient[static_cast<std::size_t>(k)]);
    }
    end(n, heir);
  }
  void differentiate_narrow(const node& n) requires narrow_device {
    op_context<T, D, A> c;
    copies made(*this);
    const int heir = heir_of(n);
    for (int k = 0; k < n.operands; ++k) prepare_narrow(n, static_cast<std::size_t>(k), k == heir, c, made);
    const slot& out = at(n.out);
    if (out.gradient_place >= 0) {
      c.out_gradient = narrow(out.gradient_place, out.extents);
    } else {  // the caller's
      const view<T, D> given{const_cast<T*>(out.external_gradient), out.extents};
      c.out_gradient = converted(given, made);
    }
    if (n.saves & (1u << 31)) c.out = out.narrow ? narrow(out.place, out.extents) : converted(full(n.out), made);
    if (n.saved >= 0) c.saved = full(n.saved);
    if (mode_ != graph_mode::plan) n.run_narrow(n.op, device_, c);
    end(n, heir);
  }
  [[nodiscard]] view<A, D> converted(const view<T, D>& from, copies& made) const requires narrow_device {
    const view<A, D> to = made.template take<A>(from.extents());
    if (mode_ != graph_mode::plan) convert(device_, view<const T, D>(from), to);
    return to;
  }
  // The operand that takes over the array of the result's gradient, or -1: one that gets that gradient as it is, and
  // nothing else so far. Nobody reads the array after this node; the node's other operands read it before.
  [[nodiscard]] int heir_of(const node& n) const {
    const slot& out = at(n.out);
    if (out.gradient_place < 0) return -1;  // the caller's
    for (int k = 0; k < n.operands; ++k) {
      const int id = n.in[static_cast<std::size_t>(k)];
      const slot& s = at(id);
      const bool fits = (n.passes & (1u << k)) != 0 && s.wants_gradient && !s.has_gradient && s.parameter_offset < 0 &&
                        s.narrow == out.narrow && s.extents.size() == out.extents.size();
      if (fits && std::count(n.in.begin(), n.in.begin() + n.operands, id) == 1) return k;
    }
    return -1;
  }
  void end(const node& n, int heir) {
    slot& out = at(n.out);
    plan_.backward_flop += n.backward_flop;
    if (out.gradient_place < 0) return;
    const int place = std::exchange(out.gradient_place, -1);
    if (heir < 0) return places_.give(place);
    slot& s = at(n.in[static_cast<std::size_t>(heir)]);
    s.gradient_place = place;
    s.has_gradient = true;
  }
  void write_narrow([[maybe_unused]] int place, [[maybe_unused]] const view<T, D>& from) const {
    if constexpr (mixed) convert(device_, view<const T, D>(from), narrow(place, from.extents()));
  }
  // What a node saved of an operand.
  [[nodiscard]] view<T, D> needed(const node& n, std::size_t i, copies& in_full) {
    const slot& s = at(n.in[i]);
    if (!(n.remakes & (1u << i)) || s.place >= 0) return read(n.in[i], in_full);
    const view<T, D> made = in_full.template take<T>(s.extents);
    const node& maker = nodes_[static_cast<std::size_t>(s.maker)];
    if constexpr (narrow_device) {
      if (maker.make_narrow != nullptr) {
        copies here(*this);
        const view<A, D> as_kept = here.template take<A>(s.extents);
        make_narrow(maker, as_kept);
        if (mode_ != graph_mode::plan) convert(device_, view<const A, D>(as_kept), made);
        return made;
      }
    }
    make(maker, made);
    if constexpr (mixed) {
      if (s.narrow && mode_ != graph_mode::plan) round_to<A>(device_, made);
    }
    return made;
  }
  // The same as it would be stored.
  [[nodiscard]] view<const A, D> needed_narrow(const node& n, std::size_t i, copies& made) requires narrow_device {
    const slot& s = at(n.in[i]);
    if (!(n.remakes & (1u << i)) || s.place >= 0) return as_stored(n.in[i]);
    const view<A, D> result = made.template take<A>(s.extents);
    const node& maker = nodes_[static_cast<std::size_t>(s.maker)];
    if (maker.make_narrow != nullptr) {
      make_narrow(maker, result);
    } else {
      copies here(*this);
      const view<T, D> wide = here.template take<T>(s.extents);
      make(maker, wide);
      if (mode_ != graph_mode::plan) convert(device_, view<const T, D>(wide), result);
    }
    return result;
  }
  void make(const node& maker, const view<T, D>& result) {
    copies operands(*this);
    op_context<T, D> c;
    for (std::size_t k = 0; k < static_cast<std::size_t>(maker.operands); ++k) c.in[k] = needed(maker, k, operands);
    c.out = result;
    if (mode_ != graph_mode::plan) maker.make(maker.op, device_, c);
  }
  void make_narrow(const node& maker, const view<A, D>& result) requires narrow_device {
    copies operands(*this);
    op_context<T, D, A> c;
    for (std::size_t k = 0; k < static_cast<std::size_t>(maker.operands); ++k) {
      set_stored(maker.in[k], k, c);
      if (at(maker.in[k]).parameter_offset < 0) c.in[k] = needed_narrow(maker, k, operands);
    }
    c.out = result;
    if (mode_ != graph_mode::plan) maker.make_narrow(maker.op, device_, c);
  }
  [[nodiscard]] view<T, D> read_gradient(const slot& s, copies& in_full) const {
    if constexpr (mixed) {
      if (s.narrow) {
        const view<T, D> copy = in_full.template take<T>(s.extents);
        if (mode_ != graph_mode::plan) convert(device_, view<const A, D>(narrow(s.gradient_place, s.extents)), copy);
        return copy;
      }
    }
    return full(s.gradient_place, s.extents);
  }
  void forget(const node& n) {
    for (int k = 0; k < n.operands; ++k)
      if (n.saves & ~n.remakes & (1u << k)) release(n.in[static_cast<std::size_t>(k)]);
    if (n.saves & (1u << 31)) release(n.out);
    if (n.saved >= 0) release(n.saved);
  }
  void prepare(const node& n, int k, bool inherits, op_context<T, D>& c, copies& in_full) {
    const auto i = static_cast<std::size_t>(k);
    slot& s = at(n.in[i]);
    c.in[i] = {nullptr, s.extents};
    if (n.saves & (1u << k)) c.in[i] = needed(n, i, in_full);
    if (!s.wants_gradient || inherits) return;
    if (s.parameter_offset >= 0) {
      if (mode_ != graph_mode::plan) c.gradient[i] = {parameter_gradient_.data() + s.parameter_offset, s.extents};
      c.accumulate[i] = true;
      return;
    }
    c.accumulate[i] = s.has_gradient;
    if (!s.has_gradient) {
      s.gradient_place = places_.take(bytes_of(s));
      s.has_gradient = true;
    }
    for (std::size_t j = 0; j < i; ++j)
      if (s.narrow && n.in[j] == n.in[i]) {  // the same operand twice: the operation adds up in one copy
        c.gradient[i] = c.gradient[j];
        return;
      }
    if (c.accumulate[i]) {
      c.gradient[i] = read_gradient(s, in_full);
    } else {
      c.gradient[i] = s.narrow ? in_full.template take<T>(s.extents) : full(s.gradient_place, s.extents);
    }
  }

  void prepare_narrow(const node& n, std::size_t i, bool inherits, op_context<T, D, A>& c,
                      copies& made) requires narrow_device {
    slot& s = at(n.in[i]);
    set_stored(n.in[i], i, c);
    if (s.parameter_offset < 0) {
      c.in[i] = {nullptr, s.extents};
      if (n.saves & (1u << i)) c.in[i] = needed_narrow(n, i, made);
    }
    if (!s.wants_gradient || inherits) return;
    c.accumulate[i] = s.parameter_offset >= 0 || s.has_gradient;
    if (s.parameter_offset >= 0) {
      if (mode_ != graph_mode::plan)
        c.parameter_gradients[i] = {parameter_gradient_.data() + s.parameter_offset, s.extents};
      return;
    }
    if (!s.has_gradient) {
      s.gradient_place = places_.take(bytes_of(s));
      s.has_gradient = true;
    }
    c.gradient[i] = narrow(s.gradient_place, s.extents);
  }

  D device_{};
  graph_mode mode_ = graph_mode::plan;
  bool recording_ = false, differentiated_ = false;
  bool keeping_ = false;      // false also while a block that will be recomputed runs forward
  int block_begin_ = 0;       // the first slot such a block may use
  int rounded_weights_ = -1;  // of places_: all parameters as A, or -1
  const parameter_layout* layout_ = nullptr;
  view<const T, D> weights_;
  view<T, D> parameter_gradient_;
  std::vector<slot> slots_;
  std::vector<node> nodes_;
  activation_arena places_;
  buffer<D> memory_;
  graph_plan plan_;
  std::vector<int> found_result_;  // while a plan is made
};

}  // namespace boot::inline v0
