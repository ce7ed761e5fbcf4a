// Epilogue of the sm90 backward: stores dkey and dvalue.
#ifndef PFM_CUDA_SM90_BACKWARD_GRADIENTS_H_
#define PFM_CUDA_SM90_BACKWARD_GRADIENTS_H_

#include <cstdint>

#include "backward_producer.h"
#include "wgmma_tiles.h"

namespace pfm::cuda::sm90 {

// Stores the columns of dkey and dvalue that a warpgroup has summed for 64 keys of the key tile.
template <class T, int kRow>
struct BackwardGradients {
  static constexpr BackwardTile kTile = kBackward[kRow];
  using Shared = BackwardShared<kRow>;

  int warpgroup;
  int first_key;  // of the key tile
  int row;        // first row of this thread, in the key tile

  // dkey_column, dvalue_column: first column of the sums.
  template <int kDkeySums, int kDvalueSums>
  PFM_DEVICE void Finish(const TmaBackwardArguments& arguments, const Shared& shared, int dkey_column,
                         float (&dkey)[kDkeySums], int dvalue_column, float (&dvalue)[kDvalueSums]) const {
    const BackwardArguments& common = arguments.common;
    const BackwardBlock block(common, shared.block_index());
    if (common.splits > 1) {
      StoreParts(common, block, common.dkey_parts, dkey_column, dkey);
      StoreParts(common, block, common.dvalue_parts, dvalue_column, dvalue);
      return;
    }
    ptx::NamedBarrierSync(kConsumersBarrier, kConsumerThreads);  // nobody reads key and value any more
    if (common.params.dvalue.data != nullptr) {
      Store(arguments.dvalue, block, shared.value().Block(dvalue_column / kBlockColumns), dvalue_column, dvalue);
    }
    if (common.params.dkey.data != nullptr) {
      Multiply(dkey, common.params.softmax_scale);
      Store(arguments.dkey, block, shared.key().Block(dkey_column / kBlockColumns), dkey_column, dkey);
    }
    if (ptx::ThreadIndex() % kWarpgroupThreads == 0) ptx::BulkWaitRead<0>();
  }

 private:
  // Stores float32 parts for SumParts.
  template <int kSums>
  PFM_DEVICE void StoreParts(const BackwardArguments& common, const BackwardBlock& block, float* parts, int column,
                             const float (&sums)[kSums]) const {
    const int64_t heads = common.params.batch * common.params.heads_kv;
    const int64_t head = block.split * heads + block.batch * common.params.heads_kv + block.kv_head;
    const int64_t key = head * common.mask.padded_keys + block.key_tile * kTile.tile_k + row;
    float* to = parts + key * kTile.head_dim + column + ptx::LaneIndex() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kSums / 4; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        ptx::StoreGlobal(reinterpret_cast<FloatPair*>(to + 8 * half * kTile.head_dim + 8 * n),
                         {sums[4 * n + 2 * half], sums[4 * n + 2 * half + 1]});
      }
    }
  }

  // Stores rounded gradients by TMA, through `staging`, shared memory that is no longer needed.
  template <int kSums>
  PFM_DEVICE void Store(const ptx::TensorMap& to, const BackwardBlock& block, ptx::SharedAddress staging, int column,
                        const float (&sums)[kSums]) const {
    constexpr int kColumns = 2 * kSums;
    const SmemTile<kTile.tile_k, kColumns> tile = {staging};
    uint32_t rounded[kColumns / kDepth][4];
#pragma unroll
    for (int step = 0; step < kColumns / kDepth; ++step) Round<T>(sums, step, rounded[step]);
    StoreRounded(rounded, tile, row);
    ptx::FenceProxyAsync();
    ptx::NamedBarrierSync(kWarpgroupBarrier + warpgroup, kWarpgroupThreads);
    if (ptx::ThreadIndex() % kWarpgroupThreads != 0) return;
    const int key0 = block.key_tile * kTile.tile_k + first_key;
    for (int part = 0; part < kColumns / kBlockColumns; ++part) {
      const int at[4] = {column + part * kBlockColumns, key0, block.kv_head, block.batch};
      ptx::TmaStore(to, at, tile.Block(part) + first_key * kRowBytes);
    }
    ptx::BulkCommit();
  }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_GRADIENTS_H_
