// The mask as the kernels read it: normal-form columns, bounds per key tile, and the order of the query blocks.
#ifndef PFM_CPU_MASK_PLAN_H_
#define PFM_CPU_MASK_PLAN_H_

#include <cstdint>

#include "../core/tiles.h"
#include "../flashmask.h"
#include "arena.h"
#include "tile_kernels.h"

namespace pfm::cpu {

// Query tiles that traverse the key tiles together, which halves the memory traffic of keys and values. At head_dim
// 128 their queries and outputs, with one key and one value tile, take 256 KiB and stay in L2.
constexpr int kBlockTiles = 2;

class MaskPlan {
 public:
  MaskPlan(const pfm_params& params, Arena* arena);

  // Computes columns, bounds and order from params.startend_row_indices.
  void Build(int threads);

  int64_t query_tiles() const { return query_tiles_; }
  int64_t query_blocks() const { return query_blocks_; }
  int64_t key_tiles() const { return key_tiles_; }

  // The mask that query head `head` of `batch` uses.
  int64_t MaskOf(int64_t batch, int64_t head) const;

  // The rank-th longest block of kBlockTiles query tiles of a mask.
  int64_t QueryBlock(int64_t mask, int64_t rank) const { return order_[mask * query_blocks_ + rank]; }

  // Computes the visible part of a tile. Returns false if there is none.
  bool Shape(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile, TileShape* shape) const;

  void ApplyMask(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile, const TileShape& shape,
                 float* scores) const;

  // The normal form of a key's column.
  Column ColumnOf(int64_t mask, int64_t key) const;

  // Whether block_mask hides all pairs of a tile.
  bool BlockHidden(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile) const;

  // 0 for visible and -inf for hidden pairs inside the shape's bounding box, as a score tile.
  void Visibility(int64_t batch, int64_t head, int64_t query_tile, int64_t key_tile, const TileShape& shape,
                  float* visibility) const;

  // Query tiles outside [*begin, *end) see nothing of the key tile.
  void LiveQueryTiles(int64_t mask, int64_t key_tile, int64_t* begin, int64_t* end) const;

  int Rows(int64_t query_tile) const;
  int Keys(int64_t key_tile) const;

 private:
  void BuildKeyTile(int64_t mask, int64_t key_tile);
  void BuildWindowTile(int64_t key_tile);
  ColumnArrays Columns(int64_t mask) const;
  const int32_t* StartEnd(int64_t mask) const;

  const pfm_params& params_;
  MaskRules rules_;
  int64_t masks_;  // distinct masks: B * Hm, or one without indices
  int64_t query_tiles_, query_blocks_, key_tiles_, padded_keys_;
  int32_t* bound_[2 + 2 * kMaxHoles];  // visible begin, end, then begin, end of each hole; [mask][padded key]
  TileBounds* tile_bounds_;            // [mask][key tile]
  int32_t* order_;                     // [mask][query block]
  int32_t* work_;                      // [mask][query block + 1]
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_MASK_PLAN_H_
