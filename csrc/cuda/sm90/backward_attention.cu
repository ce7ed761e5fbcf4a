#include "backward_attention.h"

namespace pfm::cuda::sm90 {

bool BackwardTakes(const pfm_params&, const ptx::DeviceLimits&) { return false; }

size_t BackwardWorkspace(const pfm_params&, const ptx::DeviceLimits&) { return 0; }

Result Backward(const pfm_params&, const ptx::DeviceLimits&) {
  return Fail(PFM_UNSUPPORTED, "the sm90 kernels have no backward");
}

}  // namespace pfm::cuda::sm90
