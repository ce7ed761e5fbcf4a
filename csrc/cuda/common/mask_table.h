// What the kernels know of the masks of one launch: normal-form columns as arrays, bounds per key tile, an order of
// the query tiles. O(Sq + Sk) memory per mask; csrc/cuda/prepare.h fills it.
#ifndef PFM_CUDA_COMMON_MASK_TABLE_H_
#define PFM_CUDA_COMMON_MASK_TABLE_H_

#include <cstdint>

#include "../../core/columns.h"
#include "../../core/tiles.h"
#include "../ptx/ptx.h"

namespace pfm::cuda {

constexpr int kBlockMaskBlock = 128;

// Plain data, passed to kernels by value. A missing hole is not stored: arrays hold `holes` of them.
struct MaskTable {
  int32_t* columns;  // [mask][begin, end of the visible range and of each hole][padded key]
  int32_t* bounds;   // [mask][min_begin, max_begin, min_end, max_end of the same][key tile]
  int32_t* order;    // [mask][query tile]: longest first, approximately
  int32_t* work;     // [mask][query tile + 1]: difference array, then live key tiles per query tile

  int64_t masks;  // B * Hm, or 1 without startend_row_indices
  int64_t padded_keys;
  int32_t seqlen_q, query_tiles, key_tiles;
  int32_t tile_q, tile_k;
  int32_t holes;
  int32_t heads_mask, heads_per_mask;  // mask heads; query heads that share one

  const int32_t* block_mask;  // or null
  int64_t block_mask_stride_batch, block_mask_stride_head;
  int32_t block_mask_columns;

  PFM_HOST_DEVICE int64_t MaskOf(int64_t batch, int32_t head) const {
    return masks == 1 ? 0 : batch * heads_mask + head / heads_per_mask;
  }
};

// Two neighbouring entries of a column array.
struct alignas(8) IntPair {
  int32_t first, second;
};

// The mask of one (batch, query head).
class HeadMask {
 public:
  PFM_DEVICE HeadMask(const MaskTable& table, int64_t batch, int32_t head) : table_(&table) {
    const int64_t mask = table.MaskOf(batch, head);
    const int64_t ranges = 1 + table.holes;
    columns_ = table.columns + mask * 2 * ranges * table.padded_keys;
    bounds_ = table.bounds + mask * 4 * ranges * table.key_tiles;
    blocks_ = table.block_mask == nullptr ? nullptr
                                          : table.block_mask + batch * table.block_mask_stride_batch +
                                                head / table.heads_per_mask * table.block_mask_stride_head;
  }

  PFM_DEVICE const MaskTable& table() const { return *table_; }

  PFM_DEVICE Column ColumnOf(int64_t key) const {
    Column column = {RangeOf(0, key), {Absent(), Absent()}};
    for (int hole = 0; hole < kMaxHoles; ++hole) {
      if (hole < table_->holes) column.hole[hole] = RangeOf(1 + hole, key);
    }
    return column;
  }

  // The columns of an even key and the next one.
  PFM_DEVICE void ColumnsOf(int64_t even_key, Column (&column)[2]) const {
    RangesOf(0, even_key, &column[0].visible, &column[1].visible);
    for (int hole = 0; hole < kMaxHoles; ++hole) {
      column[0].hole[hole] = column[1].hole[hole] = Absent();
      if (hole < table_->holes) RangesOf(1 + hole, even_key, &column[0].hole[hole], &column[1].hole[hole]);
    }
  }

  // One thread on its own, from the bounds.
  PFM_DEVICE TileClass ByBounds(int32_t key_tile, int32_t row0, int32_t row1, bool tail) const {
    if (blocks_ != nullptr) {
      const int64_t block_row = row0 / kBlockMaskBlock;
      const int64_t block_column = static_cast<int64_t>(key_tile) * table_->tile_k / kBlockMaskBlock;
      if (ptx::LoadGlobal(blocks_ + block_row * table_->block_mask_columns + block_column) == 0) {
        return TileClass::kEmpty;
      }
    }
    TileBounds bounds;
    bounds.visible = BoundsOf(0, key_tile);
    const int32_t rows = table_->seqlen_q;
    for (int hole = 0; hole < kMaxHoles; ++hole) {
      bounds.hole[hole] = hole < table_->holes ? BoundsOf(1 + hole, key_tile) : RowRangeBounds{rows, rows, 0, 0};
    }
    return ClassifyByBounds(bounds, row0, row1, tail);
  }

  // All lanes of a warp together, from the columns: exact.
  template <int kTileK>
  PFM_DEVICE TileClass ByColumns(int32_t key_tile, int32_t row0, int32_t row1, bool tail) const {
    static_assert(kTileK % 32 == 0, "whole columns per lane");
    bool any = false;
    bool all = !tail;
#pragma unroll 1
    for (int c = 0; c < kTileK; c += 32) {
      const int64_t rows =
          ColumnOf(static_cast<int64_t>(key_tile) * kTileK + c + ptx::LaneIndex()).CountVisible(row0, row1);
      any |= rows > 0;
      all &= rows == row1 - row0;
    }
    if (ptx::Ballot(any) == 0) return TileClass::kEmpty;
    return ptx::Ballot(!all) == 0 ? TileClass::kFull : TileClass::kPartial;
  }

 private:
  PFM_DEVICE RowRange Absent() const { return {table_->seqlen_q, 0}; }

  PFM_DEVICE RowRange RangeOf(int range, int64_t key) const {
    const int32_t* begin = columns_ + 2 * range * table_->padded_keys + key;
    return {ptx::LoadGlobal(begin), ptx::LoadGlobal(begin + table_->padded_keys)};
  }

  PFM_DEVICE void RangesOf(int range, int64_t even_key, RowRange* first, RowRange* second) const {
    const int32_t* at = columns_ + 2 * range * table_->padded_keys + even_key;
    const IntPair begin = ptx::LoadGlobal(reinterpret_cast<const IntPair*>(at));
    const IntPair end = ptx::LoadGlobal(reinterpret_cast<const IntPair*>(at + table_->padded_keys));
    *first = {begin.first, end.first};
    *second = {begin.second, end.second};
  }

  PFM_DEVICE RowRangeBounds BoundsOf(int range, int32_t key_tile) const {
    const int64_t stride = table_->key_tiles;
    const int32_t* at = bounds_ + 4 * range * stride + key_tile;
    return {ptx::LoadGlobal(at), ptx::LoadGlobal(at + stride), ptx::LoadGlobal(at + 2 * stride),
            ptx::LoadGlobal(at + 3 * stride)};
  }

  const MaskTable* table_;
  const int32_t* columns_;
  const int32_t* bounds_;
  const int32_t* blocks_;
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_MASK_TABLE_H_
