#include "mask_plan.h"

#include <algorithm>

#include "../core/order.h"
#include "parallel.h"

namespace pfm::cpu {
namespace {

constexpr int64_t kBlockMaskSize = 128;

TileShape WholeTile(int rows) {
  TileShape shape;
  for (PanelRows& panel : shape.panel) panel = {0, static_cast<int16_t>(rows)};
  shape.panel_begin = 0;
  shape.panel_end = kKeyPanels;
  shape.row_begin = 0;
  shape.row_end = rows;
  shape.masked = false;
  return shape;
}

}  // namespace

MaskPlan::MaskPlan(const pfm_params& params, Arena* arena)
    : params_(params),
      rules_{params.seqlen_q,     params.seqlen_k,        params.causal_offset, params.window_left,
             params.window_right, params.startend_bounds, params.causal != 0},
      masks_(params.startend_bounds == 0 ? 1 : params.batch * params.heads_mask),
      query_tiles_(CeilDiv<int64_t>(params.seqlen_q, kTileQ)),
      query_blocks_(CeilDiv<int64_t>(query_tiles_, kBlockTiles)),
      key_tiles_(CeilDiv<int64_t>(params.seqlen_k, kTileK)),
      padded_keys_(key_tiles_ * kTileK) {
  for (int bound = 0; bound < 2 + 2 * kMaxHoles; ++bound) {
    bound_[bound] = bound < 2 + 2 * rules_.holes() ? arena->Take<int32_t>(masks_ * padded_keys_) : nullptr;
  }
  tile_bounds_ = arena->Take<TileBounds>(masks_ * key_tiles_);
  order_ = arena->Take<int32_t>(masks_ * query_blocks_);
  work_ = arena->Take<int32_t>(masks_ * (query_blocks_ + 1));
}

void MaskPlan::Build(int threads) {
  ParallelFor(masks_ * key_tiles_, threads,
              [&](int64_t item, int) { BuildKeyTile(item / key_tiles_, item % key_tiles_); });
  ParallelFor(masks_, threads, [&](int64_t mask, int) {
    const int32_t blocks = static_cast<int32_t>(query_blocks_);
    int32_t* work = work_ + mask * (query_blocks_ + 1);
    for (int32_t block = 0; block <= blocks; ++block) work[block] = 0;
    for (int64_t tile = 0; tile < key_tiles_; ++tile) {
      AddLiveQueryTiles(tile_bounds_[mask * key_tiles_ + tile], kBlockTiles * kTileQ, blocks, work);
    }
    LongestFirst(work, blocks, PrefixCounts(blocks, work), order_ + mask * query_blocks_);
  });
}

const int32_t* MaskPlan::StartEnd(int64_t mask) const {
  return params_.startend_row_indices + mask / params_.heads_mask * params_.startend_stride_batch +
         mask % params_.heads_mask * params_.startend_stride_head;
}

// Without indices there are no holes and only one mask. This loop is several times faster than the general one, which
// would take a third of a call with one query.
void MaskPlan::BuildWindowTile(int64_t key_tile) {
  const RowRange absent = {static_cast<int32_t>(params_.seqlen_q), 0};
  TileBounds bounds = {NoBounds(), {NoBounds(), NoBounds()}};
  for (RowRangeBounds& hole : bounds.hole) Extend(&hole, absent);
  const int keys = Keys(key_tile);
  for (int c = 0; c < kTileK; ++c) {
    const int64_t key = key_tile * kTileK + c;
    const RowRange rows = c < keys ? RowsInWindow(rules_, key) : absent;
    const RowRange visible = rows.empty() ? absent : rows;
    bound_[0][key] = visible.begin;
    bound_[1][key] = visible.end;
    if (c < keys) Extend(&bounds.visible, visible);
  }
  tile_bounds_[key_tile] = bounds;
}

void MaskPlan::BuildKeyTile(int64_t mask, int64_t key_tile) {
  if (rules_.bounds == 0) return BuildWindowTile(key_tile);
  const int32_t rows = static_cast<int32_t>(params_.seqlen_q);
  const Column nobody = {{rows, 0}, {{rows, 0}, {rows, 0}}};
  const int32_t* values = StartEnd(mask);
  Column columns[kTileK];
  for (int c = 0; c < kTileK; ++c) {
    const int64_t key = key_tile * kTileK + c;
    const bool exists = key < params_.seqlen_k;
    columns[c] = exists ? NormalForm(rules_, key, values + key * rules_.bounds) : nobody;
    const int64_t at = mask * padded_keys_ + key;
    bound_[0][at] = columns[c].visible.begin;
    bound_[1][at] = columns[c].visible.end;
    for (int hole = 0; hole < rules_.holes(); ++hole) {
      bound_[2 + 2 * hole][at] = columns[c].hole[hole].begin;
      bound_[3 + 2 * hole][at] = columns[c].hole[hole].end;
    }
  }
  tile_bounds_[mask * key_tiles_ + key_tile] = BoundsOf(columns, Keys(key_tile));
}

int64_t MaskPlan::MaskOf(int64_t batch, int64_t head) const {
  if (masks_ == 1) return 0;
  return batch * params_.heads_mask + head / (params_.heads_q / params_.heads_mask);
}

ColumnArrays MaskPlan::Columns(int64_t mask) const {
  const int64_t at = mask * padded_keys_;
  ColumnArrays columns = {bound_[0] + at, bound_[1] + at, {nullptr, nullptr}, {nullptr, nullptr}};
  for (int hole = 0; hole < rules_.holes(); ++hole) {
    columns.hole_begin[hole] = bound_[2 + 2 * hole] + at;
    columns.hole_end[hole] = bound_[3 + 2 * hole] + at;
  }
  return columns;
}

Column MaskPlan::ColumnOf(int64_t mask, int64_t key) const {
  const int64_t at = mask * padded_keys_ + key;
  const RowRange absent = {static_cast<int32_t>(params_.seqlen_q), 0};
  Column column = {{bound_[0][at], bound_[1][at]}, {absent, absent}};
  for (int hole = 0; hole < rules_.holes(); ++hole) {
    column.hole[hole] = {bound_[2 + 2 * hole][at], bound_[3 + 2 * hole][at]};
  }
  return column;
}

bool MaskPlan::BlockHidden(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile) const {
  if (params_.block_mask == nullptr) return false;
  const int64_t row = query_tile * kTileQ / kBlockMaskSize;
  const int64_t col = key_tile * kTileK / kBlockMaskSize;
  const int64_t mask_head = head / (params_.heads_q / params_.heads_mask);
  const int32_t* blocks =
      params_.block_mask + batch * params_.block_mask_stride_batch + mask_head * params_.block_mask_stride_head;
  return blocks[row * CeilDiv(params_.seqlen_k, kBlockMaskSize) + col] == 0;
}

bool MaskPlan::Shape(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile, TileShape* shape) const {
  static_assert(kBlockMaskSize % kTileQ == 0 && kBlockMaskSize % kTileK == 0, "a tile lies in one block");
  if (BlockHidden(batch, head, query_tile, key_tile)) return false;
  const int64_t mask = MaskOf(batch, head);
  const int32_t row0 = static_cast<int32_t>(query_tile * kTileQ);
  const int rows = Rows(query_tile);
  const bool tail = Keys(key_tile) < kTileK;
  switch (ClassifyByBounds(tile_bounds_[mask * key_tiles_ + key_tile], row0, row0 + rows, tail)) {
    case TileClass::kEmpty:
      return false;
    case TileClass::kFull:
      *shape = WholeTile(rows);
      return true;
    default:
      return Kernels().shape(Columns(mask), key_tile * kTileK, row0, rows, shape);
  }
}

void MaskPlan::ApplyMask(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile, const TileShape& shape,
                         float* scores) const {
  if (!shape.masked) return;
  Kernels().mask(Columns(MaskOf(batch, head)), key_tile * kTileK, static_cast<int>(query_tile * kTileQ), shape,
                 scores);
}

void MaskPlan::Visibility(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile, const TileShape& shape,
                          float* visibility) const {
  std::fill_n(visibility, kTileQ * kScoreStride, 0.0f);
  ApplyMask(batch, head, query_tile, key_tile, shape, visibility);
}

void MaskPlan::LiveQueryTiles(int64_t mask, int64_t key_tile, int64_t* begin, int64_t* end) const {
  const RowRangeBounds& visible = tile_bounds_[mask * key_tiles_ + key_tile].visible;
  *begin = visible.min_begin / kTileQ;
  *end = CeilDiv<int64_t>(visible.max_end, kTileQ);
}

int MaskPlan::Rows(int64_t query_tile) const {
  return static_cast<int>(Min<int64_t>(kTileQ, params_.seqlen_q - query_tile * kTileQ));
}

int MaskPlan::Keys(int64_t key_tile) const {
  return static_cast<int>(Min<int64_t>(kTileK, params_.seqlen_k - key_tile * kTileK));
}

}  // namespace pfm::cpu
