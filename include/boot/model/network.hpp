// SPDX-License-Identifier: MIT
/// network_model: a plain network struct with weights and graphs around it, a Teacher and a Student at once.
#pragma once

#include <boot/device/recording.hpp>
#include <boot/model/student.hpp>
#include <boot/nn/condition.hpp>
#include <boot/nn/graph.hpp>
#include <boot/nn/times.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0 {

namespace detail {
template <class C>
inline constexpr char condition_tag = 0;  // its address tells condition types apart

// Idle graphs with their memory. Models share one where their calls come one after another, and may call at once.
template <ComputeScalar T, Device D, StorageScalar A>
class graph_pool {
 public:
  using graph_type = graph<T, D, A>;
  graph_pool() { idle_.reserve(8); }
  // The smallest idle graph that is large enough, else the largest one, to be grown, else a new one.
  [[nodiscard]] std::unique_ptr<graph_type> take(std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<graph_type>();
    const auto better = [bytes](const auto& a, const auto& b) {
      const std::int64_t x = a->capacity(), y = b->capacity();
      return y < bytes ? x > y : (x >= bytes && x < y);
    };
    const auto best = std::min_element(idle_.begin(), idle_.end(), better);
    auto g = std::move(*best);
    idle_.erase(best);
    return g;
  }
  void give(std::unique_ptr<graph_type> g) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(g));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<graph_type>> idle_;
};
}  // namespace detail

/// What a student recorded: its output and the way back. Move-only; must not outlive the model it came from.
template <ComputeScalar T, Device D, StorageScalar A = T>
class tape {
 public:
  using graph_type = graph<T, D, A>;  ///< what recorded it

  /// Takes a recorded graph and its result; the graph goes back to `pool` at the end.
  tape(std::shared_ptr<detail::graph_pool<T, D, A>> pool, std::unique_ptr<graph_type> g,
       typename graph_type::value root)
      : pool_(std::move(pool)), graph_(std::move(g)), root_(std::move(root)) {}
  /// Of a part of a rehearsed step that was left out: nothing reads the output.
  explicit tape(view<const T, D> output) : left_out_(output) {}
  tape(tape&&) noexcept = default;
  tape& operator=(tape&&) = delete;
  ~tape() {
    root_ = {};
    if (graph_ != nullptr) pool_->give(std::move(graph_));
  }

  /// The network's raw output, [batch, sample...].
  [[nodiscard]] view<const T, D> output() const { return graph_ == nullptr ? left_out_ : graph_->data(root_); }
  /// Adds dL/d parameters to the model's flat gradient, given dL/d output. Once.
  void backward(const D&, view<const T, D> gradient) {
    detail::quiet_part([&] { graph_->backward(root_, gradient); }, 11, gradient.batch());
  }

 private:
  std::shared_ptr<detail::graph_pool<T, D, A>> pool_;
  std::unique_ptr<graph_type> graph_;
  typename graph_type::value root_;
  view<const T, D> left_out_{};
};

/// A network with its weights. The network is a plain struct with
///   `template <class G, class C> typename G::value operator()(G& g, const typename G::value& x, const Times& t_source,
///        const Times& t_target, const C& condition) const`     (Times = times<D, T>)
///   `template <class V> void visit(V& v)`                      names its layers and parameters
///   `shape sample_shape() const`
/// and optionally `double time_input(double t) const` and `double input_scale(double t) const`.
/// One call at a time per object; several tapes may be alive.
///
/// With A = bf16 the network runs in mixed precision (see graph): half the activation memory; x, times, the output and
/// its gradient, weights and their gradient stay in T, so whatever trains or samples it needs no change. On boot::cuda
/// the numbers of x, the output and its gradient are rounded to bf16 where the first and the last operation run on bf16.
template <class Network, Device D = cpu, ComputeScalar T = float, StorageScalar A = T>
class network_model {
 public:
  using scalar_type = T;         ///< what it computes in
  using activation_type = A;     ///< what activations are stored in
  using network_type = Network;  ///< the plain struct

  /// Lays out the network's parameters and fills them by their initialisers; the same seed gives the same weights.
  network_model(const D& dev, Network network, boot::prediction p, std::uint64_t seed = 0)
      : network_(std::move(network)), prediction_(p), arena_(dev, parameter_layout(network_)) {
    arena_.initialize(dev, seed);
  }
  network_model(network_model&&) noexcept = default;
  network_model& operator=(network_model&&) noexcept = default;

