/* Copyright (c) 2026, the baremetal.sglang maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The management library of a pretended driver: it counts GPUs and names them, and knows no more.
 * torch counts GPUs with it without starting CUDA. COUNT, PRODUCT, DRIVER and CUDA_LEVEL come from the build.
 */
#include <stdio.h>

#define EXPORTED __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_ARGUMENT = 2 };

typedef struct { unsigned int index; } Device;

static Device devices[COUNT];

EXPORTED int nvmlInit(void) { return SUCCESS; }
EXPORTED int nvmlInit_v2(void) { return SUCCESS; }
EXPORTED int nvmlInitWithFlags(unsigned int flags) { (void)flags; return SUCCESS; }
EXPORTED int nvmlShutdown(void) { return SUCCESS; }
EXPORTED const char *nvmlErrorString(int status) { return status ? "Invalid Argument" : "Success"; }

EXPORTED int nvmlDeviceGetCount_v2(unsigned int *count) { *count = COUNT; return SUCCESS; }
EXPORTED int nvmlDeviceGetCount(unsigned int *count) { return nvmlDeviceGetCount_v2(count); }

EXPORTED int nvmlSystemGetDriverVersion(char *text, unsigned int size)
{
    snprintf(text, size, "%s", DRIVER);
    return SUCCESS;
}

EXPORTED int nvmlSystemGetCudaDriverVersion_v2(int *level) { *level = CUDA_LEVEL; return SUCCESS; }
EXPORTED int nvmlSystemGetCudaDriverVersion(int *level) { return nvmlSystemGetCudaDriverVersion_v2(level); }

EXPORTED int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device **device)
{
    if (index >= COUNT)
        return INVALID_ARGUMENT;
    devices[index].index = index;
    *device = &devices[index];
    return SUCCESS;
}

EXPORTED int nvmlDeviceGetHandleByIndex(unsigned int index, Device **device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

EXPORTED int nvmlDeviceGetName(const Device *device, char *text, unsigned int size)
{
    (void)device;
    snprintf(text, size, "%s", PRODUCT);
    return SUCCESS;
}

EXPORTED int nvmlDeviceGetUUID(const Device *device, char *text, unsigned int size)
{
    snprintf(text, size, UUID_FORMAT, device->index + 1);
    return SUCCESS;
}
