// Entry of the sm90 backward kernels in the table of dispatch.cu.
#ifndef PFM_CUDA_SM90_BACKWARD_HOST_H_
#define PFM_CUDA_SM90_BACKWARD_HOST_H_

#include "../common/kernel_set.h"

namespace pfm::cuda::sm90 {

extern const KernelSet kBackwardKernels;

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_HOST_H_
