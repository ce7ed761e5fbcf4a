// What the sm90 backward kernel is given.
#ifndef PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_
#define PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_

#include "../ptx/tensor_map.h"
#include "../sm80/backward_arguments.h"

namespace pfm::cuda::sm90 {

// Rows, sums and parts lie as for sm80, so that what runs before and after is shared.
struct BackwardArguments {
  sm80::BackwardArguments rows;
  ptx::TensorMap query, dout;   // boxes of a query tile x 64 columns
  ptx::TensorMap key, value;    // boxes of a key tile x 64 columns
  int32_t dout_row;             // where row 0 is: Sq, beyond the tensor, makes an absent dout zero
  ptx::TensorMap dkey, dvalue;  // boxes of 64 keys x 64 columns; undefined where not wanted
};

// `row` of the table in backward_config.h. T: ptx::Float16 or ptx::BFloat16.
template <class T>
ptx::LaunchStatus LaunchBackward(int row, const BackwardArguments& arguments);

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_ARGUMENTS_H_
