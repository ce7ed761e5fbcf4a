// Picks the instantiation of query_gradient.h by its row of the table.
#ifndef PFM_CUDA_SM80_QUERY_GRADIENT_LAUNCH_H_
#define PFM_CUDA_SM80_QUERY_GRADIENT_LAUNCH_H_

#include "launch.h"
#include "query_gradient.h"

namespace pfm::cuda::sm80 {

template <class T, int kRow = 0>
ptx::LaunchStatus LaunchQueryGradientRow(int row, const BackwardArguments& arguments) {
  if constexpr (kRow < kQueryGradientRows) {
    if (row != kRow) return LaunchQueryGradientRow<T, kRow + 1>(row, arguments);
    const auto& tile = kQueryGradient[kRow];
    const int64_t blocks = arguments.params.batch * arguments.params.heads_q * arguments.mask.query_tiles;
    return ptx::Launch(QueryGradient<T, kRow>, blocks, tile.threads(), tile.shared_bytes(), arguments.params.stream,
                       arguments);
  } else {
    return {1, "no such row in the table of tiles"};
  }
}

template <class T>
ptx::LaunchStatus LaunchQueryGradient(int row, const BackwardArguments& arguments) {
  return LaunchQueryGradientRow<T>(row, arguments);
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_QUERY_GRADIENT_LAUNCH_H_
