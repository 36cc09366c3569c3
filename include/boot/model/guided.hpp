// SPDX-License-Identifier: MIT
/// guided: classifier-free guidance around any teacher, with the null or a negative condition, fixed or per sample.
#pragma once

#include <boot/kernel/op/prediction.hpp>
#include <boot/model/student.hpp>
#include <boot/model/teacher.hpp>
#include <boot/tensor/tensor.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// The negative condition of plain classifier-free guidance: the condition's own null.
struct use_null {
  /// c.null().
  template <Condition C>
  [[nodiscard]] C operator()(const C& c) const {
    return c.null();
  }
};

namespace detail {

// The part of a condition that is a guidance scale, of whatever device and scalar; void when it has none.
template <class C>
struct guidance_part {
  using type = void;
};
template <class D, class T>
struct guidance_part<guidance_scale<D, T>> {
  using type = guidance_scale<D, T>;
};
template <class First, class... Rest>
struct guidance_part<conditions<First, Rest...>> {
  using here = typename guidance_part<First>::type;
  using type =
      typename std::conditional_t<std::is_void_v<here>, guidance_part<conditions<Rest...>>, guidance_part<First>>::type;
};

// Buffers of a teacher whose device and scalar are known only inside its member templates.
class guided_buffers {
 public:
  template <class T, class D>
  struct typed {
    tensor<T, D> conditional, negative;
    tensor<affine_row<T>, D> rows;
    std::vector<affine_row<T>> host_rows;
  };
  template <class T, class D>
  typed<T, D>& get() {
    static const char tag = 0;  // its address tells the instantiations apart
    if (tag_ != &tag) {
      held_ = std::make_shared<typed<T, D>>();
      tag_ = &tag;
    }
    return *static_cast<typed<T, D>*>(held_.get());
  }
  guided_buffers() = default;
  guided_buffers(const guided_buffers&) {}  // a copy grows its own
  guided_buffers& operator=(const guided_buffers&) { return *this; }

 private:
  std::shared_ptr<void> held_;
  const void* tag_ = nullptr;
};

}  // namespace detail

/// A Teacher whose output is out_n + w (out_c - out_n): out_c with the condition, out_n with the negative one, which
/// `Negative` makes from the condition (the condition's null, or a user's functor Condition -> Condition).
///
/// The scale w is fixed, or taken per sample from the guidance_scale inside the condition. Holds a reference to the
/// teacher, which must outlive it. One call at a time per object: predict() has buffers of its own.
template <class Teacher, class Negative = use_null>
class guided {
 public:
  using scalar_type = typename scalar_of<Teacher>::type;  ///< what the teacher computes in

  /// Scale per sample, read from the condition: it must hold a guidance_scale.
  explicit guided(const Teacher& teacher, Negative negative = {})
      : teacher_(&teacher), negative_(std::move(negative)) {}
  /// The same scale w for every sample, whatever the condition holds. With w = 1 the negative output is never needed:
  /// the teacher is called once. Throws boot::error for a scale that is not finite.
  guided(const Teacher& teacher, double scale, Negative negative = {})
      : teacher_(&teacher), scale_(scale), negative_(std::move(negative)) {
    require(std::isfinite(scale), "boot: guidance scale {}; it needs a finite number, 1 means no guidance", scale);
  }
  guided(Teacher&&, Negative = {}) = delete;
  guided(Teacher&&, double, Negative = {}) = delete;

