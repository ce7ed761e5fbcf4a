// Interface between dispatch.cu and the kernels of an architecture.
#ifndef PFM_CUDA_COMMON_KERNEL_SET_H_
#define PFM_CUDA_COMMON_KERNEL_SET_H_

#include <cstddef>

#include "../../flashmask.h"
#include "../ptx/launch.h"
#include "result.h"

namespace pfm::cuda {

// Host functions of the forward or the backward kernels of one architecture.
struct KernelSet {
  // Whether `run` can compute this problem on this device. Depends on shapes, strides and features, never on data.
  bool (*supports)(const pfm_params& params, const ptx::DeviceLimits& limits);
  size_t (*workspace)(const pfm_params& params, const ptx::DeviceLimits& limits);  // bytes
  // Checks the workspace and enqueues the work.
  Result (*run)(const pfm_params& params, const ptx::DeviceLimits& limits);
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_KERNEL_SET_H_
