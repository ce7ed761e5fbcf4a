// Picks the instantiation of forward.h by its row of the table.
#ifndef PFM_CUDA_SM90_FORWARD_LAUNCH_H_
#define PFM_CUDA_SM90_FORWARD_LAUNCH_H_

#include "forward.h"
#include "launch.h"

namespace pfm::cuda::sm90 {

template <class T, int kRow = 0>
ptx::LaunchStatus LaunchForwardRow(int row, int64_t blocks, void* stream, const ForwardArguments& arguments) {
  if constexpr (kRow < kForwardRows) {
    if (row != kRow) return LaunchForwardRow<T, kRow + 1>(row, blocks, stream, arguments);
    const auto& tile = kForward[kRow];
    return ptx::Launch(Forward<T, kRow>, blocks, tile.threads(), tile.shared_bytes(), stream, arguments);
  } else {
    return {1, "no such row in the table of tiles"};
  }
}

template <class T>
ptx::LaunchStatus LaunchForward(int row, int64_t blocks, void* stream, const ForwardArguments& arguments) {
  return LaunchForwardRow<T>(row, blocks, stream, arguments);
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_FORWARD_LAUNCH_H_
