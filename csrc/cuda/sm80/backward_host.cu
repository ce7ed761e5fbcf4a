#include "../backward/backward_plan.h"
#include "../common/workspace.h"
#include "backward_host.h"
#include "config.h"
#include "head_order.h"
#include "launch.h"

namespace pfm::cuda::sm80 {
namespace {

struct Plan {
  int row;        // of kBackward
  int query_row;  // of kQueryGradient
  BackwardPlan shared;
  MaskTable query_mask = {};  // of the separate pass for dquery
  HeadGroups query_groups = {};

  Plan(const pfm_params& params, const ptx::DeviceLimits& limits, Arena* arena)
      : row(BackwardRowFor(Max(params.head_dim, params.head_dim_v), limits.shared_bytes)),
        query_row(RowFor(kQueryGradient, params.head_dim, params.head_dim_v)),
        shared(params, KeyPassOf(kBackward[row], limits), limits, arena) {
    const QueryGradientTile& tile = kQueryGradient[query_row];
    if (shared.adds_dquery) return;
    query_mask = TakeMaskTable(params, tile.tile_q, tile.tile_k, arena);
    TakeQueryOrder(&query_mask, arena);
    query_groups = QueryHeadGroups(params, limits.l2_bytes);
  }

 private:
  static KeyPass KeyPassOf(const BackwardTile& tile, const ptx::DeviceLimits& limits) {
    return {tile.head_dim,
            tile.tile_q,
            tile.tile_k,
            tile.adds_dquery(),
            2,
            false,
            CachedBytes(limits.l2_bytes),
            TurnCachedBytes(limits.l2_bytes)};
  }
};

// Computes dquery in a separate pass, for calls whose pass over key tiles does not add to it.
template <class T>
Result RunQueryGradient(const Plan& plan) {
  BackwardArguments arguments = plan.shared.arguments;
  arguments.mask = plan.query_mask;
  arguments.groups = plan.query_groups;
  const Result mask = FromLaunch("mask preparation", PrepareMask(arguments.params, arguments.mask));
  if (Failed(mask)) return mask;
  return FromLaunch("the dquery kernel", LaunchQueryGradient<T>(plan.query_row, arguments));
}

template <class T>
Result RunAs(const Plan& plan) {
  const pfm_params& params = plan.shared.arguments.params;
  const Result result =
      RunBackward<T>(plan.shared, [&] { return LaunchBackward<T>(plan.row, plan.shared.arguments); });
  const bool has_rows = params.batch > 0 && params.seqlen_q > 0;
  if (Failed(result) || plan.shared.adds_dquery || params.dquery.data == nullptr || !has_rows) return result;
  return RunQueryGradient<T>(plan);
}

bool Supports(const pfm_params&, const ptx::DeviceLimits&) { return true; }

size_t Workspace(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(nullptr);
  const Plan plan(params, limits, &arena);
  return arena.used();
}

Result Run(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(params.workspace);
  const Plan plan(params, limits, &arena);
  const Result workspace = CheckWorkspace(params, arena.used());
  if (Failed(workspace)) return workspace;
  return params.dtype == PFM_BFLOAT16 ? RunAs<ptx::BFloat16>(plan) : RunAs<ptx::Float16>(plan);
}

}  // namespace

const KernelSet kBackwardKernels = {Supports, Workspace, Run};

}  // namespace pfm::cuda::sm80
