// Forward attention for few queries, which is bound by the memory traffic of keys and values: they are read once, in
// their own layout and type, and not packed.
#ifndef PFM_CPU_FEW_QUERIES_H_
#define PFM_CPU_FEW_QUERIES_H_

#include <cstddef>

#include "../flashmask.h"

namespace pfm::cpu {

// Whether a call has so few query rows per key head that packing a key costs more than its products. The backward
// pass then computes the scores in the same way.
bool HasFewQueries(const pfm_params& params);

size_t FewQueriesWorkspace(const pfm_params& params);
void FewQueriesForward(const pfm_params& params);

}  // namespace pfm::cpu

#endif  // PFM_CPU_FEW_QUERIES_H_
