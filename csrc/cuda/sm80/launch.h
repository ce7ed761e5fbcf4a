// Host side of the sm80 kernels: one function per kernel and element type, compiled in a file of its own.
#ifndef PFM_CUDA_SM80_LAUNCH_H_
#define PFM_CUDA_SM80_LAUNCH_H_

#include "../backward/backward_arguments.h"
#include "../ptx/launch.h"
#include "forward_arguments.h"

namespace pfm::cuda::sm80 {

// `row` of the table in config.h. T: ptx::Float16 or ptx::BFloat16.
template <class T>
ptx::LaunchStatus LaunchForward(int row, const ForwardArguments& arguments);
template <class T>
ptx::LaunchStatus LaunchBackward(int row, const BackwardArguments& arguments);
template <class T>
ptx::LaunchStatus LaunchQueryGradient(int row, const BackwardArguments& arguments);

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_LAUNCH_H_
