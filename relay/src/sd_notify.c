/*
 * sd_notify.c
 *		Tells systemd how the service is, without libsystemd.
 */
#include "sd_notify.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool
tide_sd_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len;
	int fd;
	ssize_t sent;

	if (path == NULL)
		return false;
	len = strlen(path);
	if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof(addr.sun_path))
		return false;
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@')
		addr.sun_path[0] = '\0'; /* Linux' abstract namespace: the length counts, no NUL ends it */

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
				  (const struct sockaddr *) &addr,
				  (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
	return sent == (ssize_t) strlen(state);
}

int
tide_sd_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");
	long long ms;

	if (usec == NULL || (pid != NULL && strtoll(pid, NULL, 10) != (long long) getpid()))
		return 0;
	ms = strtoll(usec, NULL, 10) / 2000;
	return ms <= 0 ? 0 : ms > INT_MAX ? INT_MAX : (int) ms;
}
