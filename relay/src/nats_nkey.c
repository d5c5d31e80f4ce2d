/*
 * nats_nkey.c
 *		Logging in to NATS with an nkey seed that is held in memory.
 *
 * Owns: see nats_nkey.h.
 *
 * A seed is base32 (RFC 4648, no padding) of two bytes of kind (5 bits "seed",
 * 8 bits role), the 32 bytes of an Ed25519 private key, and a CRC-16 (XMODEM),
 * low byte first.  A public key is one byte of role, 32 bytes, the CRC.
 */
#include "nats_nkey.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

#include "secret.h"

#define KEY_BYTES 32
#define SEED_BYTES (2 + KEY_BYTES + 2)
#define PUBLIC_BYTES (1 + KEY_BYTES + 2)
#define SEED_CHARS 58
#define KIND_SEED (18 << 3) /* 'S' */
#define ROLE_USER (20 << 3) /* 'U' */

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

static uint16_t
crc16(const uint8_t *data, size_t len)
{
	uint16_t crc = 0;

	for (size_t i = 0; i < len; i++)
	{
		crc ^= (uint16_t) (data[i] << 8);
		for (int bit = 0; bit < 8; bit++)
			crc = (uint16_t) ((crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1);
	}
	return crc;
}

static bool
base32_decode(const char *text, size_t chars, uint8_t *out)
{
	uint32_t acc = 0;
	int bits = 0;

	for (size_t i = 0; i < chars; i++)
	{
		const char *digit = text[i] != '\0' ? strchr(base32, text[i]) : NULL;

		if (digit == NULL)
			return false;
		acc = acc << 5 | (uint32_t) (digit - base32);
		bits += 5;
		if (bits >= 8)
		{
			bits -= 8;
			*out++ = (uint8_t) (acc >> bits);
		}
	}
	return true;
}

static void
base32_encode(const uint8_t *data, size_t len, char *out)
{
	uint32_t acc = 0;
	int bits = 0;

	for (size_t i = 0; i < len; i++)
	{
		acc = acc << 8 | data[i];
		bits += 8;
		while (bits >= 5)
		{
			bits -= 5;
			*out++ = base32[acc >> bits & 31];
		}
	}
	if (bits > 0)
		*out++ = base32[acc << (5 - bits) & 31];
	*out = '\0';
}

static bool
derive(const uint8_t *private_key, uint8_t *public_key)
{
	size_t len = KEY_BYTES;
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, KEY_BYTES);
	bool ok = key != NULL && EVP_PKEY_get_raw_public_key(key, public_key, &len) == 1;

	EVP_PKEY_free(key);
	return ok;
}

bool
tide_nkey_public(const char *seed, char public_key[TIDE_NKEY_PUBLIC_SIZE])
{
	uint8_t raw[SEED_BYTES + 1];
	uint8_t out[PUBLIC_BYTES];
	uint16_t crc;
	bool ok;

	ok = strlen(seed) == SEED_CHARS && base32_decode(seed, SEED_CHARS, raw) &&
		 (raw[0] & 0xF8) == KIND_SEED && ((raw[0] & 7) << 5 | raw[1] >> 3) == ROLE_USER &&
		 crc16(raw, SEED_BYTES - 2) ==
			 (uint16_t) (raw[SEED_BYTES - 2] | raw[SEED_BYTES - 1] << 8) &&
		 derive(raw + 2, out + 1);
	tide_secret_wipe(raw, sizeof(raw));
	if (!ok)
		return false;
	out[0] = ROLE_USER;
	crc = crc16(out, PUBLIC_BYTES - 2);
	out[PUBLIC_BYTES - 2] = (uint8_t) crc;
	out[PUBLIC_BYTES - 1] = (uint8_t) (crc >> 8);
	base32_encode(out, PUBLIC_BYTES, public_key);
	return true;
}
