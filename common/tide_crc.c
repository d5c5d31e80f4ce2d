/*
 * tide_crc.c
 *		CRC-32C, the checksum of frames.
 *
 * Owns: the sum.  Does not own: what is summed.
 *
 * Eight bytes at a time with eight tables, which are made at the first use.
 *
 * Source: M. Kounavis and F. Berry, "A Systematic Approach to Building High
 * Performance Software-based CRC Generators", 2005 ("slicing-by-8").
 */
#include "tide_crc.h"

#include <pthread.h>

#define CASTAGNOLI UINT32_C(0x82F63B78) /* bits reversed */
#define SLICES 8

/* table[k][b]: the sum of byte b followed by k zero bytes. */
static uint32_t table[SLICES][256];

static void
make_tables(void)
{
	for (uint32_t byte = 0; byte < 256; byte++)
	{
		uint32_t crc = byte;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CASTAGNOLI : 0);
		table[0][byte] = crc;
	}
	for (int k = 1; k < SLICES; k++)
	{
		for (int byte = 0; byte < 256; byte++)
			table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 0xFF];
	}
}

static uint32_t
little_endian(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

uint32_t
tide_crc32c(uint32_t crc, const void *data, size_t len)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint8_t *p = data;

	pthread_once(&once, make_tables);
	crc = ~crc;
	for (; len >= SLICES; p += SLICES, len -= SLICES)
	{
		uint32_t low = crc ^ little_endian(p);
		uint32_t high = little_endian(p + 4);

		crc = table[7][low & 0xFF] ^ table[6][low >> 8 & 0xFF] ^ table[5][low >> 16 & 0xFF] ^
			  table[4][low >> 24] ^ table[3][high & 0xFF] ^ table[2][high >> 8 & 0xFF] ^
			  table[1][high >> 16 & 0xFF] ^ table[0][high >> 24];
	}
	for (; len > 0; p++, len--)
		crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xFF];
	return ~crc;
}
