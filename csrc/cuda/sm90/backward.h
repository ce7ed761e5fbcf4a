// dkey, dvalue and sums of dquery for compute capability 9.0. A block owns a key tile and iterates over the live
// query tiles of every query head of its group. One producer warp finds them and loads query and dout by TMA; two
// consumer warpgroups compute. Scores are computed transposed, keys as rows, so that a thread masks two columns of
// its own. For a deterministic dquery, two more producer warps order the additions (dquery_order.h).
#ifndef PFM_CUDA_SM90_BACKWARD_H_
#define PFM_CUDA_SM90_BACKWARD_H_

#include <type_traits>

#include "backward_own_keys.h"
#include "backward_producer.h"
#include "backward_share_keys.h"
#include "dquery_order.h"

namespace pfm::cuda::sm90 {

template <class T, int kRow, DquerySums kDquerySums>
struct BackwardKernel {
  static constexpr BackwardTile kTile = kBackward[kRow];
  using Shared = BackwardShared<kRow>;
  using Consumer = std::conditional_t<kTile.shares_keys, ShareKeysConsumer<T, kRow, kDquerySums>,
                                      OwnKeysConsumer<T, kRow, kDquerySums>>;
  static constexpr bool kInTurn = kDquerySums == DquerySums::kInTurn;

  PFM_DEVICE static void InitBarriers(const Shared& shared) {
    ptx::MbarrierInit(shared.keys_full(), 1);
    constexpr int kConsumerWarps = kConsumerThreads / kWarpThreads;
    shared.stages().Init(1, kInTurn ? 1 : kConsumerWarps);
    for (int stage = 0; kInTurn && stage < kTile.stages; ++stage) {
      ptx::MbarrierInit(shared.turns() + stage * kMBarrierBytes, 1);
      ptx::MbarrierInit(shared.added() + stage * kMBarrierBytes, kConsumerWarps);
    }
    ptx::FenceMbarrierInit();
  }

  PFM_DEVICE static void Run(const TmaBackwardArguments& arguments) {
    const Shared shared;
    if (ptx::ThreadIndex() == 0) {
      InitBarriers(shared);
      // A ticket, so that a block waits only for blocks that have started, whatever the order of dispatch.
      const int32_t index = kInTurn ? ptx::AtomicAdd(arguments.common.ticket, 1) : ptx::BlockIndex();
      ptx::StoreShared(shared.block_index_at(), index);
    }
    ptx::SyncThreads();
    // Every branch computes the index again: kept across all of them, it would be spilled.
    if (WarpIndex() < kWarpgroupWarps) {
      ptx::SetMaxRegistersDown<kTile.producer_registers>();
      const int warp = WarpIndex();
      if (warp == 0) {
        BackwardProducer<kRow, kDquerySums>::Run(arguments, BackwardBlock(arguments.common, shared.block_index()),
                                                 shared);
      } else if (kInTurn && warp == 1) {
        DqueryOrder<kRow>::Await(arguments.common, shared);
      } else if (kInTurn && warp == 2) {
        DqueryOrder<kRow>::Pass(arguments.common, shared);
      }
    } else {
      ptx::SetMaxRegistersUp<kTile.consumer_registers>();
      Consumer::Run(arguments, shared, WarpIndex() / kWarpgroupWarps - 1);
    }
  }
};

template <class T, int kRow, DquerySums kDquerySums>
PFM_KERNEL_BOUNDS((kBackward[kRow].threads()), 1)
void Backward(PFM_KERNEL_ARGUMENT TmaBackwardArguments arguments) {
  BackwardKernel<T, kRow, kDquerySums>::Run(arguments);
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_H_
