#include "backward_launch.h"

namespace pfm::cuda::sm90 {

template ptx::LaunchStatus LaunchBackward<ptx::Float16>(int row, const TmaBackwardArguments& arguments);

}  // namespace pfm::cuda::sm90
