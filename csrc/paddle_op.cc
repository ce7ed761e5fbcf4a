// The Paddle operator: translates Paddle tensors to pfm_params. This is the only file that includes Paddle.
#include <cstdint>
#include <string>
#include <vector>

#include "core/float16.h"
#include "flashmask.h"
#include "paddle/common/enforce.h"
#include "paddle/phi/api/all.h"
#include "workspace_buffer.h"

// paddle::Tensor::stream() const, the CUDA stream on which Paddle runs this tensor's operators. The symbol is weak
// because CPU builds of Paddle may lack it.
extern "C" void* pfm_tensor_stream(const paddle::Tensor* tensor) __asm__("_ZNK6paddle6Tensor6streamEv")
    __attribute__((weak));

namespace {

using paddle::Tensor;
using OptionalTensor = paddle::optional<Tensor>;
using Shape = std::vector<int64_t>;
using OptionalShape = paddle::optional<Shape>;
using Dtype = paddle::DataType;
using OptionalDtype = paddle::optional<Dtype>;

struct Options {
  float softmax_scale;
  bool causal;
  int64_t window_left;
  int64_t window_right;
  float dropout;
  bool deterministic;
  int64_t dropout_row;
  int64_t dropout_key;
};

struct Inputs {
  const Tensor& query;
  const Tensor& key;
  const Tensor& value;
  const Tensor* learnable_sink;  // float32; null: none
  const OptionalTensor& startend_row_indices;
  const OptionalTensor& block_mask;
  const OptionalTensor& seed_offset;
};

// Raises a ValueError in dynamic and static graphs. (The exception of PD_CHECK ends the process in a static graph.)
template <typename... Parts>
void Check(bool condition, const Parts&... message) {
  if (condition) return;
  const std::string text = ::common::ErrorMessage("paddle_flashmask_attention: ", message...).to_string();
  PADDLE_THROW(::common::errors::InvalidArgument("%s", text));
}

int32_t DtypeCode(Dtype dtype) {
  switch (dtype) {
    case Dtype::FLOAT32:
      return PFM_FLOAT32;
    case Dtype::BFLOAT16:
      return PFM_BFLOAT16;
    case Dtype::FLOAT16:
      return PFM_FLOAT16;
    default:
      Check(false, "dtype is ", dtype, ", expected float32, bfloat16 or float16");
      return PFM_FLOAT32;
  }
}

// Paddle passes only contiguous tensors to an operator.
pfm_tensor Describe(const Tensor& tensor) {
  const Shape shape = tensor.shape();
  const int64_t stride_seq = shape[2] * shape[3];
  return {const_cast<void*>(tensor.data()), shape[1] * stride_seq, stride_seq, shape[3]};
}

void CheckRank(const char* name, const Tensor& tensor, size_t rank) {
  Check(tensor.shape().size() == rank, name, " has rank ", tensor.shape().size(), ", expected ", rank);
}

void CheckDtype(const char* name, const Tensor& tensor, Dtype dtype) {
  Check(tensor.dtype() == dtype, name, " has dtype ", tensor.dtype(), ", expected ", dtype);
}

void CheckPlace(const char* name, const Tensor& tensor, const Tensor& query) {
  Check(tensor.place() == query.place(), name, " is on ", tensor.place(), ", expected ", query.place(),
        ", the place of query");
}

void CheckShape(const char* name, const Tensor& tensor, const Shape& expected) {
  const Shape shape = tensor.shape();
  Check(shape.size() == expected.size(), name, " has rank ", shape.size(), ", expected ", expected.size());
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    Check(shape[axis] == expected[axis], "axis ", axis, " of ", name, " is ", shape[axis], ", expected ",
          expected[axis]);
  }
}

