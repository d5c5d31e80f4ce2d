/*
 * fuzz_time.c
 *		Fuzzes RFC 3339 times.
 *
 * Owns: text to time and back.
 */
#include "fuzz.h"

#include "tide_time.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_string(data, size);
	char formatted[TIDE_TIME_TEXT];
	int64_t us;
	int64_t again;

	if (tide_time_parse(text, size, &us))
	{
		CHECK(us >= TIDE_TIME_MIN && us <= TIDE_TIME_MAX);
		CHECK(tide_time_format(formatted, us));
		CHECK(tide_time_parse(formatted, strlen(formatted), &again) && again == us);
	}
	if (size >= sizeof(us))
	{
		memcpy(&us, data, sizeof(us));
		if (tide_time_format(formatted, us))
			CHECK(tide_time_parse(formatted, strlen(formatted), &again) && again == us);
		else
			CHECK((us < TIDE_TIME_MIN || us > TIDE_TIME_MAX) && formatted[0] == '\0');
	}
	free(text);
	return 0;
}
