// The CUDA implementation of the C ABI. Parameters are validated before they get here, except for what only this
// device refuses. Calls only enqueue work on params.stream. A build without CUDA has csrc/no_cuda.cc in its place.
#ifndef PFM_CUDA_DISPATCH_H_
#define PFM_CUDA_DISPATCH_H_

#include <cstddef>

#include "common/result.h"

namespace pfm::cuda {

// What the kernels are compiled for: "sm_80 sm_90 sm_90a compute_80"; "" in a build without.
const char* Architectures();

// 10 * major + minor of the current device, if the kernels run on it.
Result ComputeCapability(int32_t* compute_capability);

// Leaves out the kernels for later compute capabilities than this: 80 or 90; 0: none.
Result SetNewestKernels(int32_t compute_capability);

// The rest is of the current device. What these kernels refuse although it is valid: float32, head dims that are no
// multiple of 8, rows that are not aligned to 16 bytes.

// Bytes of workspace.
Result ForwardWorkspace(const pfm_params& params, size_t* bytes);
Result BackwardWorkspace(const pfm_params& params, size_t* bytes);

Result Forward(const pfm_params& params);
Result Backward(const pfm_params& params);

}  // namespace pfm::cuda

#endif  // PFM_CUDA_DISPATCH_H_
