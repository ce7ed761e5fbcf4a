// C ABI of the paddle_flashmask kernels (CPU and CUDA): plain-old-data parameters, status codes, no framework.
//
// Conventions, the same in every language of the project:
//   B batch, Sq/Sk query/key length, Hq/Hkv/Hm query/key-value/mask heads, D/Dv head dims of query-key / value.
//   A mask is two half-open intervals of masked query rows per key; all visibility rules below are ANDed.
// No function allocates, throws or aborts, and every function may be called from several threads at once. The only
// state is the last error message of each thread and the choices of the two setters below.
#ifndef PFM_FLASHMASK_H_
#define PFM_FLASHMASK_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PFM_EXPORT __attribute__((visibility("default")))
#else
#define PFM_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define PFM_ABI_VERSION 1

typedef enum pfm_status {
  PFM_OK = 0,
  PFM_INVALID_ARGUMENT = 1,  // a value, shape, stride or pointer that no build accepts
  PFM_UNSUPPORTED = 2,       // valid, but not on this device or in this build
  PFM_WORKSPACE_TOO_SMALL = 3,
  PFM_DEVICE_ERROR = 4,  // a kernel launch failed
} pfm_status;

typedef enum pfm_device { PFM_CPU = 0, PFM_CUDA = 1 } pfm_device;
typedef enum pfm_dtype { PFM_FLOAT32 = 0, PFM_BFLOAT16 = 1, PFM_FLOAT16 = 2 } pfm_dtype;

// One [B, S, H, D] tensor. Strides count elements; the last dimension is contiguous.
typedef struct pfm_tensor {
  void* data;
  int64_t stride_batch, stride_seq, stride_head;
} pfm_tensor;

typedef struct pfm_params {
  uint32_t struct_size;  // sizeof(pfm_params) of the caller
  uint32_t version;      // PFM_ABI_VERSION of the caller
  int32_t device;        // pfm_device
  int32_t dtype;         // pfm_dtype of query, key, value, out and their gradients

  int64_t batch, seqlen_q, seqlen_k, heads_q, heads_kv, heads_mask, head_dim, head_dim_v;

  pfm_tensor query, key, value;  // [B,Sq,Hq,D] [B,Sk,Hkv,D] [B,Sk,Hkv,Dv]
  pfm_tensor out;                // [B,Sq,Hq,Dv]; forward writes it, backward reads it
  float* lse;                    // [B,Hq,Sq] contiguous, natural log; forward writes it, backward reads it

  // Visibility. Query i sees key j only if
  //   causal:        j <= i + causal_offset
  //   window_left:   j >= i + causal_offset - window_left    (-1: unbounded; applies with causal or without)
  //   window_right:  j <= i + causal_offset + window_right   (-1: unbounded)
  //   columns:       i lies in no masked interval of key j
  //   block_mask:    block (i/128, j/128) holds a non-zero value
  int32_t causal;
  int32_t deterministic;  // 1: bit-identical gradients in every run, as always on the CPU
  int64_t causal_offset;  // usually Sk - Sq (bottom-right alignment)
  int64_t window_left, window_right;

  // startend_row_indices int32 [B,Hm,Sk,n], last two dims contiguous, n in {0 (absent),1,2,4}; values are clipped
  // to [0,Sq]. causal: n=1 {LTS}, n=2 {LTS,LTE}; otherwise n=2 {LTS,UTE}, n=4 {LTS,LTE,UTS,UTE}.
  const int32_t* startend_row_indices;
  int32_t startend_bounds;  // n
  int32_t dropout_row;      // see dropout_key
  int64_t startend_stride_batch, startend_stride_head;

  const int32_t* block_mask;  // int32 [B,Hm,ceil(Sq/128),ceil(Sk/128)] or null; last two dims contiguous
  int64_t block_mask_stride_batch, block_mask_stride_head;

  const float* learnable_sink;  // float32 [Hq] or null: exp(sink_h) joins the softmax denominator

  float softmax_scale;
  float dropout;                // probability of dropping, in [0, 1)
  uint64_t seed, offset;        // the dropout stream (csrc/core/dropout.h)
  const uint64_t* seed_offset;  // two values in device memory that override seed and offset, or null

  float softcap;        // reserved: 0
  int32_t num_splits;   // reserved: 0
  int32_t num_workers;  // CPU threads or GPU multiprocessors; 0: all
  int32_t dropout_key;  // query row 0 and key 0 have the dropout pattern of row dropout_row and key dropout_key:
                        // multiples of 16, 0 unless query and key are parts of longer sequences

  void* stream;     // cudaStream_t; null on the CPU
  void* workspace;  // 64-byte aligned on CPU, 256 on CUDA; undefined on entry and exit
  size_t workspace_size;

  // Backward only. An absent gradient input (data == null) counts as zero; an absent gradient output is not computed.
  pfm_tensor dout;    // [B,Sq,Hq,Dv]
  const float* dlse;  // [B,Hq,Sq] contiguous; ignored where lse is -inf
  pfm_tensor dquery, dkey, dvalue;
  float* dsink;  // [Hq]
} pfm_params;

// Returns in `bytes` the workspace size that a call with these parameters needs. Data pointers are not read.
PFM_EXPORT int32_t pfm_forward_workspace(const pfm_params* params, size_t* bytes);
PFM_EXPORT int32_t pfm_backward_workspace(const pfm_params* params, size_t* bytes);

// Computes out and lse from query, key and value. A row that sees no key has out = 0, and lse = -inf or its sink.
PFM_EXPORT int32_t pfm_forward(const pfm_params* params);

// Computes dquery, dkey, dvalue and dsink from dout and dlse.
PFM_EXPORT int32_t pfm_backward(const pfm_params* params);

// Returns the number of threads that num_workers = 0 stands for in this process.
PFM_EXPORT int32_t pfm_default_cpu_threads(void);

// Instruction set of the CPU kernels: "avx512", "avx512_fma256" (AVX-512 with products of 256 bits, the same bits),
// "avx2" or "portable". pfm_set_cpu_isa("") selects the best one.
PFM_EXPORT const char* pfm_cpu_isa(void);
PFM_EXPORT int32_t pfm_set_cpu_isa(const char* name);

// Architectures of the CUDA kernels in this library, such as "sm_80 sm_90 compute_80"; "" without CUDA kernels.
PFM_EXPORT const char* pfm_cuda_architectures(void);

// Restricts the CUDA calls of this process to kernels for compute capabilities up to 80 or 90; 0 lifts the
// restriction. Workspace sizes depend on it. For tests and comparisons.
PFM_EXPORT int32_t pfm_set_newest_cuda_kernels(int32_t compute_capability);

// Returns 10 * major + minor compute capability of the current CUDA device, if this library has kernels for it.
PFM_EXPORT int32_t pfm_cuda_compute_capability(int32_t* compute_capability);

// Message of this thread's last call that did not return PFM_OK.
PFM_EXPORT const char* pfm_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // PFM_FLASHMASK_H_
