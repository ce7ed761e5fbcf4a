// Launches the instantiation of forward.h for a row of the table.
#ifndef PFM_CUDA_SM90_FORWARD_LAUNCH_H_
#define PFM_CUDA_SM90_FORWARD_LAUNCH_H_

#include "../common/dispatch_row.h"
#include "forward.h"
#include "launch.h"

namespace pfm::cuda::sm90 {

template <class T>
ptx::LaunchStatus LaunchForward(int row, int64_t blocks, void* stream, const ForwardArguments& arguments) {
  return DispatchRow<kForwardRows>(row, [&](auto instance) {
    constexpr ForwardTile kTile = kForward[instance()];
    return ptx::Launch(Forward<T, instance()>, blocks, kTile.threads(), kTile.shared_bytes(), stream, arguments);
  });
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_FORWARD_LAUNCH_H_