  /// The same network with a copy of `weights` (an average's values, say), or of its own.
  [[nodiscard]] network_model clone(const D& dev, view<const T, D> weights) const {
    network_model m(dev, network_, prediction_);
    copy(dev, weights, m.arena_.values());
    return m;
  }
  /// \copydoc clone
  [[nodiscard]] network_model clone(const D& dev) const { return clone(dev, arena_.values()); }
  /// The same network and weights with activations stored as `Other`: model.template with_activations<bf16>(dev).
  template <StorageScalar Other>
  [[nodiscard]] network_model<Network, D, T, Other> with_activations(const D& dev) const {
    network_model<Network, D, T, Other> m(dev, network_, prediction_);
    copy(dev, arena_.values(), m.parameters().values());
    return m;
  }

  /// Teacher: raw output for x at time t.
  template <Condition C>
  void predict(const D& dev, view<const T, D> x, const times<D, T>& t, const C& condition, view<T, D> out) const {
    predict(dev, x, t, t, condition, out);
  }
  /// Student: raw output for x at time t_source, moved to t_target.
  template <Condition C>
  void predict(const D& dev, view<const T, D> x, const times<D, T>& t_source, const times<D, T>& t_target,
               const C& condition, view<T, D> out) const {
    check(x, t_source, t_target);
    require_shape("network_model::predict", "out", out, x.extents());
    quiet_part(dev, false, x, t_source, t_target, condition, [&] {
      const borrowed_graph g{*pool_, acquire(dev, false, x, t_source, t_target, condition)};
      const auto y = network_(*g.graph, g.graph->input(x), t_source, t_target, condition);
      copy(dev, g.graph->data(y), out);
    });
  }
  /// Student: the same, kept for backward().
  template <Condition C>
  [[nodiscard]] tape<T, D, A> record(const D& dev, view<const T, D> x, const times<D, T>& t_source,
                                     const times<D, T>& t_target, const C& condition) {
    check(x, t_source, t_target);
    std::unique_ptr<graph_type> g;
    typename graph_type::value y;
    quiet_part(dev, true, x, t_source, t_target, condition, [&] {
      borrowed_graph own{*pool_, acquire(dev, true, x, t_source, t_target, condition)};
      y = network_(*own.graph, own.graph->input(x), t_source, t_target, condition);
      g = std::move(own.graph);
    });
    return g == nullptr ? tape<T, D, A>(x) : tape<T, D, A>(pool_, std::move(g), std::move(y));
  }
  /// Bytes and FLOP of a call with `batch` samples, without running it.
  template <Condition C>
  [[nodiscard]] graph_plan plan(const D& dev, std::int64_t batch, const C& condition, bool recorded,
                                bool uniform_source, bool uniform_target) const {
    const times<D, T> from{{nullptr, {batch}}, {nullptr, {batch}}, {}, uniform_source};
    const times<D, T> to{{nullptr, {batch}}, {nullptr, {batch}}, {}, uniform_target};
    return planned(dev, recorded, view<const T, D>(nullptr, sample_shape().batched(batch)), from, to, condition);
  }

  /// Takes activation memory from where `other` takes it: two models whose calls come one after another then need the
  /// larger of two amounts instead of both. student_of() does so.
  template <class Other>
  void share_memory(const network_model<Other, D, T, A>& other) noexcept {
    pool_ = other.pool_;
  }

  /// Weights and gradient.
  [[nodiscard]] parameter_arena<T, D>& parameters() noexcept { return arena_; }
  /// \copydoc parameters
  [[nodiscard]] const parameter_arena<T, D>& parameters() const noexcept { return arena_; }
  /// What the output means.
  [[nodiscard]] boot::prediction prediction() const noexcept { return prediction_; }
  /// Shape of one sample.
  [[nodiscard]] shape sample_shape() const { return network_.sample_shape(); }
  /// The plain struct.
  [[nodiscard]] const Network& network() const noexcept { return network_; }
  /// What the network reads for schedule time t.
  [[nodiscard]] double time_input(double t) const { return boot::time_input(network_, t); }
  /// Scaling of the network's input at schedule time t.
  [[nodiscard]] double input_scale(double t) const requires requires(const Network& n) { n.input_scale(1.0); }
  { return network_.input_scale(t); }

 private:
  template <class, Device, ComputeScalar, StorageScalar>
  friend class network_model;
  using graph_type = graph<T, D, A>;
  // Gives its graph back, also where a network's code throws: freed, its memory could not be part of a capture.
  struct borrowed_graph {
    detail::graph_pool<T, D, A>& pool;
    std::unique_ptr<graph_type> graph;
    ~borrowed_graph() {
      if (graph != nullptr) pool.give(std::move(graph));
    }
  };
  struct known_plan {
    bool recorded, uniform_source, uniform_target;
    std::int64_t batch;
    const char* condition;
    std::int64_t condition_key;
    int layout_revision;  // freezing or thawing a group changes what a tape keeps
    graph_plan plan;
  };

