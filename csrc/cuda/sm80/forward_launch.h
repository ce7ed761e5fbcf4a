// Launches the instantiation of forward.h for a row of the table.
#ifndef PFM_CUDA_SM80_FORWARD_LAUNCH_H_
#define PFM_CUDA_SM80_FORWARD_LAUNCH_H_

#include "../common/dispatch_row.h"
#include "forward.h"
#include "launch.h"

namespace pfm::cuda::sm80 {

template <class T>
ptx::LaunchStatus LaunchForward(int row, const ForwardArguments& arguments) {
  return DispatchRow<kForwardRows>(row, [&](auto instance) {
    constexpr ForwardTile kTile = kForward[instance()];
    const int64_t blocks = arguments.params.batch * arguments.params.heads_q * arguments.mask.query_tiles;
    return ptx::Launch(Forward<T, instance()>, blocks, kTile.threads(), kTile.shared_bytes(), arguments.params.stream,
                       arguments);
  });
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_FORWARD_LAUNCH_H_
