// Entry of the sm90 forward kernels in the table of dispatch.cu.
#ifndef PFM_CUDA_SM90_FORWARD_HOST_H_
#define PFM_CUDA_SM90_FORWARD_HOST_H_

#include "../common/kernel_set.h"

namespace pfm::cuda::sm90 {

extern const KernelSet kForwardKernels;

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_FORWARD_HOST_H_
