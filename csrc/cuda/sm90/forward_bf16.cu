#include "forward_launch.h"

namespace pfm::cuda::sm90 {

template ptx::LaunchStatus LaunchForward<ptx::BFloat16>(int row, int64_t blocks, void* stream,
                                                        const ForwardArguments& arguments);

}  // namespace pfm::cuda::sm90
