// Producer warp of the sm90 backward: finds the live tiles of a block and loads them.
#ifndef PFM_CUDA_SM90_BACKWARD_PRODUCER_H_
#define PFM_CUDA_SM90_BACKWARD_PRODUCER_H_

#include <cstdint>

#include "backward_arguments.h"
#include "backward_mask.h"
#include "backward_shared.h"

namespace pfm::cuda::sm90 {

// Keys and query heads (from first_head on) of a block. Longest first: key tiles seen by many query tiles, by the
// mask of the first head.
struct BackwardBlock {
  int32_t batch, kv_head, first_head, key_tile, split, rank;

  // index: place in the order of work.
  PFM_DEVICE BackwardBlock(const BackwardArguments& arguments, int32_t index) {
    const HeadGroups::Item item = arguments.groups.At(index, arguments.mask.key_tiles);
    const int32_t kv_heads = static_cast<int32_t>(arguments.params.heads_kv);
    batch = item.head / arguments.splits / kv_heads;
    kv_head = item.head / arguments.splits % kv_heads;
    split = item.head % arguments.splits;
    first_head = (kv_head * arguments.splits + split) * arguments.heads_per_split();
    rank = item.rank;
    key_tile = KeyTileOf(arguments.mask, rank);
  }

  PFM_DEVICE int32_t KeyTileOf(const MaskTable& mask, int32_t of_rank) const {
    return ptx::LoadGlobal(mask.key_order + mask.MaskOf(batch, first_head) * mask.key_tiles + of_rank);
  }
};

template <int kRow, DquerySums kDquerySums>
struct BackwardProducer {
  using Shared = BackwardShared<kRow>;
  static constexpr int kTileQ = kBackward[kRow].tile_q, kTileK = kBackward[kRow].tile_k;
  static constexpr int kStageBytes = Shared::QueryTile::kBytes + Shared::DoutTile::kBytes + 2 * Shared::kNumbersBytes;

  PFM_DEVICE static void CopyKeys(const TmaBackwardArguments& arguments, const BackwardBlock& block,
                                  const Shared& shared) {
    ptx::MbarrierArriveExpectBytes(shared.keys_full(), Shared::KeyTile::kBytes + Shared::ValueTile::kBytes);
    const int key0 = block.key_tile * kTileK;
    shared.key().Load(arguments.key, 0, key0, block.kv_head, block.batch, shared.keys_full());
    shared.value().Load(arguments.value, 0, key0, block.kv_head, block.batch, shared.keys_full());
  }

  PFM_DEVICE static void CopyQueries(const TmaBackwardArguments& arguments, const BackwardBlock& block,
                                     const Shared& shared, const LiveTile& tile, int stage, ptx::SharedAddress full) {
    ptx::MbarrierArriveExpectBytes(full, kStageBytes);
    const int row0 = tile.index * kTileQ;
    shared.query(stage).Load(arguments.query, 0, row0, tile.head, block.batch, full);
    shared.dout(stage).Load(arguments.dout, 0, row0 + arguments.dout_row, tile.head, block.batch, full);
    const BackwardArguments& common = arguments.common;
    const int64_t row = int64_t{16} * tile.row_block;
    ptx::BulkLoad(shared.lse(stage), common.lse + row, Shared::kNumbersBytes, full);
    ptx::BulkLoad(shared.delta(stage), common.delta + row, Shared::kNumbersBytes, full);
  }

  PFM_DEVICE static void Run(const TmaBackwardArguments& arguments, const BackwardBlock& block,
                             const Shared& shared) {
    const bool copies = ptx::ElectOne();
    if (copies) CopyKeys(arguments, block, shared);
    LiveTiles<kDquerySums, kRow> tiles(arguments.common, shared, block.batch, block.first_head, block.key_tile);
    typename Shared::Stages stages = shared.stages();
    bool exists;
    do {
      if constexpr (kBackward[kRow].bit_tiles == kBackward[kRow].stages) stages.WaitEmpty();
      exists = tiles.Next(stages.position() % kBackward[kRow].bit_tiles);
      stages.WaitEmpty();
      ptx::SyncWarp();  // the bits of the tile are there
      if (copies) {
        const LiveTile tile = exists ? tiles.Tile() : LiveTile{-1, 0, 0, 0};
        ptx::StoreShared(shared.tile(stages.stage()), tile);
        if (exists) {
          CopyQueries(arguments, block, shared, tile, stages.stage(), stages.full());
        } else {
          ptx::MbarrierArrive(stages.full());
        }
      }
      stages.Advance();
    } while (exists);
  }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_PRODUCER_H_
