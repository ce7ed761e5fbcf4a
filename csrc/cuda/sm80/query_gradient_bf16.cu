#include "query_gradient_launch.h"

namespace pfm::cuda::sm80 {

template ptx::LaunchStatus LaunchQueryGradient<ptx::BFloat16>(int row, const BackwardArguments& arguments);

}  // namespace pfm::cuda::sm80
