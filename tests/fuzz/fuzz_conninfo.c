/*
 * fuzz_conninfo.c
 *		Fuzzes connection strings, broker URLs and secret references.
 *
 * Owns: that a password standing there plainly is never overlooked.
 */
#include "fuzz.h"

#include "tide_conninfo.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_string(data, size);
	TideSpan rest = {text, size};
	TideSpan url;
	TideSpan name;
	TideSecretKind kind;
	TideConninfoState state = tide_conninfo_scan(text);
	char *more;

	/* A good string of settings stays good when a setting is added, and a password is seen then. */
	more = malloc(size + 32);
	CHECK(more != NULL);
	if (state == TIDE_CONNINFO_OK && strncmp(text, "postgres", 8) != 0)
	{
		snprintf(more, size + 32, "password = x %s", text);
		CHECK(tide_conninfo_has_password(more));
	}
	free(more);

	while (tide_url_next(&rest, &url))
	{
		CHECK(url.ptr >= text && url.ptr + url.len <= text + size);
		if (tide_url_check(url) == TIDE_URL_OK)
			CHECK(memchr(url.ptr, '@', url.len) == NULL && url.len > 6);
	}
	if (tide_secret_parse(text, size, &kind, &name))
		CHECK(name.len > 0 && name.ptr + name.len == text + size);
	free(text);
	return 0;
}
