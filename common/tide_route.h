/*
 * tide_route.h
 *		Decisions about where an event may go, as pure functions.
 *
 * Owns: the echo rule.  Does not own: delivery.
 */
#ifndef TIDE_ROUTE_H
#define TIDE_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Did the event originate in this very region, so that this region's inboxes
 * must drop it?  origin NULL or empty (a foreign message) is never an echo.
 */
extern bool
tide_is_echo(const char *origin, size_t origin_len, const char *region, size_t region_len);

#endif /* TIDE_ROUTE_H */
