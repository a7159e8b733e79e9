/* Preloaded into a node: while the file named by SLOW_DISK exists, each sync takes 100 ms longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int sync_slowly(const char *name, int fd) {
	const char *flag = getenv("SLOW_DISK");
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
	if (flag && access(flag, F_OK) == 0) {
		struct timespec delay = {0, 100000000};
		nanosleep(&delay, NULL);
	}
	return real(fd);
}

int fsync(int fd) {
	return sync_slowly("fsync", fd);
}

int fdatasync(int fd) {
	return sync_slowly("fdatasync", fd);
}
