// Launchers of the sm90 kernels. Each element type is compiled in a separate file.
#ifndef PFM_CUDA_SM90_LAUNCH_H_
#define PFM_CUDA_SM90_LAUNCH_H_

#include <cstdint>

#include "../ptx/launch.h"
#include "forward_arguments.h"

namespace pfm::cuda::sm90 {

// row: of the table in forward_config.h. blocks: how many, persistent. T: ptx::Float16 or ptx::BFloat16.
template <class T>
ptx::LaunchStatus LaunchForward(int row, int64_t blocks, void* stream, const ForwardArguments& arguments);

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_LAUNCH_H_