  /// As the teacher says.
  [[nodiscard]] bool capturable() const { return boot::capturable(*teacher_); }
  /// Both outputs: out_c with the condition and out_n with the negative one, [batch, sample...] each.
  template <Device D, ComputeScalar T, Condition C>
  void predict_pair(const D& dev, view<const T, D> x, const times<D, T>& t, const C& condition, view<T, D> out_c,
                    view<T, D> out_n) const {
    teacher_->predict(dev, x, t, condition, out_c);
    if (calls_per_prediction() == 1) {
      copy(dev, view<const T, D>(out_c), out_n);
    } else {
      teacher_->predict(dev, x, t, static_cast<C>(negative_(condition)), out_n);
    }
  }
  /// The combined output.
  template <Device D, ComputeScalar T, Condition C>
  void predict(const D& dev, view<const T, D> x, const times<D, T>& t, const C& condition, view<T, D> out) const {
    if (calls_per_prediction() == 1) return teacher_->predict(dev, x, t, condition, out);
    const std::int64_t batch = x.batch();
    auto& own = buffers_.template get<T, D>();
    if (own.conditional.size() < x.size()) {
      own.conditional = tensor<T, D>(dev, {x.size()});
      own.negative = tensor<T, D>(dev, {x.size()});
    }
    const view<T, D> out_c(own.conditional.data(), x.extents()), out_n(own.negative.data(), x.extents());
    predict_pair(dev, x, t, condition, out_c, out_n);
    // 0 x + 1 (out_n + w (out_c - out_n)): the loss and the samplers use the same functor with the map of the clean
    // signal.
    own.host_rows.resize(static_cast<std::size_t>(batch));
    constexpr T infinity = std::numeric_limits<T>::infinity();
    for (std::int64_t i = 0; i < batch; ++i)
      own.host_rows[static_cast<std::size_t>(i)] = {0, 1, static_cast<T>(guidance(condition, i)), -infinity, infinity};
    if (batch == 0) return;
    const affine_row<T>* const rows = send(dev, std::span<const affine_row<T>>(own.host_rows), own.rows);
    for_each_element<T>(dev, clean_signal_op<T>{}, rows, batch, x.sample_size(),
                        inputs<T, T, T>(out_c.data(), out_c.data(), out_n.data()), outputs<T>(out.data()));
  }
  /// w of sample i: the fixed scale, or that of the condition. Throws boot::error when there is neither.
  template <Condition C>
  [[nodiscard]] double guidance(const C& condition, std::int64_t i) const {
    if (scale_) return *scale_;
    using part = typename detail::guidance_part<C>::type;
    if constexpr (std::is_void_v<part>) {
      static_cast<void>(condition);
      fail(
          "boot: a guided teacher without a scale of its own got a condition without boot::guidance_scale (sample {}); "
          "give the scale as guided(teacher, w), or pass conditions that hold a guidance_scale",
          i);
    } else {
      return static_cast<double>(condition_part<part>(condition)[i]);
    }
  }
  /// Times the inner teacher is called for one prediction: 2, or 1 where the fixed scale is 1.
  [[nodiscard]] int calls_per_prediction() const noexcept { return scale_ && *scale_ == 1 ? 1 : 2; }
  /// The fixed scale, if there is one.
  [[nodiscard]] std::optional<double> scale() const noexcept { return scale_; }

  /// The inner teacher's.
  [[nodiscard]] boot::prediction prediction() const { return teacher_->prediction(); }
  /// The inner teacher's.
  [[nodiscard]] shape sample_shape() const { return teacher_->sample_shape(); }
  /// The inner teacher.
  [[nodiscard]] const Teacher& teacher() const noexcept { return *teacher_; }
  /// The inner teacher's.
  [[nodiscard]] double time_input(double t) const requires requires(const Teacher& m) { m.time_input(1.0); }
  { return teacher_->time_input(t); }
  /// The inner teacher's.
  [[nodiscard]] double input_scale(double t) const requires requires(const Teacher& m) { m.input_scale(1.0); }
  { return teacher_->input_scale(t); }

 private:
  const Teacher* teacher_;
  std::optional<double> scale_;
  Negative negative_;
  mutable detail::guided_buffers buffers_;
};

/// Guidance with the condition's null and a scale per sample.
template <class Teacher>
guided(const Teacher&) -> guided<Teacher>;
/// Guidance with the condition's null and one scale.
template <class Teacher>
guided(const Teacher&, double) -> guided<Teacher>;

}  // namespace boot::inline v0
