// Launchers of the kernels before and after the pass over key tiles. T: ptx::Float16 or ptx::BFloat16.
#ifndef PFM_CUDA_BACKWARD_LAUNCH_H_
#define PFM_CUDA_BACKWARD_LAUNCH_H_

#include "../ptx/launch.h"
#include "backward_arguments.h"

namespace pfm::cuda {

ptx::LaunchStatus LaunchPrepareRows(const BackwardArguments& arguments);
ptx::LaunchStatus LaunchSumSink(const BackwardArguments& arguments);

// sums_in_quads: ConvertQueryGradient of postprocess.h.
template <class T>
ptx::LaunchStatus LaunchConvertQueryGradient(const BackwardArguments& arguments, bool sums_in_quads);
template <class T>
ptx::LaunchStatus LaunchSumParts(const BackwardArguments& arguments);

}  // namespace pfm::cuda

#endif  // PFM_CUDA_BACKWARD_LAUNCH_H_
