// In place of csrc/cuda/sm90 in a build without machine code for compute capability 9.0: the sm80 kernels do it all.
#include "sm90/attention.h"

namespace pfm::cuda::sm90 {
namespace {

Result NotBuilt() { return Fail(PFM_UNSUPPORTED, "this build has no kernels of compute capability 9.0"); }

}  // namespace

bool ForwardTakes(const pfm_params&, const ptx::DeviceLimits&) { return false; }
bool BackwardTakes(const pfm_params&, const ptx::DeviceLimits&) { return false; }
size_t ForwardWorkspace(const pfm_params&, const ptx::DeviceLimits&) { return 0; }
size_t BackwardWorkspace(const pfm_params&, const ptx::DeviceLimits&) { return 0; }
Result Forward(const pfm_params&, const ptx::DeviceLimits&) { return NotBuilt(); }
Result Backward(const pfm_params&, const ptx::DeviceLimits&) { return NotBuilt(); }

}  // namespace pfm::cuda::sm90
