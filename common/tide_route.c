/*
 * tide_route.c
 *		Decisions about where an event may go, as pure functions.
 *
 * Owns: the echo rule.  Does not own: delivery.
 */
#include "tide_route.h"

#include <string.h>

bool
tide_is_echo(const char *origin, size_t origin_len, const char *region, size_t region_len)
{
	return origin != NULL && origin_len > 0 && region != NULL && origin_len == region_len &&
		   memcmp(origin, region, origin_len) == 0;
}
