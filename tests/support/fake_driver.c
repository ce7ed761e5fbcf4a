// The few functions of the CUDA driver that tools/gpu_check uses, over host memory.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { kGuard = 256 };
static int status = 0;

// Functions of the emulator, which must know the memory that its kernels use; without them any memory may be used.
static void (*know)(void*, size_t, const char*, int) = NULL;
static void (*forget)(void*) = NULL;

void fake_fail_from_now_on(int code) { status = code; }
void fake_emulator(void (*register_memory)(void*, size_t, const char*, int), void (*unregister)(void*)) {
  know = register_memory;
  forget = unregister;
}

int cuInit(unsigned flags) { return flags ? 1 : status; }
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return status;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = NULL;
  return device ? 1 : status;
}
int cuCtxSetCurrent(void* context) { return context ? 1 : status; }
int cuCtxSynchronize(void) { return status; }
int cuMemAlloc_v2(uint64_t* address, size_t size) {
  const size_t rounded = (size + kGuard - 1) / kGuard * kGuard;
  *address = (uint64_t)(uintptr_t)aligned_alloc(kGuard, rounded);
  if (know != NULL) know((void*)(uintptr_t)*address, rounded, "device memory", 1);
  return status;
}
int cuMemFree_v2(uint64_t address) {
  if (forget != NULL) forget((void*)(uintptr_t)address);
  free((void*)(uintptr_t)address);
  return status;
}
int cuMemsetD8_v2(uint64_t address, unsigned char value, size_t size) {
  memset((void*)(uintptr_t)address, value, size);
  return status;
}
int cuMemcpyHtoD_v2(uint64_t address, const void* host, size_t size) {
  memcpy((void*)(uintptr_t)address, host, size);
  return status;
}
int cuMemcpyDtoH_v2(void* host, uint64_t address, size_t size) {
  memcpy(host, (const void*)(uintptr_t)address, size);
  return status;
}
int cuGetErrorString(int error, const char** text) {
  *text = error == 700 ? "an illegal memory access was encountered" : "some error";
  return 0;
}
