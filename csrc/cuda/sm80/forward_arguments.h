// Arguments of the sm80 forward kernel.
#ifndef PFM_CUDA_SM80_FORWARD_ARGUMENTS_H_
#define PFM_CUDA_SM80_FORWARD_ARGUMENTS_H_

#include "../../core/dropout.h"
#include "../../flashmask.h"
#include "../common/head_groups.h"
#include "../common/mask_table.h"

namespace pfm::cuda::sm80 {

struct ForwardArguments {
  pfm_params params;
  MaskTable mask;
  DropoutStream dropout;
  HeadGroups groups;  // of query heads
};

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_FORWARD_ARGUMENTS_H_
