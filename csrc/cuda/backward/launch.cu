#include "launch.h"
#include "postprocess.h"
#include "preprocess.h"

namespace pfm::cuda {

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
ptx::LaunchStatus LaunchConvertQueryGradient(const BackwardArguments& arguments, bool sums_in_quads) {
  const pfm_params& params = arguments.params;
  const int64_t items = params.batch * params.heads_q * params.seqlen_q * (params.head_dim / kElementsPerCopy);
  const auto kernel = sums_in_quads ? ConvertQueryGradient<T, true> : ConvertQueryGradient<T, false>;
  return ptx::Launch(kernel, CeilDiv<int64_t>(items, kConvertThreads), kConvertThreads, 0, params.stream, arguments);
}

template <class T>
ptx::LaunchStatus LaunchSumParts(const BackwardArguments& arguments) {
  const pfm_params& params = arguments.params;
  const float keep_scale = params.dropout > 0.0f ? arguments.dropout.keep_scale : 1.0f;
  const SumPartsArguments sums[] = {
      {arguments, arguments.dkey_parts, params.dkey, params.head_dim, params.softmax_scale},
      {arguments, arguments.dvalue_parts, params.dvalue, params.head_dim_v, keep_scale},
  };
  for (const SumPartsArguments& sum : sums) {
    if (sum.sum.data == nullptr) continue;
    const int64_t items = params.batch * params.heads_kv * params.seqlen_k * (sum.dim / kElementsPerCopy);
    const ptx::LaunchStatus status =
        ptx::Launch(SumParts<T>, CeilDiv<int64_t>(items, kConvertThreads), kConvertThreads, 0, params.stream, sum);
    if (!status.ok()) return status;
  }
  return {};
}

template ptx::LaunchStatus LaunchSumParts<ptx::Float16>(const BackwardArguments& arguments);
template ptx::LaunchStatus LaunchSumParts<ptx::BFloat16>(const BackwardArguments& arguments);
template ptx::LaunchStatus LaunchConvertQueryGradient<ptx::Float16>(const BackwardArguments& arguments, bool);
template ptx::LaunchStatus LaunchConvertQueryGradient<ptx::BFloat16>(const BackwardArguments& arguments, bool);

}  // namespace pfm::cuda
