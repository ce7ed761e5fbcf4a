// Picks the instantiation of backward.h by its row of the table.
#ifndef PFM_CUDA_SM80_BACKWARD_LAUNCH_H_
#define PFM_CUDA_SM80_BACKWARD_LAUNCH_H_

#include "backward.h"
#include "launch.h"

namespace pfm::cuda::sm80 {

template <class T, int kRow = 0>
ptx::LaunchStatus LaunchBackwardRow(int row, const BackwardArguments& arguments) {
  if constexpr (kRow < kBackwardRows) {
    if (row != kRow) return LaunchBackwardRow<T, kRow + 1>(row, arguments);
    const auto& tile = kBackward[kRow];
    const int64_t blocks =
        arguments.params.batch * arguments.params.heads_kv * arguments.splits * arguments.mask.key_tiles;
    return ptx::Launch(Backward<T, kRow>, blocks, tile.threads(), tile.shared_bytes(arguments.dquery != nullptr),
                       arguments.params.stream, arguments);
  } else {
    return {1, "no such row in the table of tiles"};
  }
}

template <class T>
ptx::LaunchStatus LaunchBackward(int row, const BackwardArguments& arguments) {
  return LaunchBackwardRow<T>(row, arguments);
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_BACKWARD_LAUNCH_H_
