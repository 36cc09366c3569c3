// SPDX-License-Identifier: MIT
/// Where the activations of a run lie in one block of memory: planned from when each is needed, then followed.
#pragma once

#include <boot/core/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// A block of memory divided among the ranges of one kind of run.
struct activation_plan {
  static constexpr std::int64_t alignment = 128;  ///< bytes; every range starts and ends on it

  std::int64_t bytes = 0;            ///< of the whole block
  std::vector<std::int64_t> size;    ///< of each range, in the order in which they are taken
  std::vector<std::int64_t> offset;  ///< of each range
  std::vector<int> events;           ///< the run: k where range k is taken, ~k where it is given back
};

/// Divides a block of memory: records which ranges a run takes and gives back, packs them, and gives the same ranges to
/// every later run that does the same. A range never overlaps another one that is held at the same time.
class activation_arena {
 public:
  /// Starts to record.
  void record() {
    plan_ = nullptr;
    now_ = {};
  }
  /// Starts a run that does what was recorded.
  void follow(std::shared_ptr<const activation_plan> plan) {
    plan_ = std::move(plan);
    now_ = {};
    position_ = 0;
    taken_ = 0;
    strayed_ = false;
  }
  /// A range of at least `bytes` bytes; returns its number. Throws boot::error where the plan has something else.
  [[nodiscard]] int take(std::int64_t bytes) {
    if (plan_ == nullptr) {
      const int k = static_cast<int>(now_.size.size());
      now_.size.push_back(rounded(bytes));
      now_.events.push_back(k);
      return k;
    }
    const int k = taken_;
    step(k);
    require(!strayed_ && plan_->size[static_cast<std::size_t>(k)] == rounded(bytes),
            "boot: a run took or gave back other memory than its plan found, at range {} of {}, of {} bytes; the code "
            "must do the same at every call of one batch size",
            k, plan_->size.size(), bytes);
    ++taken_;
    return k;
  }
  /// Gives range `k` back. What strays from the plan is told by the next take().
  void give(int k) noexcept {
    if (plan_ == nullptr) {
      now_.events.push_back(~k);
    } else {
      step(~k);
    }
  }
  /// First byte of range `k` of a run that follows a plan.
  [[nodiscard]] std::int64_t offset(int k) const noexcept { return plan_->offset[static_cast<std::size_t>(k)]; }

  /// What was recorded, packed: large ranges first, each at the lowest place that is free as long as it is held.
  [[nodiscard]] std::shared_ptr<const activation_plan> packed() const {
    auto p = std::make_shared<activation_plan>(now_);
    struct life {
      int begin, end;
    };
    std::vector<life> lives(p->size.size(), {0, static_cast<int>(p->events.size())});
    for (std::size_t e = 0; e < p->events.size(); ++e) {
      const int k = p->events[e];
      (k >= 0 ? lives[static_cast<std::size_t>(k)].begin : lives[static_cast<std::size_t>(~k)].end) =
          static_cast<int>(e);
    }
    std::vector<std::size_t> order(p->size.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p->size[a] > p->size[b]; });
    p->offset.assign(p->size.size(), 0);
    std::vector<std::size_t> placed;  // by offset
    for (const std::size_t k : order) {
      std::int64_t at = 0;
      for (const std::size_t other : placed) {
        if (lives[other].begin >= lives[k].end || lives[k].begin >= lives[other].end) continue;
        if (p->offset[other] - at >= p->size[k]) break;
        at = std::max(at, p->offset[other] + p->size[other]);
      }
      p->offset[k] = at;
      p->bytes = std::max(p->bytes, at + p->size[k]);
      const auto behind = std::upper_bound(placed.begin(), placed.end(), at,
                                           [&](std::int64_t o, std::size_t other) { return o < p->offset[other]; });
      placed.insert(behind, k);
    }
    return p;
  }

 private:
  [[nodiscard]] static std::int64_t rounded(std::int64_t bytes) noexcept {
    constexpr std::int64_t unit = activation_plan::alignment;
    return (std::max<std::int64_t>(bytes, 1) + unit - 1) / unit * unit;
  }
  void step(int event) noexcept {
    strayed_ = strayed_ || position_ >= plan_->events.size() || plan_->events[position_] != event;
    ++position_;
  }

  std::shared_ptr<const activation_plan> plan_;  // null while recording
  activation_plan now_;                          // what was recorded so far
  std::size_t position_ = 0;
  int taken_ = 0;
  bool strayed_ = false;
};

}  // namespace boot::inline v0
