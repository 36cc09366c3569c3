// SPDX-License-Identifier: MIT
/// The Teacher concept: a frozen denoiser of any origin, behind one call.
#pragma once

#include <boot/model/prediction.hpp>
#include <boot/nn/condition.hpp>
#include <boot/nn/times.hpp>
#include <boot/tensor/view.hpp>

#include <concepts>

namespace boot::inline v0 {

/// m.predict(dev, x, t, condition, out) for const m.
template <class M, class D, class C, class T>
concept has_predict = requires(const M& m, const D& dev, view<const T, D> x, const times<D, T>& t, const C& condition,
                               view<T, D> out) {
  m.predict(dev, x, t, condition, out);
};

/// m.prediction() tells what the output means; known at run time.
template <class M>
concept has_prediction = requires(const M& m) {
  { m.prediction() } -> std::convertible_to<prediction>;
};

/// m.sample_shape() is the shape of one sample, without the batch.
template <class M>
concept has_sample_shape = requires(const M& m) {
  { m.sample_shape() } -> std::convertible_to<shape>;
};

/// A frozen denoiser. It is never differentiated, so anything that can be called may be one.
///
/// Needs, for const m:
///   m.predict(dev, x, t, condition, out)   x, out: [batch, sample...]; t: one time per sample (boot::times);
///                                          writes all of out, keeps x; may run asynchronously on dev
///   m.prediction()                         what out means: boot::prediction, the same at every call
///   m.sample_shape()                       shape of one sample
/// May have:
///   m.time_input(t) -> double              what its network reads for schedule time t (1000 t, an index, ln(sigma)/4);
///                                          evaluated on the host in float64, given back as t.input
///   m.input_scale(t) -> double             scaling of x (EDM's c_in), given back as t.scale
///   m.predict_pair(dev, x, t, condition, out_c, out_n) and m.guidance(condition, i)
///                                          outputs with and without the condition and the scale w of sample i: lets
///                                          the loss apply guidance in its own pass (see guided)
///   m.capturable() -> bool                 false: its device work cannot be part of a captured CUDA graph (it runs elsewhere,
///                                          or waits for the device), so it is called between two graphs of a step
/// Must: give the same output for the same input.
/// Shipped: gaussian, gaussian_mixture (exact), network_model (mlp and your own networks), guided.
/// Write your own: docs/your_own_model.md.
template <class M, class D, class C = no_condition, class T = float>
concept Teacher = Device<D> && Condition<C> && has_predict<M, D, C, T> && has_prediction<M> && has_sample_shape<M>;

/// Whether a teacher's device work may be captured and replayed: m.capturable(), or true where there is none.
template <class M>
[[nodiscard]] bool capturable(const M& m) {
  if constexpr (requires { m.capturable(); }) {
    return m.capturable();
  } else {
    return true;
  }
}

/// A teacher that gives both outputs of classifier-free guidance.
template <class M, class D, class C, class T>
concept GuidedTeacher = Teacher<M, D, C, T> &&
    requires(const M& m, const D& dev, view<const T, D> x, const times<D, T>& t, const C& c, view<T, D> out) {
  m.predict_pair(dev, x, t, c, out, out);
  { m.guidance(c, std::int64_t{}) } -> std::convertible_to<double>;
};

/// Says in one sentence which piece of the contract a type lacks.
template <class M, class D, class C = no_condition, class T = float>
consteval void check_teacher() {
  static_assert(Condition<C>,
                "boot: a Condition needs `c.rows(first, count)` and `c.null()`, both returning its own type. See "
                "boot/nn/condition.hpp");
  static_assert(has_predict<M, D, C, T>,
                "boot: a Teacher needs `m.predict(dev, x, t, condition, out)`, const, for this device, condition and "
                "scalar type. See the contract in boot/model/teacher.hpp");
  static_assert(has_prediction<M>,
                "boot: a Teacher needs `m.prediction() -> boot::prediction`, which tells what its output means. See "
                "the contract in boot/model/teacher.hpp");
  static_assert(
      has_sample_shape<M>,
      "boot: a Teacher needs `m.sample_shape() -> boot::shape`, the shape of one sample without the batch. See "
      "the contract in boot/model/teacher.hpp");
}

}  // namespace boot::inline v0