// Checks what the C ABI cannot: in a static graph, Python has not seen the shapes of this call.
pfm_params MakeParams(const Inputs& in, const Options& options) {
  // Without Paddle's stream the kernels would run on the legacy stream, unordered with Paddle's operators.
  if (!in.query.is_cpu() && !(in.query.is_gpu() && pfm_tensor_stream != nullptr)) {
    PADDLE_THROW(::common::errors::Unimplemented(
        "paddle_flashmask_attention: query is neither on a CPU nor on a GPU whose CUDA stream Paddle names"));
  }
  CheckPlace("key", in.key, in.query);
  CheckPlace("value", in.value, in.query);
  CheckRank("query", in.query, 4);
  CheckRank("key", in.key, 4);
  CheckRank("value", in.value, 4);
  CheckDtype("key", in.key, in.query.dtype());
  CheckDtype("value", in.value, in.query.dtype());
  const Shape query = in.query.shape();
  const Shape key = in.key.shape();
  CheckShape("key", in.key, {query[0], key[1], key[2], query[3]});
  CheckShape("value", in.value, {query[0], key[1], key[2], in.value.shape()[3]});

  pfm_params params = {};
  params.struct_size = sizeof(pfm_params);
  params.version = PFM_ABI_VERSION;
  params.device = in.query.is_gpu() ? PFM_CUDA : PFM_CPU;
  if (in.query.is_gpu()) params.stream = pfm_tensor_stream(&in.query);
  params.dtype = DtypeCode(in.query.dtype());
  params.batch = query[0];
  params.seqlen_q = query[1];
  params.heads_q = query[2];
  params.head_dim = query[3];
  params.seqlen_k = key[1];
  params.heads_kv = key[2];
  params.head_dim_v = in.value.shape()[3];
  params.query = Describe(in.query);
  params.key = Describe(in.key);
  params.value = Describe(in.value);
  params.causal = options.causal;
  params.causal_offset = params.seqlen_k - params.seqlen_q;
  params.window_left = options.window_left;
  params.window_right = options.window_right;
  params.deterministic = options.deterministic;
  params.softmax_scale = options.softmax_scale;
  params.dropout = options.dropout;
  params.dropout_row = static_cast<int32_t>(options.dropout_row);
  params.dropout_key = static_cast<int32_t>(options.dropout_key);

  if (in.startend_row_indices) {
    const Tensor& indices = *in.startend_row_indices;
    CheckPlace("startend_row_indices", indices, in.query);
    CheckDtype("startend_row_indices", indices, Dtype::INT32);
    CheckRank("startend_row_indices", indices, 4);
    const int64_t heads = indices.shape()[1];
    const int64_t bounds = indices.shape()[3];
    CheckShape("startend_row_indices", indices, {params.batch, heads, params.seqlen_k, bounds});
    params.heads_mask = heads;
    params.startend_row_indices = static_cast<const int32_t*>(indices.data());
    params.startend_bounds = static_cast<int32_t>(bounds);
    params.startend_stride_head = params.seqlen_k * bounds;
    params.startend_stride_batch = heads * params.startend_stride_head;
  }
  if (in.block_mask) {
    const Tensor& blocks = *in.block_mask;
    CheckPlace("block_mask", blocks, in.query);
    CheckDtype("block_mask", blocks, Dtype::INT32);
    CheckRank("block_mask", blocks, 4);
    const int64_t heads = in.startend_row_indices ? params.heads_mask : blocks.shape()[1];
    const int64_t rows = (params.seqlen_q + 127) / 128;
    const int64_t columns = (params.seqlen_k + 127) / 128;
    CheckShape("block_mask", blocks, {params.batch, heads, rows, columns});
    params.heads_mask = heads;
    params.block_mask = static_cast<const int32_t*>(blocks.data());
    params.block_mask_stride_head = rows * columns;
    params.block_mask_stride_batch = heads * params.block_mask_stride_head;
  }
  if (in.learnable_sink != nullptr) {
    CheckPlace("learnable_sink", *in.learnable_sink, in.query);
    CheckDtype("learnable_sink", *in.learnable_sink, Dtype::FLOAT32);
    CheckShape("learnable_sink", *in.learnable_sink, {params.heads_q});
    params.learnable_sink = static_cast<const float*>(in.learnable_sink->data());
  }
  if (in.seed_offset) {
    CheckPlace("seed_offset", *in.seed_offset, in.query);
    CheckDtype("seed_offset", *in.seed_offset, Dtype::INT64);
    CheckShape("seed_offset", *in.seed_offset, {2});
    params.seed_offset = static_cast<const uint64_t*>(in.seed_offset->data());
  } else {
    Check(options.dropout == 0.0f, "dropout needs seed_offset");
  }
  return params;
}

