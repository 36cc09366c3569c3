// SPDX-License-Identifier: MIT
/// The Student concept: a network with two times and a tape, trained by any objective.
#pragma once

#include <boot/model/teacher.hpp>
#include <boot/tensor/parameter.hpp>

#include <concepts>

namespace boot::inline v0 {

/// The scalar type a model computes in: M::scalar_type, or float.
template <class M>
struct scalar_of {
  using type = float;  ///< float
};
/// A model that names its scalar type.
template <class M>
requires requires { typename M::scalar_type; }
struct scalar_of<M> {
  using type = typename M::scalar_type;  ///< the model's own
};

/// m.predict(dev, x, t_source, t_target, condition, out) for const m.
template <class M, class D, class C, class T>
concept has_student_predict = requires(const M& m, const D& dev, view<const T, D> x, const times<D, T>& t,
                                       const C& condition, view<T, D> out) {
  m.predict(dev, x, t, t, condition, out);
};

/// m.record(dev, x, t_source, t_target, condition) -> tape with output() and backward(dev, gradient).
template <class M, class D, class C, class T>
concept has_record = requires(M& m, const D& dev, view<const T, D> x, const times<D, T>& t, const C& condition,
                              view<const T, D> gradient) {
  { m.record(dev, x, t, t, condition).output() } -> std::convertible_to<view<const T, D>>;
  m.record(dev, x, t, t, condition).backward(dev, gradient);
};

/// m.parameters() is a parameter_arena.
template <class M, class D, class T>
concept has_parameters = requires(M& m) {
  { m.parameters() } -> std::same_as<parameter_arena<T, D>&>;
};

/// A network in training: the raw output for x at time t_source, moved to time t_target of the same trajectory.
///
/// Needs:
///   m.predict(dev, x, t_source, t_target, condition, out)     const; writes the raw output, keeps nothing
///   m.record(dev, x, t_source, t_target, condition) -> tape   tape.output(): the raw output, alive as long as the
///   tape;
///                                                             tape.backward(dev, dL/d output) adds to the flat
///                                                             gradient, once; several tapes may be alive at once
///   m.parameters() -> parameter_arena<T, D>&                  values and gradient, by groups
///   m.prediction(), m.sample_shape()                          as a Teacher's; the clean signal is a x + b out with
///                                                             a, b of time t_source
/// May have m.time_input(t) and m.input_scale(t), as a Teacher. BOOT passes t_source = t_max; a denoiser ignores
/// t_target. Shipped: network_model (mlp and your own networks). Write your own: docs/your_own_model.md.
template <class M, class D, class C = no_condition, class T = typename scalar_of<M>::type>
concept Student = Device<D> && Condition<C> && has_student_predict<M, D, C, T> && has_record<M, D, C, T> &&
    has_parameters<M, D, T> && has_prediction<M> && has_sample_shape<M>;

/// Says in one sentence which piece of the contract a type lacks.
template <class M, class D, class C = no_condition, class T = typename scalar_of<M>::type>
consteval void check_student() {
  static_assert(
      has_student_predict<M, D, C, T>,
      "boot: a Student needs `m.predict(dev, x, t_source, t_target, condition, out)`, const, for this device, "
      "condition and scalar type. See the contract in boot/model/student.hpp");
  static_assert(has_record<M, D, C, T>,
                "boot: a Student needs `m.record(dev, x, t_source, t_target, condition)` returning a tape with "
                "`output()` and `backward(dev, gradient)`. See the contract in boot/model/student.hpp");
  static_assert(has_parameters<M, D, T>,
                "boot: a Student needs `m.parameters()` returning boot::parameter_arena<T, D>&. See the contract in "
                "boot/model/student.hpp");
  static_assert(has_prediction<M>,
                "boot: a Student needs `m.prediction() -> boot::prediction`, which tells what its output means. See "
                "the contract in boot/model/student.hpp");
  static_assert(
      has_sample_shape<M>,
      "boot: a Student needs `m.sample_shape() -> boot::shape`, the shape of one sample without the batch. See "
      "the contract in boot/model/student.hpp");
}

}  // namespace boot::inline v0
