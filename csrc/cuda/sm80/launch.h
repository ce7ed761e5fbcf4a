// Launchers of the sm80 kernels. Each element type is compiled in a separate file.
#ifndef PFM_CUDA_SM80_LAUNCH_H_
#define PFM_CUDA_SM80_LAUNCH_H_

#include "../backward/backward_arguments.h"
#include "../ptx/launch.h"
#include "forward_arguments.h"

namespace pfm::cuda::sm80 {

// row: of the tables in config.h. T: ptx::Float16 or ptx::BFloat16.
template <class T>
ptx::LaunchStatus LaunchForward(int row, const ForwardArguments& arguments);
template <class T>
ptx::LaunchStatus LaunchBackward(int row, const BackwardArguments& arguments);
template <class T>
ptx::LaunchStatus LaunchQueryGradient(int row, const BackwardArguments& arguments);

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_LAUNCH_H_
