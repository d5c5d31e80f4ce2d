/*
 * tide_stamp.c
 *		The version stamp of a replicated row: who wrote it last, and when.
 *
 * Owns: encoding, order and text form of stamps, the step of the clock, the
 * region's number.  Does not own: where the clock is remembered.
 */
#include "tide_stamp.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tide_bytes.h"
#include "tide_text.h"

#define CLOCK_LEN 8
#define ORIGIN_DIGITS 8

uint32_t
tide_region_id(const char *name, size_t len)
{
	uint32_t hash = UINT32_C(0x811C9DC5);

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t) name[i]) * UINT32_C(0x01000193);
	return hash != 0 ? hash : 1;
}

int64_t
tide_clock_next(int64_t physical_us, int64_t seen)
{
	if (seen == INT64_MAX)
		return seen; /* there is nothing larger; year 294247 */
	if (seen < 0)
		seen = 0;
	return physical_us > seen ? physical_us : seen + 1;
}

void
tide_stamp_encode(TideStamp stamp, uint8_t out[TIDE_STAMP_LEN])
{
	uint64_t clock = stamp.clock > 0 ? (uint64_t) stamp.clock : 0;

	tide_put_u64(out, clock);
	tide_put_u32(out + CLOCK_LEN, stamp.origin);
}

bool
tide_stamp_decode(const uint8_t *data, size_t len, TideStamp *stamp)
{
	if (len < TIDE_STAMP_LEN || (data[0] & 0x80) != 0)
		return false;
	*stamp = (TideStamp){.clock = (int64_t) tide_get_u64(data),
						 .origin = tide_get_u32(data + CLOCK_LEN)};
	return true;
}

int
tide_stamp_compare(TideStamp a, TideStamp b)
{
	if (a.clock != b.clock)
		return a.clock < b.clock ? -1 : 1;
	if (a.origin != b.origin)
		return a.origin < b.origin ? -1 : 1;
	return 0;
}

void
tide_stamp_format(TideStamp stamp, char out[TIDE_STAMP_TEXT])
{
	snprintf(out, TIDE_STAMP_TEXT, "%" PRId64 "@%08" PRIx32, stamp.clock > 0 ? stamp.clock : 0,
			 stamp.origin);
}

bool
tide_stamp_parse(const char *text, size_t len, TideStamp *stamp)
{
	const char *at = len > 0 ? memchr(text, '@', len) : NULL;
	size_t digits;
	uint64_t clock;
	uint32_t origin = 0;

	if (at == NULL)
		return false;
	digits = (size_t) (at - text);
	if (len - digits - 1 != ORIGIN_DIGITS || (digits > 1 && text[0] == '0') ||
		!tide_parse_u64(text, digits, &clock) || clock > INT64_MAX)
		return false;
	for (int i = 1; i <= ORIGIN_DIGITS; i++)
	{
		int value = tide_hex_value(at[i]);

		if (value < 0 || (at[i] >= 'A' && at[i] <= 'F'))
			return false;
		origin = origin << 4 | (uint32_t) value;
	}
	*stamp = (TideStamp){.clock = (int64_t) clock, .origin = origin};
	return true;
}
