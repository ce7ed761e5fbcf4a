// Launches the instantiation of backward.h for a row of the table and a way to sum dquery.
#ifndef PFM_CUDA_SM90_BACKWARD_LAUNCH_H_
#define PFM_CUDA_SM90_BACKWARD_LAUNCH_H_

#include "../common/dispatch_row.h"
#include "backward.h"

namespace pfm::cuda::sm90 {

template <class T>
ptx::LaunchStatus LaunchBackward(int row, const TmaBackwardArguments& arguments) {
  return DispatchRow<kBackwardRows>(row, [&](auto instance) {
    constexpr BackwardTile kTile = kBackward[instance()];
    const BackwardArguments& common = arguments.common;
    const int64_t blocks = common.params.batch * common.params.heads_kv * common.splits * common.mask.key_tiles;
    const auto kernel = common.dquery == nullptr  ? Backward<T, instance(), DquerySums::kUnwanted>
                        : common.turns == nullptr ? Backward<T, instance(), DquerySums::kInAnyOrder>
                                                  : Backward<T, instance(), DquerySums::kInTurn>;
    return ptx::Launch(kernel, blocks, kTile.threads(), kTile.shared_bytes(), common.params.stream, arguments);
  });
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_LAUNCH_H_
