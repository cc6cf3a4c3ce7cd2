/* A CUDA driver that does nothing: enough for torch to believe in one device. */
#include <dlfcn.h>
#define OK(name) int name() { return 0; }
OK(cuInit) OK(cuGetErrorString) OK(cuGetErrorName) OK(cuCtxSetCurrent)
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0; *active = 1; return 0;
}
int cuCtxGetCurrent(void **context) { *context = (void *)1; return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetProcAddress(const char *name, void **found, int version, unsigned long flags) {
    *found = dlsym((void *)0, name); return 0;
}
int cuGetProcAddress_v2(const char *name, void **found, int version, unsigned long flags, int *status) {
    *found = dlsym((void *)0, name);
    if (status) *status = *found ? 0 : 1;
    return 0;
}
