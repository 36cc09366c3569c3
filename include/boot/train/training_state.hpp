// SPDX-License-Identifier: MIT
/// What a run needs to go on where it stopped, by name, and the door to whatever keeps it.
#pragma once

#include <boot/core/shape.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>  // std::function: where messages go
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace boot::inline v0 {

/// Element type of a state_array.
enum class state_type {
  float32,  ///< float
  float64,  ///< double
  int64     ///< std::int64_t
};

/// One array of a state: host memory that is read when saved and written when restored.
struct state_array {
  std::string name;            ///< "student.layer_in.weight"
  shape extents;               ///< shape
  state_type type{};           ///< element type
  std::span<std::byte> bytes;  ///< row-major
};

/// One number of a state.
struct state_number {
  std::string name;                            ///< "step"
  std::variant<std::int64_t*, double*> value;  ///< where it lives
};

/// Everything a run needs to go on, as places in host memory: the same list saves and restores. The configuration is
/// what must be equal for the continued run to be the same run.
struct training_state {
  std::int64_t step = 0;                                           ///< steps finished, for the name of what is kept
  std::vector<state_array> arrays;                                 ///< parameters, moments, averages, the objective's
  std::vector<state_number> numbers;                               ///< counters and sums
  std::vector<std::pair<std::string, std::string>> configuration;  ///< field and value
};

/// Where states are kept; boot::checkpoints of train/checkpoint.hpp is one.
class checkpoint_store {
 public:
  checkpoint_store() = default;
  checkpoint_store(const checkpoint_store&) = default;
  checkpoint_store& operator=(const checkpoint_store&) = default;
  virtual ~checkpoint_store() = default;
  /// Where it says that something is not as expected but can be helped.
  using messages = std::function<void(std::string_view)>;

  /// Steps between two saves; 0: only when a run ends.
  [[nodiscard]] virtual std::int64_t every() const = 0;
  /// Called before the first step of a run that does not continue an earlier one. Throws boot::error when that would
  /// mix two runs.
  virtual void start_fresh() = 0;
  /// Keeps the state, all of it or, with boot::error, nothing.
  virtual void save(const training_state& state) = 0;
  /// Fills the state from the newest one kept and returns true, or leaves it alone and returns false when there is
  /// none. Throws boot::error, and leaves it alone, when what is kept belongs to another run.
  virtual bool restore(training_state& state, const messages& say) = 0;
};

}  // namespace boot::inline v0