void CheckStatus(int32_t status) {
  if (status == PFM_UNSUPPORTED) {
    PADDLE_THROW(::common::errors::Unimplemented("paddle_flashmask_attention: %s", pfm_last_error()));
  }
  if (status == PFM_DEVICE_ERROR) {
    PADDLE_THROW(::common::errors::Unavailable("paddle_flashmask_attention: %s", pfm_last_error()));
  }
  Check(status == PFM_OK, pfm_last_error());
}

// Returns a sink of any floating dtype as float32, which is exact.
Tensor Widened(const Tensor& sink) {
  if (sink.dtype() == Dtype::FLOAT32) return sink;
  const bool floating = sink.dtype() == Dtype::BFLOAT16 || sink.dtype() == Dtype::FLOAT16;
  Check(floating, "learnable_sink has dtype ", sink.dtype(), ", expected float32, bfloat16 or float16");
  return paddle::experimental::cast(sink, Dtype::FLOAT32);
}

// Returns a float32 tensor in another floating dtype, rounded to nearest. Paddle's own cast to float16 on the CPU
// gives up to 1e-4 for magnitudes around 2^-80.
Tensor Rounded(const Tensor& tensor, Dtype dtype) {
  if (tensor.dtype() == dtype) return tensor;
  if (dtype != Dtype::FLOAT16 || !tensor.is_cpu()) return paddle::experimental::cast(tensor, dtype);
  Tensor rounded = paddle::empty(tensor.shape(), dtype, tensor.place());
  const float* from = static_cast<const float*>(tensor.data());
  uint16_t* to = static_cast<uint16_t*>(rounded.data());
  for (int64_t i = 0; i < tensor.numel(); ++i) to[i] = pfm::FloatToFloat16(from[i]);
  return rounded;
}

// Runs `call` with a workspace of the size that `query_size` returns. On a GPU the workspace is a Paddle tensor: its
// allocator reuses the memory only for later work of the same stream, and aligns it to 256 bytes.
void RunWithWorkspace(int32_t (*query_size)(const pfm_params*, size_t*), int32_t (*call)(const pfm_params*),
                      pfm_params params, const paddle::Place& place) {
  if (params.device == PFM_CUDA) {
    CheckStatus(query_size(&params, &params.workspace_size));
    Tensor workspace = paddle::empty({static_cast<int64_t>(params.workspace_size)}, Dtype::UINT8, place);
    params.workspace = workspace.data();
    CheckStatus(call(&params));
    return;
  }
  thread_local pfm::WorkspaceBuffer buffer;
  params.num_workers = pfm_default_cpu_threads();
  CheckStatus(query_size(&params, &params.workspace_size));
  params.workspace = buffer.AtLeast(params.workspace_size);
  PADDLE_ENFORCE_NOT_NULL(params.workspace,
                          ::common::errors::ResourceExhausted("paddle_flashmask_attention: no memory for %d bytes",
                                                              params.workspace_size));
  CheckStatus(call(&params));
}

std::vector<Tensor> RunForward(const Inputs& in, const Options& options) {
  pfm_params params = MakeParams(in, options);
  Tensor out = paddle::empty({params.batch, params.seqlen_q, params.heads_q, params.head_dim_v}, in.query.dtype(),
                             in.query.place());
  Tensor lse = paddle::empty({params.batch, params.heads_q, params.seqlen_q}, Dtype::FLOAT32, in.query.place());
  params.out = Describe(out);
  params.lse = static_cast<float*>(lse.data());
  RunWithWorkspace(pfm_forward_workspace, pfm_forward, params, in.query.place());
  return {out, lse};
}

// False for the gradient of an output that the loss does not use: it has no storage, and reading its dtype crashes.
bool HasStorage(const Tensor& tensor) { return tensor.defined() && tensor.initialized() && tensor.numel() > 0; }

