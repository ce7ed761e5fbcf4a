// Picks the instantiation of backward.h by its row of the table.
#ifndef PFM_CUDA_SM90_BACKWARD_LAUNCH_H_
#define PFM_CUDA_SM90_BACKWARD_LAUNCH_H_

#include "../ptx/launch.h"
#include "backward.h"

namespace pfm::cuda::sm90 {

template <class T, int kRow = 0>
ptx::LaunchStatus LaunchBackwardRow(int row, const BackwardArguments& arguments) {
  if constexpr (kRow < kBackwardRows) {
    if (row != kRow) return LaunchBackwardRow<T, kRow + 1>(row, arguments);
    constexpr BackwardTile kTile = kBackward[kRow];
    const sm80::BackwardArguments& rows = arguments.rows;
    const int64_t blocks = rows.params.batch * rows.params.heads_kv * rows.splits * rows.mask.key_tiles;
    const auto kernel = rows.dquery == nullptr  ? Backward<T, kRow, DquerySums::kUnwanted>
                        : rows.turns == nullptr ? Backward<T, kRow, DquerySums::kInAnyOrder>
                                                : Backward<T, kRow, DquerySums::kInTurn>;
    return ptx::Launch(kernel, blocks, kTile.threads(), kTile.shared_bytes(), rows.params.stream, arguments);
  } else {
    return {1, "no such row in the table of tiles"};
  }
}

template <class T>
ptx::LaunchStatus LaunchBackward(int row, const BackwardArguments& arguments) {
  return LaunchBackwardRow<T>(row, arguments);
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_LAUNCH_H_
