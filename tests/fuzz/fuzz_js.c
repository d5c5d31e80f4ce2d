/*
 * fuzz_js.c
 *		Fuzzes JetStream reply subjects.
 *
 * Owns: that what is parsed lies inside the reply.
 */
#include "fuzz.h"

#include "tide_js.h"

static void
check_inside(TideSpan s, const char *text, size_t size, bool required)
{
	if (s.ptr == NULL)
	{
		CHECK(!required && s.len == 0);
		return;
	}
	CHECK(s.len > 0 && s.ptr >= text && s.ptr + s.len <= text + size);
	CHECK(memchr(s.ptr, '.', s.len) == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_string(data, size);
	TideJsAck ack;

	if (tide_js_ack_parse(text, &ack))
	{
		check_inside(ack.domain, text, size, false);
		check_inside(ack.account, text, size, false);
		check_inside(ack.stream, text, size, true);
		check_inside(ack.consumer, text, size, true);
		CHECK(ack.timestamp_ns >= 0);
		CHECK(strncmp(text, "$JS.ACK.", 8) == 0);
	}
	free(text);
	return 0;
}