// Outputs of the forward pass and their gradients.
struct ForwardResult {
  const Tensor& out;
  const Tensor& lse;
  const Tensor& dout;
  const Tensor& dlse;
};

// Returns the gradients of query, key, value and, if there is one, of the sink.
std::vector<Tensor> RunBackward(const Inputs& in, const ForwardResult& result, const Options& options) {
  pfm_params params = MakeParams(in, options);
  params.out = Describe(result.out);
  params.lse = const_cast<float*>(static_cast<const float*>(result.lse.data()));
  if (HasStorage(result.dout)) {
    CheckDtype("the gradient of out", result.dout, in.query.dtype());
    CheckShape("the gradient of out", result.dout, result.out.shape());
    params.dout = Describe(result.dout);
  }
  if (HasStorage(result.dlse)) {
    CheckDtype("the gradient of lse", result.dlse, Dtype::FLOAT32);
    CheckShape("the gradient of lse", result.dlse, result.lse.shape());
    params.dlse = static_cast<const float*>(result.dlse.data());
  }
  const auto empty_like = [](const Tensor& t) { return paddle::empty(t.shape(), t.dtype(), t.place()); };
  std::vector<Tensor> gradients = {empty_like(in.query), empty_like(in.key), empty_like(in.value)};
  params.dquery = Describe(gradients[0]);
  params.dkey = Describe(gradients[1]);
  params.dvalue = Describe(gradients[2]);
  if (in.learnable_sink != nullptr) {
    gradients.push_back(empty_like(*in.learnable_sink));
    params.dsink = static_cast<float*>(gradients[3].data());
  }
  RunWithWorkspace(pfm_backward_workspace, pfm_backward, params, in.query.place());
  return gradients;
}

// `sink` is learnable_sink or nothing.
template <typename... Sink>
std::vector<Tensor> Forward(const Tensor& query, const Tensor& key, const Tensor& value, const Sink&... sink,
                            const OptionalTensor& startend_row_indices, const OptionalTensor& block_mask,
                            const OptionalTensor& seed_offset, float softmax_scale, bool causal, int64_t window_left,
                            int64_t window_right, float dropout, bool deterministic, int64_t dropout_row,
                            int64_t dropout_key) {
  const std::vector<Tensor> sinks = {Widened(sink)...};
  return RunForward(
      {query, key, value, sinks.empty() ? nullptr : sinks.data(), startend_row_indices, block_mask, seed_offset},
      {softmax_scale, causal, window_left, window_right, dropout, deterministic, dropout_row, dropout_key});
}

template <typename... Sink>
std::vector<Tensor> Backward(const OptionalTensor& seed_offset, const OptionalTensor& block_mask,
                             const OptionalTensor& startend_row_indices, const Sink&... sink, const Tensor& value,
                             const Tensor& key, const Tensor& query, const Tensor& out, const Tensor& lse,
                             const Tensor& dout, const Tensor& dlse, float softmax_scale, bool causal,
                             int64_t window_left, int64_t window_right, float dropout, bool deterministic,
                             int64_t dropout_row, int64_t dropout_key) {
  const std::vector<Tensor> sinks = {Widened(sink)...};
  std::vector<Tensor> gradients = RunBackward(
      {query, key, value, sinks.empty() ? nullptr : sinks.data(), startend_row_indices, block_mask, seed_offset},
      {out, lse, dout, dlse},
      {softmax_scale, causal, window_left, window_right, dropout, deterministic, dropout_row, dropout_key});
  if constexpr (sizeof...(sink) != 0) gradients.back() = Rounded(gradients.back(), (sink.dtype(), ...));
  return gradients;
}

// Infers output shapes. Sizes that a static graph does not know are -1 and pass through. `Sink` is as above.
template <typename... Sink>
std::vector<Shape> InferShape(const Shape& query, const Shape&, const Shape& value, const Sink&...,
                              const OptionalShape&, const OptionalShape&, const OptionalShape&) {
  return {{query[0], query[1], query[2], value[3]}, {query[0], query[2], query[1]}};
}

template <typename... Sink>
std::vector<Dtype> InferDtype(const Dtype& query, const Dtype&, const Dtype&, const Sink&..., const OptionalDtype&,
                              const OptionalDtype&, const OptionalDtype&) {
  return {query, Dtype::FLOAT32};
}

