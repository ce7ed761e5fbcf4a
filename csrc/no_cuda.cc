// Stands in for csrc/cuda in a build without CUDA kernels.
#include "cuda/dispatch.h"

namespace pfm::cuda {
namespace {

Result Absent() { return {PFM_UNSUPPORTED, "device is CUDA, but this build has no CUDA kernels"}; }

}  // namespace

const char* Architectures() { return ""; }
Result ComputeCapability(int32_t*) { return Absent(); }
Result SetNewestKernels(int32_t) { return Absent(); }
Result ForwardWorkspace(const pfm_params&, size_t*) { return Absent(); }
Result BackwardWorkspace(const pfm_params&, size_t*) { return Absent(); }
Result Forward(const pfm_params&) { return Absent(); }
Result Backward(const pfm_params&) { return Absent(); }

}  // namespace pfm::cuda
