/*
 * relay_nats_login.c
 *		Connecting to NATS: every way to log in, TLS, and what goes wrong.
 *
 * Owns: cases about tide_nats_open against real servers.  Keys and certificates
 * are made for the test or known to nobody else.
 */
#include "nats_test.h"

#include <sys/stat.h>

#include "nats_conn.h"
#include "nats_nkey.h"

/* Made for this test; opens nothing anywhere. */
#define SEED "SUAE4N6VE5C3RAAN44FDIPLTXDKOUKGXZML2UQBMW5TYA44ZCTTVI6MOD4"

static TideError err;

static bool __attribute__((format(printf, 2, 3)))
can_connect(const TestServer *server, const char *fmt, ...)
{
	char more[900];
	va_list args;
	json_t *config;
	json_error_t je;
	TideNats *nats = NULL;
	char text[1200];
	bool ok;

	va_start(args, fmt);
	vsnprintf(more, sizeof(more), fmt, args);
	va_end(args);
	snprintf(text, sizeof(text), "{\"sink_type\":\"nats\",\"url\":\"nats://localhost:%d\"%s}",
			 server->port, more);
	config = json_loads(text, 0, &je);
	if (config == NULL)
		fail_msg("%s: %s", text, je.text);
	ok = tide_nats_open(config, "test", NULL, &nats, &err);
	tide_nats_close(nats);
	json_decref(config);
	return ok;
}

static void
nkeys(void **state)
{
	TestServer server;
	char key[TIDE_NKEY_PUBLIC_SIZE];
	char more[200];

	(void) state;
	assert_true(tide_nkey_public(SEED, key));
	assert_int_equal(strlen(key), 56);
	assert_int_equal(key[0], 'U');
	snprintf(more, sizeof(more), "authorization { users: [ { nkey: \"%s\" } ] }\n", key);
	test_server_new(&server, NULL, more);
	setenv("TIDE_TEST_SEED_REF", SEED, 1);
	if (!can_connect(&server, ",\"nkey_seed\":\"env:TIDE_TEST_SEED_REF\""))
		fail_msg("%s %s", err.code, err.message);
	assert_false(can_connect(&server, "%s", ""));
	assert_int_equal(err.class, TIDE_ERR_AUTH);

	setenv("TIDE_TEST_SEED_REF", "SUAE4N6VE5C3RAAN44FDIPLTXDKOUKGXZML2UQBMW5TYA44ZCTTVI6MODA", 1);
	assert_false(can_connect(&server, ",\"nkey_seed\":\"env:TIDE_TEST_SEED_REF\""));
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_null(strstr(err.message, "SUAE"));
	test_server_free(&server);
}

static void
bad_seeds(void **state)
{
	char key[TIDE_NKEY_PUBLIC_SIZE];
	char text[80];

	(void) state;
	assert_false(tide_nkey_public("", key));
	assert_false(tide_nkey_public("SU", key));
	for (size_t i = 0; i < strlen(SEED); i++)
	{
		snprintf(text, sizeof(text), "%s", SEED);
		text[i] = text[i] == 'A' ? 'B' : 'A';
		assert_false(tide_nkey_public(text, key));
		text[i] = '!';
		assert_false(tide_nkey_public(text, key));
		text[i] = '\0';
		assert_false(tide_nkey_public(text, key));
	}
}

static void
token_and_password(void **state)
{
	TestServer server;

	(void) state;
	setenv("TIDE_TEST_SECRET", "s3cret", 1);
	test_server_new(&server, NULL, "authorization { token: s3cret }\n");
	assert_true(can_connect(&server, ",\"token\":\"env:TIDE_TEST_SECRET\""));
	assert_false(can_connect(&server, "%s", ""));
	assert_int_equal(err.class, TIDE_ERR_AUTH);
	setenv("TIDE_TEST_SECRET", "other", 1);
	assert_false(can_connect(&server, ",\"token\":\"env:TIDE_TEST_SECRET\""));
	assert_int_equal(err.class, TIDE_ERR_AUTH);
	assert_null(strstr(err.message, "other"));
	test_server_free(&server);

	test_server_new(&server, NULL, "authorization { user: tide, password: other }\n");
	assert_true(can_connect(&server, ",\"user\":\"tide\",\"password\":\"env:TIDE_TEST_SECRET\""));
	unsetenv("TIDE_TEST_SECRET");
	assert_false(can_connect(&server, ",\"user\":\"tide\",\"password\":\"env:TIDE_TEST_SECRET\""));
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	test_server_free(&server);
}

