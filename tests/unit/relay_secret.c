/*
 * relay_secret.c
 *		Tests of relay/src/secret.c: what is read, and what is refused without being
 *		repeated.
 */
#include "relay_test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "secret.h"

static char folder[] = "/tmp/tide-secret-XXXXXX";

static char *
path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static const char *
make_file(const char *name, const char *content, size_t len, mode_t mode)
{
	static char reference[300];
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	fwrite(content, 1, len, file);
	fclose(file);
	assert_int_equal(chmod(path_of(name), mode), 0);
	snprintf(reference, sizeof(reference), "file:%s", path_of(name));
	return reference;
}

static void
accepts(const char *reference, const char *expected)
{
	char *value;
	size_t len;
	TideError err = {0};

	if (!tide_secret_resolve(reference, "password", &value, &len, &err))
		fail_msg("%s: %s", reference, err.message);
	assert_string_equal(value, expected);
	assert_int_equal(len, strlen(expected));
	tide_secret_free(value);
}

static void
refuses(const char *reference, const char *reason)
{
	char *value;
	TideError err = {0};

	assert_false(tide_secret_resolve(reference, "password", &value, NULL, &err));
	assert_null(value);
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_contains(err.message, "password");
	assert_contains(err.message, reason);
	assert_lacks(err.message, "hunter2");
	assert_lacks(err.hint, "hunter2");
}

static void
environment(void **state)
{
	(void) state;
	setenv("TIDE_TEST_SECRET", "hunter2 with spaces\n", 1);
	accepts("env:TIDE_TEST_SECRET", "hunter2 with spaces\n");
	unsetenv("TIDE_TEST_SECRET");
	refuses("env:TIDE_TEST_SECRET", "TIDE_TEST_SECRET is not set");
}

static void
files(void **state)
{
	(void) state;
	accepts(make_file("plain", "hunter2", 7, 0600), "hunter2");
	accepts(make_file("newline", "hunter2\n", 8, 0400), "hunter2");
	accepts(make_file("newlines", "hunter2\n\n", 9, 0600), "hunter2\n");
	accepts(make_file("empty", "", 0, 0600), "");
	accepts(make_file("key", "-----BEGIN\nx\n-----END\n", 21, 0600), "-----BEGIN\nx\n-----END");

	/* Orchestrators mount secrets as links. */
	make_file("target", "hunter2", 7, 0600);
	assert_int_equal(symlink("target", path_of("link")), 0);
	char reference[300];

	snprintf(reference, sizeof(reference), "file:%s", path_of("link"));
	accepts(reference, "hunter2");
}

static void
bad_files(void **state)
{
	char *big = calloc(1, TIDE_SECRET_MAX_BYTES + 2);
	char reference[300];

	(void) state;
	memset(big, 'x', TIDE_SECRET_MAX_BYTES + 1);
	refuses(make_file("world", "hunter2", 7, 0604), "others may read");
	refuses(make_file("writable", "hunter2", 7, 0660), "others may read");
	refuses(make_file("zero", "hun\0ter2", 8, 0600), "zero byte");
	refuses(make_file("big", big, TIDE_SECRET_MAX_BYTES + 1, 0600), "larger than");
	big[TIDE_SECRET_MAX_BYTES] = '\0';
	accepts(make_file("just", big, TIDE_SECRET_MAX_BYTES, 0600), big);
	free(big);
	/* A group may read what root owns, and nothing else. */
	make_file("group", "hunter2", 7, 0640);
	snprintf(reference, sizeof(reference), "file:%s", path_of("group"));
	if (geteuid() == 0)
	{
		accepts(reference, "hunter2");
		if (chown(path_of("group"), 1, 0) == 0)
			refuses(reference, "others may read");
	}
	else
		refuses(reference, "others may read");

	snprintf(reference, sizeof(reference), "file:%s", path_of("missing"));
	refuses(reference, "No such file");
	snprintf(reference, sizeof(reference), "file:%s", folder);
	refuses(reference, "not a regular file");

	/* Must not wait for a writer. */
	assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
	snprintf(reference, sizeof(reference), "file:%s", path_of("fifo"));
	refuses(reference, "not a regular file");
	refuses("file:/dev/zero", "not a regular file");
}

static void
other_texts(void **state)
{
	(void) state;
	refuses("hunter2", "not a reference");
	refuses("", "not a reference");
	refuses("env:", "not a reference");
	refuses("file:hunter2", "not a reference");
	assert_true(tide_secret_is_reference("env:A"));
	assert_true(tide_secret_is_reference("file:/a"));
	assert_false(tide_secret_is_reference("hunter2"));
	tide_secret_free(NULL);
	tide_secret_wipe(NULL, 0);
}

static int
set_up(void **state)
{
	(void) state;
	return mkdtemp(folder) == NULL;
}

static int
tear_down(void **state)
{
	static const char *const names[] = {"plain",  "newline", "newlines", "empty",	 "key",
										"target", "link",	 "world",	 "writable", "zero",
										"big",	  "just",	 "group",	 "fifo"};

	(void) state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(path_of(names[i]));
	return rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(environment),
		cmocka_unit_test(files),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(other_texts),
	};

	return cmocka_run_group_tests_name("relay_secret", tests, set_up, tear_down);
}
