#include <cstdint>

#include "../../core/host_device.h"
#include "../common/arena.h"
#include "../common/prepare.h"
#include "../common/score_scale.h"
#include "../common/workspace.h"
#include "forward_config.h"
#include "forward_host.h"
#include "launch.h"
#include "tensor_maps.h"

namespace pfm::cuda::sm90 {
namespace {

constexpr int kWarpgroupRows = 64;  // box of queries and output

TensorSize QuerySize(const pfm_params& params) {
  return {params.batch, params.seqlen_q, params.heads_q, params.head_dim};
}
TensorSize OutSize(const pfm_params& params) {
  return {params.batch, params.seqlen_q, params.heads_q, params.head_dim_v};
}
TensorSize KeySize(const pfm_params& params) {
  return {params.batch, params.seqlen_k, params.heads_kv, params.head_dim};
}
TensorSize ValueSize(const pfm_params& params) {
  return {params.batch, params.seqlen_k, params.heads_kv, params.head_dim_v};
}

bool HasMaps(const pfm_params& params, int tile_k) {
  return HasMap(params.query, QuerySize(params), params.dtype, kWarpgroupRows) &&
         HasMap(params.out, OutSize(params), params.dtype, kWarpgroupRows) &&
         HasMap(params.key, KeySize(params), params.dtype, tile_k) &&
         HasMap(params.value, ValueSize(params), params.dtype, tile_k);
}

WorkOrder OrderOf(const pfm_params& params, const MaskTable& mask, int32_t* next) {
  const int64_t group = params.heads_q / params.heads_kv, query_heads = params.batch * params.heads_q;
  const int64_t bytes_per_head = params.seqlen_k * (params.head_dim + params.head_dim_v) * kElementBytes;
  WorkOrder work = {};
  work.items = static_cast<int32_t>(query_heads * mask.query_tiles);
  work.heads_q = static_cast<int32_t>(params.heads_q);
  work.groups = HeadGroups::Make(query_heads, bytes_per_head, group, kCachedBytes);
  work.next = next;
  return work;
}

struct ForwardPlan {
  int row;
  ForwardArguments arguments = {};

  ForwardPlan(const pfm_params& params, Arena* arena) : row(ForwardRowFor(params.head_dim, params.head_dim_v)) {
    const ForwardTile& tile = kForward[row];
    arguments.mask = TakeMaskTable(params, tile.tile_q, tile.tile_k, arena);
    TakeQueryOrder(&arguments.mask, arena);
    TakeKeyGroups(&arguments.mask, arena);
    arguments.work = OrderOf(params, arguments.mask, arena->Take<int32_t>(1, "counter of items"));
    arguments.heads_per_kv_head = static_cast<int32_t>(params.heads_q / params.heads_kv);
    arguments.scale = params.softmax_scale * kLog2E;
    arguments.sink = params.learnable_sink;
    arguments.lse = params.lse;
  }

  ptx::LaunchStatus EncodeMaps(const pfm_params& params) {
    const int tile_k = kForward[row].tile_k;
    ptx::LaunchStatus status =
        EncodeMap(&arguments.query, params.query, QuerySize(params), params.dtype, kWarpgroupRows);
    if (status.ok()) status = EncodeMap(&arguments.out, params.out, OutSize(params), params.dtype, kWarpgroupRows);
    if (status.ok()) status = EncodeMap(&arguments.key, params.key, KeySize(params), params.dtype, tile_k);
    if (status.ok()) status = EncodeMap(&arguments.value, params.value, ValueSize(params), params.dtype, tile_k);
    return status;
  }
};

bool Supports(const pfm_params& params, const ptx::DeviceLimits& limits) {
  const int row = ForwardRowFor(params.head_dim, params.head_dim_v);
  if (limits.compute_capability != 90 || row < 0 || limits.shared_bytes < kForward[row].shared_bytes()) return false;
  if (params.batch == 0 || params.seqlen_q == 0 || params.seqlen_k == 0) return false;
  // exp2(score * scale - shift) needs a positive scale, so that the largest score has the largest exponent.
  if (params.dropout != 0.0f || params.block_mask != nullptr || !(params.softmax_scale > 0.0f)) return false;
  return HasMaps(params, kForward[row].tile_k);
}

size_t Workspace(const pfm_params& params, const ptx::DeviceLimits&) {
  Arena arena(nullptr);
  const ForwardPlan plan(params, &arena);
  return arena.used();
}

Result Run(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(params.workspace);
  ForwardPlan plan(params, &arena);
  const WorkOrder& work = plan.arguments.work;
  Result result = CheckWorkspace(params, arena.used());
  if (!Failed(result)) result = FromLaunch("the description of the tensors", plan.EncodeMaps(params));
  if (!Failed(result)) result = FromLaunch("mask preparation", PrepareMask(params, plan.arguments.mask));
  if (!Failed(result)) {
    result = FromLaunch("clearing a counter", ptx::ClearMemory(work.next, sizeof(*work.next), params.stream));
  }
  if (Failed(result)) return result;
  const int multiprocessors = params.num_workers > 0 ? params.num_workers : limits.multiprocessors;
  const int64_t blocks = Min(work.items, multiprocessors);
  const auto launch = params.dtype == PFM_BFLOAT16 ? LaunchForward<ptx::BFloat16> : LaunchForward<ptx::Float16>;
  return FromLaunch("the forward kernel", launch(plan.row, blocks, params.stream, plan.arguments));
}

}  // namespace

const KernelSet kForwardKernels = {Supports, Workspace, Run};

}  // namespace pfm::cuda::sm90
