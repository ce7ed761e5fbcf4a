// Host side of the backward: its workspace, and the order of its launches. Architectures differ in the pass over key
// tiles only.
#ifndef PFM_CUDA_BACKWARD_BACKWARD_PLAN_H_
#define PFM_CUDA_BACKWARD_BACKWARD_PLAN_H_

#include <cstdint>

#include "../common/arena.h"
#include "../common/prepare.h"
#include "../common/result.h"
#include "launch.h"

namespace pfm::cuda {

// Shape and abilities of the pass over key tiles.
struct KeyPass {
  int head_dim, tile_q, tile_k;
  bool adds_dquery;
  int blocks_per_multiprocessor;            // to aim for by splitting groups of query heads
  bool sums_in_quads;                       // of dquery, whatever the other kernels are compiled for
  int64_t cached_bytes, turn_cached_bytes;  // for what the heads of a group share (head_groups.h)
};

struct BackwardPlan {
  bool adds_dquery;  // in the pass over key tiles; otherwise a separate pass computes it
  bool sums_in_quads;
  BackwardArguments arguments;

  BackwardPlan(const pfm_params& params, const KeyPass& pass, const ptx::DeviceLimits& limits, Arena* arena)
      : adds_dquery(pass.adds_dquery), sums_in_quads(pass.sums_in_quads) {
    arguments.params = params;
    arguments.mask = TakeMaskTable(params, pass.tile_q, pass.tile_k, arena);
    TakeKeyOrder(&arguments.mask, arena);
    arguments.dropout = MakeDropout(params.dropout, params.seed, params.offset);
    const int64_t heads = params.batch * params.heads_q;
    arguments.padded_rows = RoundUp<int64_t>(params.seqlen_q, Max(kRowsPerBlock, pass.tile_q));
    arguments.row_blocks = static_cast<int32_t>(arguments.padded_rows / kRowsPerBlock);
    arguments.lse = arena->Take<float>(heads * arguments.padded_rows, "lse of rows");
    arguments.delta = arena->Take<float>(heads * arguments.padded_rows, "delta of rows");
    arguments.dsink = arena->Take<float>(heads * arguments.row_blocks, "parts of dsink");
    arguments.padded_dim = pass.head_dim;
    const int multiprocessors = params.num_workers > 0 ? params.num_workers : limits.multiprocessors;
    arguments.splits = SplitsOfGroup(pass.blocks_per_multiprocessor * multiprocessors);
    const int64_t parts = arguments.splits == 1 ? 0
                                                : arguments.splits * params.batch * params.heads_kv *
                                                      arguments.mask.padded_keys * pass.head_dim;
    arguments.dkey_parts = arena->Take<float>(parts, "parts of dkey");
    arguments.dvalue_parts = arena->Take<float>(parts, "parts of dvalue");
    const bool takes_turns = adds_dquery && params.deterministic != 0 && arguments.padded_rows > 0;
    arguments.turns = arena->Take<int32_t>(takes_turns ? heads * arguments.row_blocks : 0, "turns of dquery");
    arguments.ticket = arena->Take<int32_t>(takes_turns ? 1 : 0, "ticket of blocks");
    if (!takes_turns) arguments.turns = arguments.ticket = nullptr;
    arguments.groups = GroupsOf(pass, takes_turns);
    const int64_t sums = adds_dquery ? heads * arguments.padded_rows * pass.head_dim : 0;
    arguments.dquery = arena->Take<float>(sums, "sums of dquery");
    if (!adds_dquery || params.dquery.data == nullptr) arguments.dquery = nullptr;
  }

 private:
  // What the blocks of a head share: query, dout, and the float32 sums of dquery.
  HeadGroups GroupsOf(const KeyPass& pass, bool takes_turns) const {
    const int64_t bytes_per_row = pass.head_dim * (2 * kElementBytes + (adds_dquery ? kFloatBytes : 0));
    const int64_t bytes_per_head = arguments.heads_per_split() * arguments.padded_rows * bytes_per_row;
    const int64_t heads = arguments.params.batch * arguments.params.heads_kv * arguments.splits;
    return HeadGroups::Make(heads, bytes_per_head, 1, takes_turns ? pass.turn_cached_bytes : pass.cached_bytes);
  }

  // Smallest divisor of the group that, as the number of blocks per key tile and key-value head, gives enough blocks.
  int32_t SplitsOfGroup(int64_t enough) const {
    const pfm_params& params = arguments.params;
    const int64_t group = params.heads_q / params.heads_kv;
    const int64_t blocks = params.batch * params.heads_kv * arguments.mask.key_tiles;
    int64_t splits = 1;
    while (splits < group && (blocks * splits < enough || group % splits != 0)) ++splits;
    return static_cast<int32_t>(splits);
  }
};

// Runs the backward, except for a separate pass for dquery. launch_key_pass() launches the pass over key tiles.
template <class T, class LaunchKeyPass>
Result RunBackward(const BackwardPlan& plan, LaunchKeyPass&& launch_key_pass) {
  const BackwardArguments& arguments = plan.arguments;
  const pfm_params& params = arguments.params;
  const bool has_rows = params.batch > 0 && params.seqlen_q > 0;
  const bool has_keys = params.batch > 0 && params.seqlen_k > 0;
  const bool needs_key_pass =
      params.dkey.data != nullptr || params.dvalue.data != nullptr || arguments.dquery != nullptr;
  Result result;
  if (needs_key_pass && (has_rows || has_keys)) {
    result = FromLaunch("mask preparation", PrepareMask(params, arguments.mask));
  }
  if (!Failed(result) && has_rows) result = FromLaunch("the preparation of rows", LaunchPrepareRows(arguments));
  if (!Failed(result) && params.dsink != nullptr) {
    result = FromLaunch("the gradient of the sink", LaunchSumSink(arguments));
  }
  if (!Failed(result) && has_keys && needs_key_pass) {
    result = FromLaunch("the backward kernel", launch_key_pass());
    if (!Failed(result) && arguments.splits > 1) {
      result = FromLaunch("the sum of dkey and dvalue", LaunchSumParts<T>(arguments));
    }
  }
  if (!Failed(result) && has_rows && plan.adds_dquery && params.dquery.data != nullptr) {
    result = FromLaunch("the conversion of dquery", LaunchConvertQueryGradient<T>(arguments, plan.sums_in_quads));
  }
  return result;
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_BACKWARD_BACKWARD_PLAN_H_
