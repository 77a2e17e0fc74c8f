/* Copyright (c) 2026, the baremetal.sglang maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A CUDA driver library for a machine without a GPU. It answers "no device" to everything.
 *
 * The engine's kernel wheels link libcuda.so.1, so on a CPU-only lab host they cannot even be imported
 * without a library of that name. The lab installs this one; no role ever does.
 *
 * NO_DEVICE lists the symbols that the objects of the engine's environment leave undefined;
 * `build.py --check SITE_PACKAGES` names those that a newer environment adds.
 */
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 1, NO_DEVICE_FOUND = 100, NOT_FOUND = 500 };

/* The version that the stub claims: new enough for CUDA 13 libraries to go on to ask for a device. */
enum { DRIVER_VERSION = 13000 };

#define NO_DEVICE(name)           \
    EXPORTED int name(void);      \
    int name(void) { return NO_DEVICE_FOUND; }

NO_DEVICE(cuCtxFromGreenCtx)
NO_DEVICE(cuCtxGetCurrent)
NO_DEVICE(cuCtxGetDevice)
NO_DEVICE(cuCtxGetId)
NO_DEVICE(cuCtxGetLimit)
NO_DEVICE(cuCtxPopCurrent_v2)
NO_DEVICE(cuCtxPushCurrent_v2)
NO_DEVICE(cuCtxResetPersistingL2Cache)
NO_DEVICE(cuCtxSetCurrent)
NO_DEVICE(cuCtxSetLimit)
NO_DEVICE(cuDevResourceGenerateDesc)
NO_DEVICE(cuDevSmResourceSplitByCount)
NO_DEVICE(cuDeviceGet)
NO_DEVICE(cuDeviceGetAttribute)
NO_DEVICE(cuDeviceGetDevResource)
NO_DEVICE(cuDeviceGetName)
NO_DEVICE(cuDevicePrimaryCtxGetState)
NO_DEVICE(cuDevicePrimaryCtxRetain)
NO_DEVICE(cuFuncGetAttribute)
NO_DEVICE(cuFuncSetAttribute)
NO_DEVICE(cuFuncSetCacheConfig)
NO_DEVICE(cuGreenCtxCreate)
NO_DEVICE(cuGreenCtxDestroy)
NO_DEVICE(cuGreenCtxGetDevResource)
NO_DEVICE(cuInit)
NO_DEVICE(cuLaunchCooperativeKernel)
NO_DEVICE(cuLaunchKernel)
NO_DEVICE(cuLaunchKernelEx)
NO_DEVICE(cuLinkAddData_v2)
NO_DEVICE(cuLinkComplete)
NO_DEVICE(cuLinkCreate_v2)
NO_DEVICE(cuMemAddressFree)
NO_DEVICE(cuMemAddressReserve)
NO_DEVICE(cuMemCreate)
NO_DEVICE(cuMemGetAllocationGranularity)
NO_DEVICE(cuMemMap)
NO_DEVICE(cuMemRelease)
NO_DEVICE(cuMemSetAccess)
NO_DEVICE(cuMemUnmap)
NO_DEVICE(cuModuleGetFunction)
NO_DEVICE(cuModuleLoad)
NO_DEVICE(cuModuleLoadData)
NO_DEVICE(cuModuleLoadDataEx)
NO_DEVICE(cuModuleUnload)
NO_DEVICE(cuOccupancyMaxActiveBlocksPerMultiprocessor)
NO_DEVICE(cuPointerGetAttribute)
NO_DEVICE(cuStreamCreate)
NO_DEVICE(cuStreamSetAttribute)
NO_DEVICE(cuTensorMapEncodeIm2col)
NO_DEVICE(cuTensorMapEncodeTiled)

EXPORTED int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version)
{
    if (version == NULL)
        return INVALID_VALUE;
    *version = DRIVER_VERSION;
    return SUCCESS;
}

static const struct {
    int code;
    const char *name;
    const char *text;
} errors[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {NO_DEVICE_FOUND, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected (lab stub driver)"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
};

static int find_error(int code)
{
    for (size_t index = 0; index < sizeof errors / sizeof errors[0]; index++)
        if (errors[index].code == code)
            return (int)index;
    return -1;
}

EXPORTED int cuGetErrorName(int code, const char **text);
int cuGetErrorName(int code, const char **text)
{
    int index = find_error(code);
    if (text == NULL)
        return INVALID_VALUE;
    *text = index < 0 ? NULL : errors[index].name;
    return index < 0 ? INVALID_VALUE : SUCCESS;
}

EXPORTED int cuGetErrorString(int code, const char **text);
int cuGetErrorString(int code, const char **text)
{
    int index = find_error(code);
    if (text == NULL)
        return INVALID_VALUE;
    *text = index < 0 ? NULL : errors[index].text;
    return index < 0 ? INVALID_VALUE : SUCCESS;
}

EXPORTED int cuGetExportTable(const void **table, const void *id);
int cuGetExportTable(const void **table, const void *id)
{
    (void)id;
    if (table != NULL)
        *table = NULL;
    return NO_DEVICE_FOUND;
}

/* The CUDA runtime fetches every entry point here before it looks for devices. Any driver function,
 * known to us or not, may be answered by one that takes nothing and says "no device". */
EXPORTED int cuGetProcAddress_v2(const char *symbol, void **address, int version, unsigned long long flags,
                                 int *status);
int cuGetProcAddress_v2(const char *symbol, void **address, int version, unsigned long long flags, int *status)
{
    static const struct {
        const char *name;
        void *address;
    } answers[] = {
        {"cuDriverGetVersion", (void *)cuDriverGetVersion}, {"cuGetErrorName", (void *)cuGetErrorName},
        {"cuGetErrorString", (void *)cuGetErrorString},     {"cuGetExportTable", (void *)cuGetExportTable},
        {"cuGetProcAddress", (void *)cuGetProcAddress_v2},
    };
    (void)version;
    (void)flags;
    if (symbol == NULL || address == NULL)
        return INVALID_VALUE;
    if (strncmp(symbol, "cu", 2) != 0) {
        *address = NULL;
        if (status != NULL)
            *status = 1;
        return NOT_FOUND;
    }
    *address = (void *)cuInit;
    for (size_t index = 0; index < sizeof answers / sizeof answers[0]; index++)
        if (strcmp(symbol, answers[index].name) == 0)
            *address = answers[index].address;
    if (status != NULL)
        *status = 0;
    return SUCCESS;
}
