// Entry of the sm80 backward kernels in the table of dispatch.cu. They support every call that passes its checks.
#ifndef PFM_CUDA_SM80_BACKWARD_HOST_H_
#define PFM_CUDA_SM80_BACKWARD_HOST_H_

#include "../common/kernel_set.h"

namespace pfm::cuda::sm80 {

extern const KernelSet kBackwardKernels;

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_BACKWARD_HOST_H_
