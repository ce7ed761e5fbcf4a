// dkey, dvalue and, by atomics, dquery for compute capability 9.0: a block owns a key tile and walks the live query
// tiles of every query head of its group. A producer warp finds them and has query and dout copied; two consumer
// warpgroups compute. Scores are computed transposed, keys as rows, so that a thread masks two columns of its own.
#ifndef PFM_CUDA_SM90_BACKWARD_H_
#define PFM_CUDA_SM90_BACKWARD_H_

#include <type_traits>

#include "backward_own_keys.h"
#include "backward_producer.h"
#include "backward_share_keys.h"

namespace pfm::cuda::sm90 {

template <class T, int kRow, bool kAddsQuery>
struct BackwardKernel {
  static constexpr BackwardTile kTile = kBackward[kRow];
  using Shared = BackwardShared<kRow>;
  using Consumer = std::conditional_t<kTile.shares_keys, ShareKeysConsumer<T, kRow, kAddsQuery>,
                                      OwnKeysConsumer<T, kRow, kAddsQuery>>;

  PFM_DEVICE static void InitBarriers(const Shared& shared) {
    ptx::InitBarrier(shared.keys_full(), 1);
    shared.stages().Init(1, kConsumerThreads / kWarpThreads);
    ptx::FenceBarrierInit();
  }

  PFM_DEVICE static void Run(const BackwardArguments& arguments) {
    const Shared shared;
    if (ptx::ThreadIndex() == 0) InitBarriers(shared);
    ptx::SyncThreads();
    const int warp = ptx::Shuffle(ptx::ThreadIndex() / 32,
                                  0);  // the compiler sees that it is the same for all lanes
    if (warp < kWarpgroupWarps) {
      ptx::DecreaseRegisters<kTile.producer_registers>();
      if (warp == 0) BackwardProducer<kRow>::Run(arguments, BackwardBlock(arguments.rows), shared);
    } else {
      ptx::IncreaseRegisters<kTile.consumer_registers>();
      Consumer::Run(arguments, shared, warp / kWarpgroupWarps - 1);
    }
  }
};

template <class T, int kRow, bool kAddsQuery>
PFM_KERNEL_BOUNDS((kBackward[kRow].threads()), 1)
void Backward(PFM_KERNEL_ARGUMENT BackwardArguments arguments) {
  BackwardKernel<T, kRow, kAddsQuery>::Run(arguments);
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_H_
