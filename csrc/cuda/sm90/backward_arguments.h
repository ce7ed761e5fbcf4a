// What the sm90 backward kernel is given.
#ifndef PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_
#define PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_

#include "../backward/backward_arguments.h"
#include "../ptx/tensor_map.h"

namespace pfm::cuda::sm90 {

struct TmaBackwardArguments {
  BackwardArguments common;
  ptx::TensorMap query, dout;   // boxes of a query tile x 64 columns
  ptx::TensorMap key, value;    // boxes of a key tile x 64 columns
  int32_t dout_row;             // where row 0 is: Sq, beyond the tensor, makes an absent dout zero
  ptx::TensorMap dkey, dvalue;  // boxes of 64 keys x 64 columns; undefined where not wanted
};

// `row` of the table in backward_config.h. T: ptx::Float16 or ptx::BFloat16.
template <class T>
ptx::LaunchStatus LaunchBackward(int row, const TmaBackwardArguments& arguments);

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_
