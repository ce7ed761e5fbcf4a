#include "forward_launch.h"

namespace pfm::cuda::sm80 {

template ptx::LaunchStatus LaunchForward<ptx::BFloat16>(int row, const ForwardArguments& arguments);

}  // namespace pfm::cuda::sm80
