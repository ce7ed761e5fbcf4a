// Attention by the sm80 kernels: everything that attention.h of the folder above lets through.
#ifndef PFM_CUDA_SM80_ATTENTION_H_
#define PFM_CUDA_SM80_ATTENTION_H_

#include <cstddef>

#include "../common/result.h"
#include "../ptx/launch.h"

namespace pfm::cuda::sm80 {

// Bytes that Forward and Backward need in params.workspace; they do not check its size.
size_t ForwardWorkspace(const pfm_params& params);
size_t BackwardWorkspace(const pfm_params& params, const ptx::DeviceLimits& limits);

Result Forward(const pfm_params& params);
Result Backward(const pfm_params& params, const ptx::DeviceLimits& limits);

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_ATTENTION_H_
