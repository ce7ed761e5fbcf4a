// Online softmax (Milakov and Gimelshein, 2018) on wgmma accumulators: a lane holds two rows, and of each row columns
// 8 j + 2 (lane % 4) and 8 j + 2 (lane % 4) + 1.
#ifndef PFM_CUDA_SM90_SOFTMAX_H_
#define PFM_CUDA_SM90_SOFTMAX_H_

#include <cstdint>

#include "../common/score_scale.h"
#include "../ptx/sm90.h"

namespace pfm::cuda::sm90 {

// Accumulator index of element k in row `half` of a lane.
PFM_DEVICE constexpr int SumIndex(int half, int k) { return k / 2 * 4 + 2 * half + k % 2; }

// Running maximum and sum of the two rows of a lane, in units of log2.
struct RowPair {
  float max[2];
  float sum[2];  // over this lane's columns only, until SumLanes

  // A sink counts as a score before the first key of every row.
  PFM_DEVICE void Start(const float* sink) {
    const float start = sink == nullptr ? -ptx::Infinity() : ptx::LoadGlobal(sink) * kLog2E;
    const bool counts = start != -ptx::Infinity() && ptx::LaneIndex() % 4 == 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      max[half] = start;
      sum[half] = counts ? 1.0f : 0.0f;
    }
  }

  // Replaces scores by probabilities relative to the new maximum. rescale: factors for the output so far.
  template <int kSums>
  PFM_DEVICE void Update(float scale, float (&scores)[kSums], float (&rescale)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = scores[SumIndex(half, 0)];
#pragma unroll
      for (int k = 1; k < kSums / 2; ++k) largest = ptx::Maximum(largest, scores[SumIndex(half, k)]);
      largest = ptx::Maximum(largest, ptx::ShuffleXor(largest, 1));
      largest = ptx::Maximum(max[half], ptx::Maximum(largest, ptx::ShuffleXor(largest, 2)) * scale);
      const float shift = largest == -ptx::Infinity() ? 0.0f : largest;  // exp2(-inf - 0) = 0
      rescale[half] = ptx::Exp2(max[half] - shift);
      max[half] = largest;
      float total = sum[half] * rescale[half];
#pragma unroll
      for (int k = 0; k < kSums / 2; ++k) {
        float& score = scores[SumIndex(half, k)];
        score = ptx::Exp2(score * scale - shift);
        total += score;
      }
      sum[half] = total;
    }
  }

  PFM_DEVICE void SumLanes() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      sum[half] += ptx::ShuffleXor(sum[half], 1);
      sum[half] += ptx::ShuffleXor(sum[half], 2);
    }
  }

  // After SumLanes. A row without a visible key has a sum of zero.
  PFM_DEVICE float OutputScale(int half) const { return sum[half] == 0.0f ? 0.0f : 1.0f / sum[half]; }
  PFM_DEVICE float LogSumExp(int half) const {
    return sum[half] == 0.0f ? -ptx::Infinity() : (max[half] + ptx::Log2(sum[half])) * kLn2;
  }
};

template <int kSums>
PFM_DEVICE inline void ScaleRows(float (&sums)[kSums], const float (&scale)[2]) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) sums[i] *= scale[i / 2 % 2];
}

// Masks scores: bit k of words[half] is set if element k of that row is visible.
template <int kSums>
PFM_DEVICE inline void Hide(const uint32_t (&words)[2], float (&scores)[kSums]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int k = 0; k < kSums / 2; ++k) {
      if ((words[half] & 1u << k) == 0) scores[SumIndex(half, k)] = -ptx::Infinity();
    }
  }
}

// Rounds accumulators to the A operand of the next wgmma: 16 columns to four registers, in accumulator layout.
template <class T, int kSums>
PFM_DEVICE inline void PackOperand(const float (&sums)[kSums], uint32_t (&operand)[kSums / 8][4]) {
#pragma unroll
  for (int i = 0; i < kSums; i += 2) operand[i / 8][i / 2 % 4] = ptx::Pack<T>(sums[i], sums[i + 1]);
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_SOFTMAX_H_
