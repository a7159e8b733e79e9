/*
 * A preload library for the user-mode-linux kernel of Debian 12.
 *
 * That kernel stores the vector registers of a guest thread in 832 octets: x87, SSE and AVX.  It moves them with
 * PTRACE_GETREGSET and PTRACE_SETREGSET.  The kernel of the machine truncates a read to whatever fits, but takes a
 * write only in the full size of the processor's state, which AVX-512 and AMX make larger.  There every write fails
 * and the guest dies at once: "ptrace set fp regs failed, errno = 14".
 *
 * This library lengthens such a write.  What lies beyond the kernel's 832 octets is written in its initial state
 * rather than kept: `init` keeps the guest's programs off the wider registers, so there is nothing to keep.
 *
 * The user-mode kernel calls ptrace from one thread only, hence the static buffer.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

#define STATE_BYTES 16384          /* the largest known state, with AMX, is about 11 kB */
#define COMPONENTS_OFFSET 512      /* XSTATE_BV: which components differ from their initial state */
#define COMPONENTS_OF_GUEST 7u     /* x87, SSE and AVX */

typedef long ptrace_function(int, pid_t, void *, void *);

static char state[STATE_BYTES] __attribute__((aligned(64)));
static size_t state_length;        /* of this processor; 0 until the first write */

long ptrace(enum __ptrace_request request, ...)
{
    static ptrace_function *next;
    va_list arguments;

    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    if (!next)
        next = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || (uintptr_t)address != NT_X86_XSTATE)
        return next(request, pid, address, data);

    struct iovec whole = { state, sizeof state };
    if (!state_length) {
        if (next(PTRACE_GETREGSET, pid, address, &whole) < 0)
            return -1;
        state_length = whole.iov_len;
    }
    const struct iovec *given = data;
    if (given->iov_len >= state_length || given->iov_len < COMPONENTS_OFFSET + sizeof(uint64_t))
        return next(request, pid, address, data);

    uint64_t components;
    memset(state, 0, state_length);
    memcpy(state, given->iov_base, given->iov_len);
    memcpy(&components, state + COMPONENTS_OFFSET, sizeof components);
    components &= COMPONENTS_OF_GUEST;
    memcpy(state + COMPONENTS_OFFSET, &components, sizeof components);
    whole.iov_len = state_length;
    return next(request, pid, address, &whole);
}
