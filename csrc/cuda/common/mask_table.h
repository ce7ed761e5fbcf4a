// Masks of one launch in device memory: columns in normal form, their bounds per key tile, and orders of the tiles.
// Takes O(Sq + Sk) memory per mask; PrepareMask of prepare.h fills it.
#ifndef PFM_CUDA_COMMON_MASK_TABLE_H_
#define PFM_CUDA_COMMON_MASK_TABLE_H_

#include <cstdint>

#include "../../core/columns.h"
#include "../../core/tiles.h"
#include "../ptx/ptx.h"

namespace pfm::cuda {

constexpr int kBlockMaskBlock = 128;
constexpr int kGroupTiles = 32;  // key tiles of a group, one per lane

// Plain data, passed to kernels by value. Arrays store `holes` holes per column, none for those a mask cannot have.
struct MaskTable {
  int32_t* columns;  // [mask][begin, end of the visible range and of each hole][padded key]
  int32_t* bounds;   // [mask][min_begin, max_begin, min_end, max_end of the same][key tile]
  int32_t* groups;   // [mask][min_begin, max_end of the visible ranges][group of 32 key tiles], or null
  int32_t* order;    // [mask][query tile]: longest first, approximately; the same in every run; or null
  int32_t* work;     // [mask][query tile + 1]: difference array, then live key tiles per query tile

  // Live query tiles per key tile, and the key tiles ordered by them, or null.
  int32_t* key_work;   // [mask][key tile]
  int32_t* key_order;  // [mask][key tile]

  int64_t masks;  // B * Hm, or 1 without startend_row_indices
  int64_t padded_keys;
  int32_t seqlen_q, seqlen_k, query_tiles, key_tiles;
  int32_t tile_q, tile_k;
  int32_t holes;
  int32_t heads_mask, heads_per_mask;  // mask heads; query heads that share one

  const int32_t* block_mask;  // or null
  int64_t block_mask_stride_batch, block_mask_stride_head;
  int32_t block_mask_columns;

  PFM_HOST_DEVICE int32_t key_groups() const { return CeilDiv(key_tiles, kGroupTiles); }

  PFM_HOST_DEVICE int64_t MaskOf(int64_t batch, int32_t head) const {
    return masks == 1 ? 0 : batch * heads_mask + head / heads_per_mask;
  }
};

// Mask of one (batch, query head).
class HeadMask {
 public:
  PFM_DEVICE HeadMask(const MaskTable& table, int32_t batch, int32_t head)
      : HeadMask(table, IndexOf(table, batch, head)) {}

  // From the result of IndexOf, which fits one register.
  PFM_DEVICE HeadMask(const MaskTable& table, int32_t index) : table_(&table), batch_mask_head_(index) {}

  PFM_DEVICE static int32_t IndexOf(const MaskTable& table, int32_t batch, int32_t head) {
    return batch * table.heads_mask + head / table.heads_per_mask;
  }

  PFM_DEVICE const MaskTable& table() const { return *table_; }

  // Class of a tile by the bounds of its columns. Computed by one thread.
  PFM_DEVICE TileClass ByBounds(int32_t key_tile, int32_t row0, int32_t row1, bool tail) const {
    if (table_->block_mask != nullptr && !BlockIsVisible(row0, key_tile)) return TileClass::kEmpty;
    TileBounds bounds;
    bounds.visible = BoundsOf(0, key_tile);
    const int32_t rows = table_->seqlen_q;
    for (int hole = 0; hole < kMaxHoles; ++hole) {
      bounds.hole[hole] = hole < table_->holes ? BoundsOf(1 + hole, key_tile) : RowRangeBounds{rows, rows, 0, 0};
    }
    return ClassifyByBounds(bounds, row0, row1, tail);
  }

  // Whether no row of [row0, row1) sees a key of the group, by its bounds.
  PFM_DEVICE bool GroupIsEmpty(int32_t group, int32_t row0, int32_t row1) const {
    const int32_t* at = table_->groups + Mask() * 2 * table_->key_groups() + group;
    return row1 <= ptx::LoadGlobal(at) || ptx::LoadGlobal(at + table_->key_groups()) <= row0;
  }

  // Row begins or ends of one range (visible, hole 0, hole 1) for the keys of a tile, in ascending order.
  PFM_DEVICE const int32_t* ColumnArray(int array, int32_t key_tile) const {
    const int64_t arrays = 2 * (1 + table_->holes);
    return table_->columns + (Mask() * arrays + array) * table_->padded_keys +
           static_cast<int64_t>(key_tile) * table_->tile_k;
  }

  // Range 0 is the visible range; the holes of the table follow.
  PFM_DEVICE RowRangeBounds BoundsOf(int range, int32_t key_tile) const {
    const int64_t stride = table_->key_tiles;
    const int32_t* at = table_->bounds + (Mask() * (1 + table_->holes) + range) * 4 * stride + key_tile;
    return {ptx::LoadGlobal(at), ptx::LoadGlobal(at + stride), ptx::LoadGlobal(at + 2 * stride),
            ptx::LoadGlobal(at + 3 * stride)};
  }

 private:
  PFM_DEVICE int64_t Mask() const { return table_->masks == 1 ? 0 : batch_mask_head_; }

  PFM_DEVICE bool BlockIsVisible(int32_t row0, int32_t key_tile) const {
    const int64_t head = batch_mask_head_ / table_->heads_mask * table_->block_mask_stride_batch +
                         batch_mask_head_ % table_->heads_mask * table_->block_mask_stride_head;
    const int64_t block_row = row0 / kBlockMaskBlock;
    const int64_t block_column = static_cast<int64_t>(key_tile) * table_->tile_k / kBlockMaskBlock;
    return ptx::LoadGlobal(table_->block_mask + head + block_row * table_->block_mask_columns + block_column) != 0;
  }

  const MaskTable* table_;
  int32_t batch_mask_head_;  // batch and head as one number: registers are scarce in the kernels
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_MASK_TABLE_H_
