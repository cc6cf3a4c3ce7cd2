/* A CUDA runtime that does nothing: one device, streams and events that are always done. */
#include <stddef.h>
#include <string.h>
#define OK(name) int name() { return 0; }
OK(cudaSetDevice) OK(cudaGetLastError) OK(cudaPeekAtLastError) OK(cudaDeviceSynchronize)
OK(cudaStreamSynchronize) OK(cudaEventRecord) OK(cudaEventRecordWithFlags) OK(cudaEventQuery)
OK(cudaEventSynchronize) OK(cudaEventDestroy) OK(cudaStreamWaitEvent) OK(cudaStreamQuery)
int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cudaEventCreateWithFlags(void **event, unsigned flags) { *event = (void *)1; return 0; }
int cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    *stream = (void *)1; return 0;
}
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -1; return 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) { *value = 0; return 0; }
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaMemcpyAsync(void *to, void *from, size_t bytes, int kind, void *stream) {
    if (to != from) memcpy(to, from, bytes);
    return 0;
}
