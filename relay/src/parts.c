/*
 * parts.c
 *		Handing a value to our database that is too large for one statement.
 *
 * Owns: see parts.h.  Does not own: what the value is for.
 */
#include "parts.h"

#include <stdio.h>

#include "queries.h"

#define PART_BYTES ((size_t) 1 << 20)
#define LARGE (4 * PART_BYTES) /* less is not worth the additional statements */

bool
tide_parts_needed(size_t len)
{
	return len > LARGE;
}

bool
tide_parts_send(TidePg *pg, TideParts *parts, bool pipeline, TideError *err)
{
	size_t left = parts->len - parts->sent;
	size_t len = left < PART_BYTES ? left : PART_BYTES;
	char total[24];
	char at[24];
	const char *values[3] = {total, at, parts->data + parts->sent};
	const int lengths[3] = {0, 0, (int) len};
	const int formats[3] = {0, 0, 1};

	snprintf(total, sizeof(total), "%zu", parts->len);
	snprintf(at, sizeof(at), "%zu", parts->sent);
	parts->sent += len;
	return pipeline
			   ? tide_pg_pipeline_start(pg, tide_q_relay_part, 3, values, lengths, formats, err)
			   : tide_pg_send(pg, tide_q_relay_part, 3, values, lengths, formats, err);
}
