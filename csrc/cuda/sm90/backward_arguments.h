// Arguments of the sm90 backward kernel.
#ifndef PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_
#define PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_

#include "../backward/backward_arguments.h"
#include "../ptx/tensor_map.h"

namespace pfm::cuda::sm90 {

struct TmaBackwardArguments {
  BackwardArguments common;
  ptx::TensorMap query, dout;   // boxes of a query tile x 64 columns
  ptx::TensorMap key, value;    // boxes of a key tile x 64 columns
  int32_t dout_row;             // row 0 of dout; Sq, beyond the tensor, reads zeros for an absent dout
  ptx::TensorMap dkey, dvalue;  // boxes of 64 keys x 64 columns; undefined if not wanted
};

// `row` of the table in backward_config.h. T: ptx::Float16 or ptx::BFloat16.
template <class T>
ptx::LaunchStatus LaunchBackward(int row, const TmaBackwardArguments& arguments);

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_
