#include "prepare.h"
#include "prepare_kernels.h"

namespace pfm::cuda {
namespace {

MaskRules RulesOf(const pfm_params& params) {
  return {params.seqlen_q,     params.seqlen_k,        params.causal_offset, params.window_left,
          params.window_right, params.startend_bounds, params.causal != 0};
}

}  // namespace

MaskTable TakeMaskTable(const pfm_params& params, int tile_q, int tile_k, Arena* arena) {
  MaskTable table = {};
  const MaskRules rules = RulesOf(params);
  table.masks = params.startend_bounds == 0 ? 1 : params.batch * params.heads_mask;
  table.seqlen_q = static_cast<int32_t>(params.seqlen_q);
  table.seqlen_k = static_cast<int32_t>(params.seqlen_k);
  table.query_tiles = static_cast<int32_t>(CeilDiv<int64_t>(params.seqlen_q, tile_q));
  table.key_tiles = static_cast<int32_t>(CeilDiv<int64_t>(params.seqlen_k, tile_k));
  table.padded_keys = static_cast<int64_t>(table.key_tiles) * tile_k;
  table.tile_q = tile_q;
  table.tile_k = tile_k;
  table.holes = rules.holes();
  const bool has_mask_heads = params.startend_bounds != 0 || params.block_mask != nullptr;
  table.heads_mask = has_mask_heads ? static_cast<int32_t>(params.heads_mask) : 1;
  table.heads_per_mask = static_cast<int32_t>(params.heads_q) / table.heads_mask;
  table.block_mask = params.block_mask;
  table.block_mask_stride_batch = params.block_mask_stride_batch;
  table.block_mask_stride_head = params.block_mask_stride_head;
  table.block_mask_columns = static_cast<int32_t>(CeilDiv<int64_t>(params.seqlen_k, kBlockMaskBlock));
  table.columns = arena->Take<int32_t>(table.masks * 2 * (1 + table.holes) * table.padded_keys, "columns of keys");
  table.bounds = arena->Take<int32_t>(table.masks * 4 * (1 + table.holes) * table.key_tiles, "bounds of key tiles");
  table.work = arena->Take<int32_t>(table.masks * (table.query_tiles + 1), "work of query tiles");
  return table;
}

void TakeQueryOrder(MaskTable* table, Arena* arena) {
  table->order = arena->Take<int32_t>(table->masks * table->query_tiles, "order of query tiles");
}

void TakeKeyGroups(MaskTable* table, Arena* arena) {
  table->groups = arena->Take<int32_t>(table->masks * 2 * table->key_groups(), "bounds of groups of key tiles");
}

void TakeKeyOrder(MaskTable* table, Arena* arena) {
  table->key_work = arena->Take<int32_t>(table->masks * table->key_tiles, "work of key tiles");
  table->key_order = arena->Take<int32_t>(table->masks * table->key_tiles, "order of key tiles");
}

ptx::LaunchStatus PrepareMask(const pfm_params& params, const MaskTable& table) {
  const PrepareArguments arguments = {RulesOf(params), table, params.startend_row_indices,
                                      params.startend_stride_batch, params.startend_stride_head};
  ptx::LaunchStatus status = {};
  if (table.key_tiles > 0) {
    const int64_t blocks = CeilDiv<int64_t>(table.masks * table.key_tiles, kColumnWarps);
    status = ptx::Launch(PrepareColumns, blocks, kColumnWarps * 32, 0, params.stream, arguments);
  }
  if (!status.ok() || table.query_tiles + table.key_tiles == 0) return status;
  const int64_t blocks = table.masks * (table.key_order == nullptr ? 1 : 2);
  return ptx::Launch(OrderTiles, blocks, kOrderThreads, kOrderSharedBytes, params.stream, table);
}

}  // namespace pfm::cuda
