// Forward attention for few keys, which is bound by the memory traffic of queries and outputs: queries are read and
// outputs written once, in their own layout and type, and neither passes through packed panels.
#ifndef PFM_CPU_FEW_KEYS_H_
#define PFM_CPU_FEW_KEYS_H_

#include <cstddef>

#include "../flashmask.h"

namespace pfm::cpu {

// Whether a call has so few keys that packing a query costs more than its products. The backward pass then computes
// the scores in the same way.
bool HasFewKeys(const pfm_params& params);

size_t FewKeysWorkspace(const pfm_params& params);
void FewKeysForward(const pfm_params& params);

}  // namespace pfm::cpu

#endif  // PFM_CPU_FEW_KEYS_H_
