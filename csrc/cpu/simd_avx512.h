// Sixteen float lanes of AVX-512 F, BW, DQ and VL, with the operations of gemm.h, softmax.h and row_products.h.
#ifndef PFM_CPU_SIMD_AVX512_H_
#define PFM_CPU_SIMD_AVX512_H_

// GCC 12 warns about the undefined operand in its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

namespace pfm::cpu {

struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr int kSums = 16;  // of row_products.h, which holds two vectors beside them

  // 13 x 32 micro tile: 26 accumulators, 2 vectors and 1 broadcast of 32 registers. Both load ports are busy for 7.5
  // of its 13 clocks per element of depth; a tile of 16 columns would keep them busy all the time.
  static constexpr int kRows = 13, kPanels = 2;

  using Float = __m512;
  using Mask = __mmask16;

  static Float Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Float v) { _mm512_storeu_ps(p, v); }
  static Float Set(float v) { return _mm512_set1_ps(v); }
  static Float Add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float Sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float Mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float Fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float MulSub(Float a, Float b, Float c) { return _mm512_fmsub_ps(a, b, c); }
  // A NaN in b is returned.
  static Float Max(Float a, Float b) { return _mm512_max_ps(a, b); }

  // As ExpByPolynomial, with 2^(i/16) from a table and the Taylor polynomial of 2^part on [-1/32, 1/32]. scalef
  // applies the integer part of the exponent.
  static Float Exp(Float x) {
    const Float log2e = Set(1.44269504f);
    const Float shift = Set(786432.0f);  // 1.5 * 2^19: the last bit of a sum with it is 1/16
    const Float shifted = Fma(x, log2e, shift);
    const Float sixteenths = Sub(shifted, shift);
    const Float part = MulSub(x, log2e, sixteenths);
    const Float powers = _mm512_setr_ps(1.0f, 1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f,
                                        1.29683959f, 1.35425556f, 1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f,
                                        1.68179286f, 1.75625217f, 1.8340081f, 1.91520655f);
    const Float power = _mm512_permutexvar_ps(_mm512_castps_si512(shifted), powers);
    const Float slope = Fma(Fma(Set(5.5504109e-2f), part, Set(2.4022651e-1f)), part, Set(6.9314718e-1f));
    const Mask counts = _mm512_cmp_ps_mask(x, Set(-88.0f), _CMP_NLE_UQ);  // not <=: true for NaN, which is kept
    return _mm512_maskz_scalef_ps(counts, Fma(Mul(slope, part), power, power), sixteenths);
  }

  static float ReduceMax(Float v) { return _mm512_reduce_max_ps(v); }
  static float ReduceAdd(Float v) { return _mm512_reduce_add_ps(v); }

  // Stores the sums over lanes of sixteen vectors, kRun in a row. Each step adds the halves of what is left of two
  // vectors and joins them in one, so that every sum has the same order of additions: 2.8 operations per sum.
  template <int kRun>
  static void StoreSums(float* to, int64_t stride, const Float* v) {
    Float eight[8], four[4], two[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) eight[i] = JoinHalves(v[i], v[i + 8]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) four[i] = JoinQuarters(eight[i], eight[i + 4]);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) two[i] = JoinPairs(four[i], four[i + 2]);
    const Float sums = JoinSingles(two[0], two[1]);
    if constexpr (kRun == 16) {
      Store(to, sums);
    } else if constexpr (kRun == 8) {
      _mm256_storeu_ps(to, _mm512_castps512_ps256(sums));
      _mm256_storeu_ps(to + stride, _mm512_extractf32x8_ps(sums, 1));
    } else {
      const __m128 blocks[4] = {_mm512_castps512_ps128(sums), _mm512_extractf32x4_ps(sums, 1),
                                _mm512_extractf32x4_ps(sums, 2), _mm512_extractf32x4_ps(sums, 3)};
#pragma GCC unroll 4
      for (const __m128 block : blocks) {
        if constexpr (kRun == 4) {
          _mm_storeu_ps(to, block);
        } else {
          static_assert(kRun == 2);
          _mm_storel_pi(reinterpret_cast<__m64*>(to), block);
          to += stride;
          _mm_storeh_pi(reinterpret_cast<__m64*>(to), block);
        }
        to += stride;
      }
    }
  }
  // Blocks of four lanes: [a0+a2, a1+a3, b2+b0, b3+b1]
  static Float JoinHalves(Float a, Float b) {
    return Add(_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
  }
  // Blocks of four lanes: [a0+a1, b1+b0, a2+a3, b3+b2]
  static Float JoinQuarters(Float a, Float b) {
    const __m512i other = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
    return Add(_mm512_mask_blend_ps(0xf0f0, a, b), _mm512_permutex2var_ps(a, other, b));
  }
  // Pairs of lanes, in every block: [a0+a1, b1+b0]
  static Float JoinPairs(Float a, Float b) {
    const __m512d other = _mm512_shuffle_pd(_mm512_castps_pd(a), _mm512_castps_pd(b), 0x55);
    return Add(_mm512_mask_blend_ps(0xcccc, a, b), _mm512_castpd_ps(other));
  }
  // Lanes, in every pair: [a0+a1, b1+b0]
  static Float JoinSingles(Float a, Float b) {
    const __m512i other = _mm512_setr_epi32(1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30);
    return Add(_mm512_mask_blend_ps(0xaaaa, a, b), _mm512_permutex2var_ps(a, other, b));
  }

  static Float LoadBfloat16(const uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static Float LoadFloat16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }

  static void StoreBfloat16(uint16_t* p, Float v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i biased = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_set1_epi32(0x400000);
    const __m512i rounded = _mm512_mask_or_epi32(biased, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits, quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
  static void StoreFloat16(uint16_t* p, Float v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }

  // begin[lane] <= row < end[lane]
  static Mask InRange(const int32_t* begin, const int32_t* end, int32_t row) {
    const __m512i r = _mm512_set1_epi32(row);
    const Mask begun = _mm512_cmple_epi32_mask(_mm512_loadu_si512(begin), r);
    return _mm512_mask_cmpgt_epi32_mask(begun, _mm512_loadu_si512(end), r);
  }
  static Mask AndNot(Mask not_this, Mask this_one) { return static_cast<Mask>(~not_this & this_one); }
  static Mask Equal(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  static Float Select(Mask m, Float yes, Float no) { return _mm512_mask_blend_ps(m, no, yes); }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_SIMD_AVX512_H_
