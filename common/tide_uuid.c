/*
 * tide_uuid.c
 *		Event ids: UUIDs of version 7 (RFC 9562), and their text form.
 *
 * Owns: the bits.  Does not own: the clock and the random bytes.
 */
#include "tide_uuid.h"

#include <string.h>

#include "tide_text.h"

#define MAX_MS ((INT64_C(1) << 48) - 1)

void
tide_uuid7(uint8_t out[16], int64_t unix_us, const uint8_t random[8])
{
	uint64_t ms;
	unsigned fraction;

	if (unix_us < 0)
		unix_us = 0;
	if (unix_us / 1000 > MAX_MS)
		unix_us = MAX_MS * 1000 + 999;
	ms = (uint64_t) unix_us / 1000;
	/* The RFC's method 3: a fraction of the millisecond in 4096ths where random bits could be. */
	fraction = (unsigned) (unix_us % 1000) * 4096 / 1000;

	for (int i = 0; i < 6; i++)
		out[i] = (uint8_t) (ms >> (40 - 8 * i));
	out[6] = (uint8_t) (0x70 | fraction >> 8);
	out[7] = (uint8_t) (fraction & 0xFF);
	memcpy(out + 8, random, 8);
	out[8] = (uint8_t) ((out[8] & 0x3F) | 0x80); /* variant 10 */
}

bool
tide_uuid7_unix_us(const uint8_t uuid[16], int64_t *unix_us)
{
	uint64_t ms = 0;
	unsigned fraction;
	unsigned us;

	if ((uuid[6] & 0xF0) != 0x70 || (uuid[8] & 0xC0) != 0x80)
		return false;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | uuid[i];
	fraction = (unsigned) (uuid[6] & 0x0F) << 8 | uuid[7];
	/* Rounding up undoes the rounding down above exactly; foreign ids may reach 1000. */
	us = (fraction * 1000 + 4095) / 4096;
	*unix_us = (int64_t) (ms * 1000 + (us > 999 ? 999 : us));
	return true;
}

/* Is there a '-' before byte i of the UUID's text? */
static bool
dash_before(int i)
{
	return i == 4 || i == 6 || i == 8 || i == 10;
}

void
tide_uuid_format(char out[TIDE_UUID_TEXT + 1], const uint8_t uuid[16])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 16; i++)
	{
		if (dash_before(i))
			*out++ = '-';
		*out++ = digits[uuid[i] >> 4];
		*out++ = digits[uuid[i] & 15];
	}
	*out = '\0';
}

bool
tide_uuid_parse(uint8_t out[16], const char *text, size_t len)
{
	uint8_t uuid[16];

	if (len != TIDE_UUID_TEXT)
		return false;
	for (int i = 0; i < 16; i++)
	{
		int high;
		int low;

		if (dash_before(i) && *text++ != '-')
			return false;
		high = tide_hex_value(*text++);
		low = tide_hex_value(*text++);
		if (high < 0 || low < 0)
			return false;
		uuid[i] = (uint8_t) (high << 4 | low);
	}
	memcpy(out, uuid, sizeof(uuid));
	return true;
}
