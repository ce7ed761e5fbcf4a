#include "attention.h"

namespace pfm::cuda::sm90 {

bool ForwardTakes(const pfm_params&, const ptx::DeviceLimits&) { return false; }

size_t ForwardWorkspace(const pfm_params&, const ptx::DeviceLimits&) { return 0; }

Result Forward(const pfm_params&, const ptx::DeviceLimits&) {
  return Fail(PFM_UNSUPPORTED, "the sm90 kernels have no forward");
}

}  // namespace pfm::cuda::sm90
