// Launches the instantiation of backward.h for a row of the table.
#ifndef PFM_CUDA_SM80_BACKWARD_LAUNCH_H_
#define PFM_CUDA_SM80_BACKWARD_LAUNCH_H_

#include "../common/dispatch_row.h"
#include "backward.h"
#include "launch.h"

namespace pfm::cuda::sm80 {

template <class T>
ptx::LaunchStatus LaunchBackward(int row, const BackwardArguments& arguments) {
  return DispatchRow<kBackwardRows>(row, [&](auto instance) {
    constexpr BackwardTile kTile = kBackward[instance()];
    const pfm_params& params = arguments.params;
    // The row adds to dquery on every device of its shared-memory class, or on none.
    constexpr int kClass = kTile.shared_bytes(false) <= kSharedSmall ? kSharedSmall : kSharedMedium;
    constexpr int kMost = kTile.shared_bytes(kTile.shared_bytes(true) <= kClass);
    const int used = kTile.shared_bytes(arguments.dquery != nullptr);
    const int64_t blocks = params.batch * params.heads_kv * arguments.splits * arguments.mask.key_tiles;
    return ptx::Launch(Backward<T, instance()>, blocks, kTile.threads(), {used, Max(kMost, used)}, params.stream,
                       arguments);
  });
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_BACKWARD_LAUNCH_H_
