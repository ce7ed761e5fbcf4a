// The backward kernels of compute capability 8.0 and later, for dispatch.cu. They support everything that it lets
// through.
#ifndef PFM_CUDA_SM80_BACKWARD_HOST_H_
#define PFM_CUDA_SM80_BACKWARD_HOST_H_

#include "../common/kernel_set.h"

namespace pfm::cuda::sm80 {

extern const KernelSet kBackwardKernels;

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_BACKWARD_HOST_H_