  // The network's calls follow from these arguments; a rehearsal of a training step leaves them out when it knows them.
  template <class C, class Work>
  void quiet_part(const D&, bool recorded, view<const T, D> x, const times<D, T>& t_source, const times<D, T>& t_target,
                  const C& condition, const Work& work) const {
    detail::quiet_part(work, 10, reinterpret_cast<std::uintptr_t>(this), recorded, x.batch(), t_source.uniform,
                       t_target.uniform, reinterpret_cast<std::uintptr_t>(&detail::condition_tag<C>),
                       detail::plan_key(condition), arena_.layout().revision());
  }
  void check(view<const T, D> x, const times<D, T>& t_source, const times<D, T>& t_target) const {
    require(x.extents() == sample_shape().batched(x.batch()) && x.batch() > 0,
            "boot: a network for samples of shape {} got x of shape {}; x must be a batch of such samples",
            boot::to_string(sample_shape()), boot::to_string(x.extents()));
    require(
        t_source.batch() == x.batch() && t_target.batch() == x.batch(),
        "boot: {} samples came with {} source and {} target times; each sample needs one of either, set both for {} "
        "samples",
        x.batch(), t_source.batch(), t_target.batch(), x.batch());
  }
  template <class C>
  graph_plan planned(const D& dev, bool recorded, view<const T, D> x, const times<D, T>& t_source,
                     const times<D, T>& t_target, const C& condition) const {
    const std::int64_t key = detail::plan_key(condition);
    for (const auto& k : plans_)
      if (k.recorded == recorded && k.batch == x.batch() && k.uniform_source == t_source.uniform &&
          k.uniform_target == t_target.uniform && k.condition == &detail::condition_tag<C> && k.condition_key == key &&
          k.layout_revision == arena_.layout().revision())
        return k.plan;
    graph_type g;
    const graph_plan p = g.plan(dev, recorded, arena_.layout(), [&](graph_type& q) {
      return network_(q, q.input(view<const T, D>(nullptr, x.extents())), t_source, t_target, condition);
    });
    plans_.push_back({recorded, t_source.uniform, t_target.uniform, x.batch(), &detail::condition_tag<C>, key,
                      arena_.layout().revision(), p});
    return p;
  }
  template <class C>
  std::unique_ptr<graph_type> acquire(const D& dev, bool recorded, view<const T, D> x, const times<D, T>& t_source,
                                      const times<D, T>& t_target, const C& condition) const {
    const graph_plan p = planned(dev, recorded, x, t_source, t_target, condition);
    auto g = pool_->take(p.bytes);
    view<T, D> gradient;
    if (recorded) gradient = const_cast<network_model*>(this)->arena_.gradient();
    g->begin(dev, p, arena_.layout(), arena_.values(), gradient);
    return g;
  }

  Network network_;
  boot::prediction prediction_;
  parameter_arena<T, D> arena_;
  std::shared_ptr<detail::graph_pool<T, D, A>> pool_ = std::make_shared<detail::graph_pool<T, D, A>>();
  mutable std::vector<known_plan> plans_;
};

/// A student for `teacher`: the same network with a target-time embedding that starts at zero, the teacher's weights
/// and prediction kind. It equals the teacher's f(sigma_T eps, t_max) at every target time before the first step. For
/// networks that are made from their options() and have `target_time`, `begins_as_teacher` and `guidance_scale_input`
/// among them: mlp, unet2d, dit.
template <Device D, class Network, ComputeScalar T, StorageScalar A>
requires requires(std::remove_cvref_t<decltype(std::declval<const Network&>().options())>& o) {
  o.target_time = o.begins_as_teacher = true;
  o.guidance_scale_input = 1.0;
  Network(o);
}
[[nodiscard]] network_model<Network, D, T, A> student_of(const D& dev, const network_model<Network, D, T, A>& teacher,
                                                         double guidance_scale_input = 0, std::uint64_t seed = 0) {
  auto o = teacher.network().options();
  o.target_time = o.begins_as_teacher = true;
  o.guidance_scale_input = guidance_scale_input;
  network_model<Network, D, T, A> student(dev, Network(o), teacher.prediction(), seed);
  copy_parameters(dev, teacher.parameters().layout(), teacher.parameters().values(), student.parameters());
  student.share_memory(teacher);
  if constexpr (requires { freeze_constants(student); }) freeze_constants(student);
  return student;
}

}  // namespace boot::inline v0