// Gradients of query, key and value, from the inputs of Backward.
template <typename T, typename Optional>
std::vector<T> InferLikeInputs(const Optional&, const Optional&, const Optional&, const T& value, const T& key,
                               const T& query, const T&, const T&, const T&, const T&) {
  return {query, key, value};
}

std::vector<std::string> Attributes() {
  return {"softmax_scale: float", "causal: bool",        "window_left: int64_t", "window_right: int64_t",
          "dropout: float",       "deterministic: bool", "dropout_row: int64_t", "dropout_key: int64_t"};
}

}  // namespace

// There are two operators because Paddle has no gradient of an optional input in dynamic and static graphs alike.
// Differentiable inputs come first: Paddle's gradient node finds an input's metadata by the position of its gradient.
PD_BUILD_OP(paddle_flashmask_attention)
    .Inputs({"query", "key", "value", paddle::Optional("startend_row_indices"), paddle::Optional("block_mask"),
             paddle::Optional("seed_offset")})
    .Outputs({"out", "lse"})
    .Attrs(Attributes())
    .SetKernelFn(PD_KERNEL(Forward<>))
    .SetInferShapeFn(PD_INFER_SHAPE(InferShape<>))
    .SetInferDtypeFn(PD_INFER_DTYPE(InferDtype<>));

// Paddle saves the forward inputs in the reverse of the order in which the gradient operator names them. PaddleNLP's
// refined_recompute needs query, key, value and startend_row_indices first, so they are named last.
PD_BUILD_GRAD_OP(paddle_flashmask_attention)
    .Inputs({paddle::Optional("seed_offset"), paddle::Optional("block_mask"),
             paddle::Optional("startend_row_indices"), "value", "key", "query", "out", "lse", paddle::Grad("out"),
             paddle::Grad("lse")})
    .Outputs({paddle::Grad("query"), paddle::Grad("key"), paddle::Grad("value")})
    .Attrs(Attributes())
    .SetKernelFn(PD_KERNEL(Backward<>));

PD_BUILD_OP(paddle_flashmask_attention_sink)
    .Inputs({"query", "key", "value", "learnable_sink", paddle::Optional("startend_row_indices"),
             paddle::Optional("block_mask"), paddle::Optional("seed_offset")})
    .Outputs({"out", "lse"})
    .Attrs(Attributes())
    .SetKernelFn(PD_KERNEL(Forward<Tensor>))
    .SetInferShapeFn(PD_INFER_SHAPE(InferShape<Shape>))
    .SetInferDtypeFn(PD_INFER_DTYPE(InferDtype<Dtype>));

PD_BUILD_GRAD_OP(paddle_flashmask_attention_sink)
    .Inputs({paddle::Optional("seed_offset"), paddle::Optional("block_mask"),
             paddle::Optional("startend_row_indices"), "learnable_sink", "value", "key", "query", "out", "lse",
             paddle::Grad("out"), paddle::Grad("lse")})
    .Outputs({paddle::Grad("query"), paddle::Grad("key"), paddle::Grad("value"), paddle::Grad("learnable_sink")})
    .Attrs(Attributes())
    .SetKernelFn(PD_KERNEL(Backward<Tensor>));

// The gradients for a given out and lse, in dynamic mode. Where key and value are a part of all that query sees, out
// and lse of the whole give this part's share of the gradients.
PD_BUILD_OP(paddle_flashmask_attention_backward)
    .Inputs({paddle::Optional("seed_offset"), paddle::Optional("block_mask"),
             paddle::Optional("startend_row_indices"), "value", "key", "query", "out", "lse", "dout", "dlse"})
    .Outputs({"dquery", "dkey", "dvalue"})
    .Attrs(Attributes())
    .SetKernelFn(PD_KERNEL(Backward<>))
    .SetInferShapeFn(PD_INFER_SHAPE(InferLikeInputs<Shape, OptionalShape>))
    .SetInferDtypeFn(PD_INFER_DTYPE(InferLikeInputs<Dtype, OptionalDtype>));
