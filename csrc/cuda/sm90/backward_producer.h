// Producer warp of the sm90 backward: finds the live tiles of a block and loads them.
#ifndef PFM_CUDA_SM90_BACKWARD_PRODUCER_H_
#define PFM_CUDA_SM90_BACKWARD_PRODUCER_H_

#include <cstdint>

#include "../backward/backward_block.h"
#include "backward_arguments.h"
#include "backward_mask.h"
#include "backward_shared.h"

namespace pfm::cuda::sm90 {

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
