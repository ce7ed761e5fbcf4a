#include "../common/arena.h"
#include "../common/prepare.h"
#include "../common/workspace.h"
#include "config.h"
#include "forward_host.h"
#include "head_order.h"
#include "launch.h"

namespace pfm::cuda::sm80 {
namespace {

struct ForwardPlan {
  int row;
  ForwardArguments arguments;

  ForwardPlan(const pfm_params& params, const ptx::DeviceLimits& limits, Arena* arena)
      : row(ForwardRowFor(params.head_dim, params.head_dim_v, limits.shared_bytes)) {
    const ForwardTile& tile = kForward[row];
    arguments.params = params;
    arguments.mask = TakeMaskTable(params, tile.tile_q, tile.tile_k, arena);
    TakeQueryOrder(&arguments.mask, arena);
    arguments.dropout = MakeDropout(params.dropout, params.seed, params.offset);
    arguments.groups = QueryHeadGroups(params, limits.l2_bytes);
  }
};

bool Supports(const pfm_params&, const ptx::DeviceLimits&) { return true; }

size_t Workspace(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(nullptr);
  const ForwardPlan plan(params, limits, &arena);
  return arena.used();
}

Result Run(const pfm_params& params, const ptx::DeviceLimits& limits) {
  Arena arena(params.workspace);
  const ForwardPlan plan(params, limits, &arena);
  Result result = CheckWorkspace(params, arena.used());
  if (Failed(result) || params.batch == 0 || params.seqlen_q == 0) return result;
  result = FromLaunch("mask preparation", PrepareMask(params, plan.arguments.mask));
  if (Failed(result)) return result;
  const auto launch = params.dtype == PFM_BFLOAT16 ? LaunchForward<ptx::BFloat16> : LaunchForward<ptx::Float16>;
  return FromLaunch("the forward kernel", launch(plan.row, plan.arguments));
}

}  // namespace

const KernelSet kForwardKernels = {Supports, Workspace, Run};

}  // namespace pfm::cuda::sm80
