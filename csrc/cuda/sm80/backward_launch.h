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
    const ptx::SharedBytes shared = {kTile.shared_bytes(arguments.dquery != nullptr),
                                     kTile.shared_bytes(kTile.adds_dquery())};
    const int64_t blocks = params.batch * params.heads_kv * arguments.splits * arguments.mask.key_tiles;
    auto kernel = Backward<T, instance(), false>;
    if constexpr (kTile.adds_dquery()) {
      if (arguments.dquery != nullptr && arguments.turns != nullptr) kernel = Backward<T, instance(), true>;
    }
    return ptx::Launch(kernel, blocks, kTile.threads(), shared, params.stream, arguments);
  });
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_BACKWARD_LAUNCH_H_
