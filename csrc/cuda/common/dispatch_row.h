// Dispatch from a row of a tile table, known at run time, to the kernel instantiated for it.
#ifndef PFM_CUDA_COMMON_DISPATCH_ROW_H_
#define PFM_CUDA_COMMON_DISPATCH_ROW_H_

#include <type_traits>

#include "../ptx/launch.h"

namespace pfm::cuda {

// Calls launch(std::integral_constant<int, row>()) for row < kRows.
template <int kRows, int kRow = 0, class LaunchRow>
ptx::LaunchStatus DispatchRow(int row, LaunchRow&& launch) {
  if constexpr (kRow < kRows) {
    if (row != kRow) return DispatchRow<kRows, kRow + 1>(row, launch);
    return launch(std::integral_constant<int, kRow>());
  } else {
    return {1, "no such row in the table of tiles"};
  }
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_DISPATCH_ROW_H_
