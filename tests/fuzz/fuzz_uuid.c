/*
 * fuzz_uuid.c
 *		Fuzzes UUIDs.
 *
 * Owns: text to UUID and back, and that any time and random bytes make a version 7.
 */
#include "fuzz.h"

#include "tide_text.h"
#include "tide_uuid.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_string(data, size);
	uint8_t uuid[16];
	char formatted[TIDE_UUID_TEXT + 1];
	int64_t us;
	int64_t back;

	if (tide_uuid_parse(uuid, text, size))
	{
		tide_uuid_format(formatted, uuid);
		CHECK(tide_ascii_equal(text, size, formatted, TIDE_UUID_TEXT));
		(void) tide_uuid7_unix_us(uuid, &us);
	}
	if (size >= 16)
	{
		memcpy(&us, data, 8);
		tide_uuid7(uuid, us, data + 8);
		CHECK(tide_uuid7_unix_us(uuid, &back));
		CHECK(back == us || us < 0 || us / 1000 >= (INT64_C(1) << 48));
	}
	free(text);
	return 0;
}
