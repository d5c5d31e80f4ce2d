/*
 * stop.c
 *		A request to stop that a thread can wait for together with sockets.
 *
 * The eventfd is written once and never read, so it stays readable for
 * everyone who polls it.  The flag makes looking at it cheap.
 */
#include "stop.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"

struct TideStop
{
	atomic_bool requested;
	int fd;
};

TideStop *
tide_stop_new(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	TideStop *stop;

	if (fd < 0)
		return NULL;
	stop = tide_malloc(sizeof(TideStop));
	stop->fd = fd;
	atomic_init(&stop->requested, false);
	return stop;
}

void
tide_stop_free(TideStop *stop)
{
	if (stop == NULL)
		return;
	close(stop->fd);
	free(stop);
}

void
tide_stop_request(TideStop *stop)
{
	int saved_errno = errno;
	uint64_t one = 1;
	ssize_t ignored;

	atomic_store(&stop->requested, true);
	ignored = write(stop->fd, &one, sizeof(one));
	(void) ignored; /* full means already readable */
	errno = saved_errno;
}

bool
tide_stop_requested(const TideStop *stop)
{
	return stop != NULL && atomic_load(&stop->requested);
}

int
tide_stop_fd(const TideStop *stop)
{
	return stop != NULL ? stop->fd : -1;
}

bool
tide_stop_sleep(const TideStop *stop, int ms)
{
	long long deadline = tide_monotonic_ms() + ms;

	while (!tide_stop_requested(stop))
	{
		struct pollfd pfd = {.fd = tide_stop_fd(stop), .events = POLLIN};
		long long left = deadline - tide_monotonic_ms();

		if (left <= 0)
			return true;
		poll(&pfd, 1, (int) left); /* interrupted or woken: look again */
	}
	return false;
}

long long
tide_monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

long long
tide_wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (long long) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
