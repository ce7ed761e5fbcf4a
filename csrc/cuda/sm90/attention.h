// Attention by the kernels of compute capability 9.0: what they take, and how much workspace they need.
#ifndef PFM_CUDA_SM90_ATTENTION_H_
#define PFM_CUDA_SM90_ATTENTION_H_

#include <cstddef>

#include "../common/result.h"
#include "../ptx/launch.h"
#include "backward_attention.h"

namespace pfm::cuda::sm90 {

// Whether Forward computes this problem on this device; otherwise the sm80 kernels do, with the same results. Of
// params, shapes, strides and features count, not what pointers point to.
bool ForwardTakes(const pfm_params& params, const ptx::DeviceLimits& limits);

size_t ForwardWorkspace(const pfm_params& params, const ptx::DeviceLimits& limits);
Result Forward(const pfm_params& params, const ptx::DeviceLimits& limits);

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_ATTENTION_H_
