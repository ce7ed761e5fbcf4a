#include "backward_rows.h"
#include "launch.h"

namespace pfm::cuda::sm80 {

ptx::LaunchStatus LaunchPrepareRows(const BackwardArguments& arguments) {
  const pfm_params& params = arguments.params;
  return ptx::Launch(PrepareRows, params.batch * params.heads_q * arguments.row_blocks, kRowWarps * 32, 4 * kRowWarps,
                     params.stream, arguments);
}

ptx::LaunchStatus LaunchSumSink(const BackwardArguments& arguments) {
  return ptx::Launch(SumSink, arguments.params.heads_q, kSinkThreads, 4 * kSinkThreads, arguments.params.stream,
                     arguments);
}

template <class T>
ptx::LaunchStatus LaunchConvertQueryGradient(const BackwardArguments& arguments) {
  const pfm_params& params = arguments.params;
  const int64_t items = params.batch * params.heads_q * params.seqlen_q * (params.head_dim / kElementsPerCopy);
  return ptx::Launch(ConvertQueryGradient<T>, CeilDiv<int64_t>(items, kConvertThreads), kConvertThreads, 0,
                     params.stream, arguments);
}

template ptx::LaunchStatus LaunchConvertQueryGradient<ptx::Float16>(const BackwardArguments& arguments);
template ptx::LaunchStatus LaunchConvertQueryGradient<ptx::BFloat16>(const BackwardArguments& arguments);

}  // namespace pfm::cuda::sm80
