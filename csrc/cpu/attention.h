// The CPU implementation of the C ABI. Parameters are validated and num_workers is resolved before they get here.
#ifndef PFM_CPU_ATTENTION_H_
#define PFM_CPU_ATTENTION_H_

#include <cstddef>

#include "../flashmask.h"

namespace pfm::cpu {

size_t ForwardWorkspace(const pfm_params& params);
size_t BackwardWorkspace(const pfm_params& params);
void Forward(const pfm_params& params);
void Backward(const pfm_params& params);

int DefaultThreads();

// The instruction set in use, and its choice by name ("" = the best this machine runs); false: not available.
const char* IsaName();
bool SetIsa(const char* name);

}  // namespace pfm::cpu

#endif  // PFM_CPU_ATTENTION_H_