static void __attribute__((format(printf, 1, 2))) run(const char *fmt, ...)
{
	char command[900];
	va_list args;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

/* A certificate for name, signed by the authority made before. */
static void
make_certificate(const char *dir, const char *file, const char *name)
{
	run("cd %s && openssl req -newkey rsa:2048 -nodes -keyout %s.key -out %s.csr -subj /CN=%s"
		" 2>/dev/null && printf 'subjectAltName=DNS:%s\\n' > %s.ext && openssl x509 -req -in %s.csr"
		" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile %s.ext -out %s.pem 2>/dev/null",
		dir, file, file, name, name, file, file, file, file);
}

static void
tls(void **state)
{
	TestServer server;
	char dir[] = "/tmp/tide_tls_XXXXXX";
	char more[500];

	(void) state;
	assert_non_null(mkdtemp(dir));
	run("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2"
		" -subj /CN=test-ca 2>/dev/null",
		dir);
	make_certificate(dir, "server", "localhost");
	make_certificate(dir, "client", "relay");
	snprintf(more, sizeof(more),
			 "tls { cert_file: \"%s/server.pem\", key_file: \"%s/server.key\","
			 " ca_file: \"%s/ca.pem\", verify: true }\n",
			 dir, dir, dir);
	test_server_new(&server, NULL, more);
#define OURS                                                              \
	",\"tls_ca_file\":\"%s/ca.pem\",\"tls_cert_file\":\"%s/client.pem\"," \
	"\"tls_key_file\":\"%s/client.key\""
	assert_true(can_connect(&server, OURS, dir, dir, dir));

	/* Another name than the certificate's. */
	assert_false(can_connect(&server, OURS ",\"tls_server_name\":\"elsewhere\"", dir, dir, dir));
	assert_int_equal(err.class, TIDE_ERR_AUTH);
	/* An authority nobody knows. */
	assert_false(can_connect(&server,
							 ",\"tls\":true,\"tls_cert_file\":\"%s/client.pem\","
							 "\"tls_key_file\":\"%s/client.key\"",
							 dir, dir));
	assert_int_equal(err.class, TIDE_ERR_AUTH);
	/* No certificate of our own, no TLS at all, a file that is not there. */
	assert_false(can_connect(&server, ",\"tls_ca_file\":\"%s/ca.pem\"", dir));
	assert_false(can_connect(&server, "%s", ""));
	assert_int_equal(err.class, TIDE_ERR_AUTH);
	assert_false(can_connect(&server, ",\"tls_ca_file\":\"%s/nothing.pem\"", dir));
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	test_server_free(&server);
	run("rm -rf '%s'", dir);
}

static void
one_of_several_servers(void **state)
{
	TestServer server;
	TideNats *nats = NULL;
	json_t *config;

	(void) state;
	test_server_new(&server, NULL, "");
	config = json_pack("{s:o}", "url",
					   json_sprintf("nats://127.0.0.1:%d, nats://u:p@127.0.0.1:%d",
									test_free_port(), server.port));
	ASSERT_OK(tide_nats_open(config, "test", NULL, &nats, &err));
	assert_null(strstr(tide_nats_url(nats), "u:p"));
	assert_non_null(strstr(tide_nats_url(nats), "127.0.0.1"));
	tide_nats_close(nats);
	json_decref(config);
	test_server_free(&server);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nkeys),
		cmocka_unit_test(bad_seeds),
		cmocka_unit_test(token_and_password),
		cmocka_unit_test(tls),
		cmocka_unit_test(one_of_several_servers),
	};
	int failed;

	if (!test_have_server())
	{
		printf("1..0 # SKIP no nats-server in PATH\n");
		return 0;
	}
	tide_home = &test_home_ops;
	failed = cmocka_run_group_tests_name("relay_nats_login", tests, NULL, NULL);
	tide_nats_shutdown();
	return failed;
}
