// CUDA implementation of the C ABI. csrc/capi.cc has validated the parameters; only the limits of this device are
// checked here: float32, head dims that are not multiples of 8 and rows that are not 16-byte aligned end in
// PFM_UNSUPPORTED. Calls enqueue work on params.stream and return. A build without CUDA has csrc/no_cuda.cc instead.
#ifndef PFM_CUDA_DISPATCH_H_
#define PFM_CUDA_DISPATCH_H_

#include <cstddef>

#include "common/result.h"

namespace pfm::cuda {

// Targets the kernels are compiled for, such as "sm_80 sm_90 sm_90a compute_80"; "" in a build without CUDA.
const char* Architectures();

// 10 * major + minor of the current device. Fails if the kernels do not run on it.
Result ComputeCapability(int32_t* compute_capability);

// Restricts dispatch to kernels for this compute capability or an older one: 80 or 90; 0 lifts the restriction.
Result SetNewestKernels(int32_t compute_capability);

// Bytes of workspace that Forward and Backward need on the current device.
Result ForwardWorkspace(const pfm_params& params, size_t* bytes);
Result BackwardWorkspace(const pfm_params& params, size_t* bytes);

Result Forward(const pfm_params& params);
Result Backward(const pfm_params& params);

}  // namespace pfm::cuda

#endif  // PFM_CUDA_DISPATCH_H_
