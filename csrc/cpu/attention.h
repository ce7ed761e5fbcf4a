// The CPU implementation of the C ABI. The caller has validated the parameters and resolved num_workers = 0.
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

// Name of the instruction set in use. SetIsa selects one by name ("": the best for this machine) and returns false if
// it is not available.
const char* IsaName();
bool SetIsa(const char* name);

}  // namespace pfm::cpu

#endif  // PFM_CPU_ATTENTION_H_
