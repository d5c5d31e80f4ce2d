/*
 * fuzz_json.c
 *		Fuzzes the JSON scanner.
 *
 * Owns: that what is JSON stays JSON inside an array and an object.
 */
#include "fuzz.h"

#include "tide_json.h"
#include "tide_text.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size > 0 ? size : 1); /* no NUL: reading past the end is seen */
	TideJsonVerdict verdict;
	TideBuf buf;

	CHECK(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	verdict = tide_json_check(text, size);
	if (verdict == TIDE_JSON_VALID)
		CHECK(tide_utf8_valid(text, size) && tide_json_first(text, size) != '\0');
	tide_buf_init(&buf);
	tide_buf_append_str(&buf, "{\"a\":[0,");
	tide_buf_append(&buf, text, size);
	tide_buf_append_str(&buf, "]}");
	if (verdict == TIDE_JSON_VALID)
		CHECK(tide_json_check(buf.data, buf.len) == TIDE_JSON_VALID);
	tide_buf_free(&buf);
	free(text);
	return 0;
}
