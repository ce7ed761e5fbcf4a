// Launches the instantiation of query_gradient.h for a row of the table.
#ifndef PFM_CUDA_SM80_QUERY_GRADIENT_LAUNCH_H_
#define PFM_CUDA_SM80_QUERY_GRADIENT_LAUNCH_H_

#include "../common/dispatch_row.h"
#include "launch.h"
#include "query_gradient.h"

namespace pfm::cuda::sm80 {

template <class T>
ptx::LaunchStatus LaunchQueryGradient(int row, const BackwardArguments& arguments) {
  return DispatchRow<kQueryGradientRows>(row, [&](auto instance) {
    constexpr QueryGradientTile kTile = kQueryGradient[instance()];
    const int64_t blocks = arguments.params.batch * arguments.params.heads_q * arguments.mask.query_tiles;
    return ptx::Launch(QueryGradient<T, instance()>, blocks, kTile.threads(), kTile.shared_bytes(),
                       arguments.params.stream, arguments);
  });
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_QUERY_GRADIENT_LAUNCH_H_
