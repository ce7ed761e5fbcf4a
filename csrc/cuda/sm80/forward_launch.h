// Picks the instantiation of forward.h by its row of the table.
#ifndef PFM_CUDA_SM80_FORWARD_LAUNCH_H_
#define PFM_CUDA_SM80_FORWARD_LAUNCH_H_

#include "forward.h"
#include "launch.h"

namespace pfm::cuda::sm80 {

template <class T, int kRow = 0>
ptx::LaunchStatus LaunchForwardRow(int row, const ForwardArguments& arguments) {
  if constexpr (kRow < kForwardRows) {
    if (row != kRow) return LaunchForwardRow<T, kRow + 1>(row, arguments);
    const auto& tile = kForward[kRow];
    const int64_t blocks = arguments.params.batch * arguments.params.heads_q * arguments.mask.query_tiles;
    return ptx::Launch(Forward<T, kRow>, blocks, tile.threads(), tile.shared_bytes(), arguments.params.stream,
                       arguments);
  } else {
    return {1, "no such row in the table of tiles"};
  }
}

template <class T>
ptx::LaunchStatus LaunchForward(int row, const ForwardArguments& arguments) {
  return LaunchForwardRow<T>(row, arguments);
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_FORWARD_LAUNCH_H_
