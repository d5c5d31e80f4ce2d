/*
 * fuzz_header.c
 *		Fuzzes header values and names.
 *
 * Owns: decode(encode(x)) == x, and that what is encoded can stand in a header.
 */
#include "fuzz.h"

#include "tide_header.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_string(data, size);
	TideBuf encoded;
	TideBuf decoded;

	tide_buf_init(&encoded);
	tide_buf_init(&decoded);
	CHECK(tide_header_encode(&encoded, text, size));
	for (size_t i = 0; i < encoded.len; i++)
		CHECK(encoded.data[i] > 0x20 && encoded.data[i] < 0x7F && encoded.data[i] != '"');
	CHECK(tide_header_decode(&decoded, tide_buf_cstr(&encoded), encoded.len));
	CHECK(decoded.len == size && memcmp(tide_buf_cstr(&decoded), text, size) == 0);

	/* The input itself as something that came in. */
	tide_buf_reset(&decoded);
	if (tide_header_decode(&decoded, text, size))
		CHECK(decoded.len <= size);
	else
		CHECK(decoded.len == 0);
	if (tide_header_name_ok(text, size))
		CHECK(size >= 1 && size <= TIDE_HEADER_NAME_MAX && strpbrk(text, " :\r\n\t\"") == NULL);
	tide_buf_free(&encoded);
	tide_buf_free(&decoded);
	free(text);
	return 0;
}
