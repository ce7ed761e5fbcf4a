// The C ABI over the emulated CUDA kernels alone, so that tests call them as they call any other build.
#include <cstdio>

#include "cuda/attention.h"
#include "flashmask.h"

namespace {

thread_local char last_error[sizeof(pfm::cuda::Result::message)] = "";

int32_t StatusOf(const pfm::cuda::Result& result) {
  if (result.status != PFM_OK) std::snprintf(last_error, sizeof(last_error), "%s", result.message);
  return result.status;
}

}  // namespace

int32_t pfm_forward_workspace(const pfm_params* params, size_t* bytes) {
  return StatusOf(pfm::cuda::ForwardWorkspace(*params, bytes));
}

int32_t pfm_backward_workspace(const pfm_params* params, size_t* bytes) {
  return StatusOf(pfm::cuda::BackwardWorkspace(*params, bytes));
}

int32_t pfm_forward(const pfm_params* params) { return StatusOf(pfm::cuda::Forward(*params)); }

int32_t pfm_backward(const pfm_params* params) { return StatusOf(pfm::cuda::Backward(*params)); }

const char* pfm_last_error(void) { return last_error; }
