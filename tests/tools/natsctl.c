/*
 * natsctl.c
 *		What tests and the demo need to say to a NATS server, one command a run.
 *
 * Owns: publishing, subscribing, and the administration of streams and
 * consumers through JetStream's own JSON API.  Does not own: anything a user
 * needs; this is a tool of the tests.
 *
 * Answers are JSON on standard output.  Exit status: 0 done, 1 the server said
 * no (its answer is printed all the same), 2 wrong arguments, 3 no connection or no answer.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <nats/nats.h>

enum
{
	EXIT_REFUSED = 1,
	EXIT_USAGE = 2,
	EXIT_UNREACHABLE = 3
};

#define MAX_HEADERS 32

typedef struct Options
{
	const char *server;
	const char *user;
	const char *password;
	const char *token;
	const char *creds;
	const char *domain; /* JetStream domain; NULL: the server's own */
	const char *msg_id;
	const char *headers[MAX_HEADERS]; /* "Name: value" */
	int n_headers;
	int count;
	int timeout_ms;
	bool jetstream; /* publish and wait for the stream's acknowledgement */
	bool use_stdin; /* payload, or one payload a line, from standard input */
} Options;

typedef struct Session
{
	const Options *options;
	natsConnection *nc;
} Session;

typedef struct Command
{
	const char *name;
	int min_args;
	int max_args;
	const char *usage;
	const char *api; /* request subject with %s for each argument but a body; NULL: see run */
	int n_names;	 /* how many arguments go into api; one more is the body */
	int (*run)(const Session *session, const struct Command *command, int n_args, char **args);
} Command;

static int
fail(const char *what, natsStatus status)
{
	const char *detail = nats_GetLastError(NULL);

	fprintf(stderr, "natsctl: %s: %s%s%s\n", what, natsStatus_GetText(status),
			detail != NULL ? ": " : "", detail != NULL ? detail : "");
	return EXIT_UNREACHABLE;
}

/* ---- requests ---- */

/* Prints the reply; a JetStream error inside it is a refusal. */
static int
print_reply(natsMsg *reply)
{
	json_t *json = json_loadb(natsMsg_GetData(reply), (size_t) natsMsg_GetDataLength(reply), 0,
							  NULL);
	bool refused = json_object_get(json, "error") != NULL;

	printf("%.*s\n", natsMsg_GetDataLength(reply), natsMsg_GetData(reply));
	json_decref(json);
	return refused ? EXIT_REFUSED : 0;
}

static int
request(const Session *session, const char *subject, const char *body)
{
	natsMsg *reply = NULL;
	natsStatus status = natsConnection_RequestString(&reply, session->nc, subject, body,
													 session->options->timeout_ms);
	int result;

	if (status != NATS_OK)
		return fail(subject, status);
	result = print_reply(reply);
	natsMsg_Destroy(reply);
	return result;
}

static char *
read_stdin(void)
{
	size_t size = 65536;
	size_t len = 0;
	size_t got;
	char *text = malloc(size);

	while (text != NULL && (got = fread(text + len, 1, size - len - 1, stdin)) > 0)
	{
		char *more;

		len += got;
		if (size - len > 1)
			continue;
		size *= 2;
		more = realloc(text, size);
		if (more == NULL)
			free(text);
		text = more;
	}
	if (text == NULL)
		abort();
	text[len] = '\0';
	return text;
}

/* The body is the argument after the names, or standard input, or nothing. */
static int
run_api(const Session *session, const Command *command, int n_args, char **args)
{
	const Options *options = session->options;
	char tail[512];
	char subject[1024];
	char *from_stdin = options->use_stdin ? read_stdin() : NULL;
	const char *body = n_args > command->n_names ? args[command->n_names] : "";
	int result;

	snprintf(tail, sizeof(tail), command->api, args[0], command->n_names > 1 ? args[1] : "");
	if (options->domain != NULL)
		snprintf(subject, sizeof(subject), "$JS.%s.API.%s", options->domain, tail);
	else
		snprintf(subject, sizeof(subject), "$JS.API.%s", tail);
	result = request(session, subject, from_stdin != NULL ? from_stdin : body);
	free(from_stdin);
	return result;
}

static int
run_request(const Session *session, const Command *command, int n_args, char **args)
{
	(void) command;
	return request(session, args[0], n_args > 1 ? args[1] : "");
}

/* ---- publishing ---- */

/* Copies text with every "{n}" replaced by the message's number.  The caller frees. */
static char *
expand_number(const char *text, int number)
{
	size_t size = strlen(text) * 4 + 16;
	char *out = malloc(size);
	size_t len = 0;

	if (out == NULL)
		abort();
	while (*text != '\0')
	{
		if (strncmp(text, "{n}", 3) == 0)
		{
			len += (size_t) snprintf(out + len, size - len, "%d", number);
			text += 3;
		}
		else
			out[len++] = *text++;
	}
	out[len] = '\0';
	return out;
}

static natsStatus
add_headers(natsMsg *msg, const Options *options)
{
	natsStatus status = NATS_OK;

	for (int i = 0; i < options->n_headers && status == NATS_OK; i++)
	{
		const char *colon = strchr(options->headers[i], ':');
		char name[128];

		if (colon == NULL)
			return NATS_INVALID_ARG;
		snprintf(name, sizeof(name), "%.*s", (int) (colon - options->headers[i]),
				 options->headers[i]);
		colon++;
		while (*colon == ' ')
			colon++;
		status = natsMsgHeader_Add(msg, name, colon);
	}
	return status;
}

static natsStatus
send_to_stream(const Session *session, jsCtx *js, natsMsg *msg)
{
	jsPubAck *ack = NULL;
	jsErrCode code = 0;
	jsPubOptions pub_options;
	natsStatus status;

	jsPubOptions_Init(&pub_options);
	pub_options.MaxWait = session->options->timeout_ms;
	status = js_PublishMsg(&ack, js, msg, &pub_options, &code);
	if (status == NATS_OK)
		printf("{\"stream\":\"%s\",\"seq\":%llu,\"duplicate\":%s}\n", ack->Stream,
			   (unsigned long long) ack->Sequence, ack->Duplicate ? "true" : "false");
	jsPubAck_Destroy(ack);
	return status;
}

static natsStatus
send_one(const Session *session, jsCtx *js, const char *subject, const char *payload, int number)
{
	const Options *options = session->options;
	char *body = expand_number(payload, number);
	natsMsg *msg = NULL;
	natsStatus status = natsMsg_Create(&msg, subject, NULL, body, (int) strlen(body));

	if (status == NATS_OK)
		status = add_headers(msg, options);
	if (status == NATS_OK && options->msg_id != NULL)
	{
		char *id = expand_number(options->msg_id, number);

		status = natsMsgHeader_Set(msg, "Nats-Msg-Id", id);
		free(id);
	}
	if (status == NATS_OK)
		status = options->jetstream ? send_to_stream(session, js, msg)
									: natsConnection_PublishMsg(session->nc, msg);
	natsMsg_Destroy(msg);
	free(body);
	return status;
}

/* One message a line. */
static natsStatus
send_lines(const Session *session, jsCtx *js, const char *subject)
{
	char *line = NULL;
	size_t size = 0;
	int number = 0;
	natsStatus status = NATS_OK;

	while (status == NATS_OK && getline(&line, &size, stdin) >= 0)
	{
		line[strcspn(line, "\n")] = '\0';
		status = send_one(session, js, subject, line, ++number);
	}
	free(line);
	return status;
}

static int
run_pub(const Session *session, const Command *command, int n_args, char **args)
{
	const Options *options = session->options;
	jsOptions js_options;
	jsCtx *js = NULL;
	natsStatus status;

	(void) command;
	jsOptions_Init(&js_options);
	js_options.Domain = options->domain;
	status = natsConnection_JetStream(&js, session->nc, &js_options);
	if (status == NATS_OK && options->use_stdin)
		status = send_lines(session, js, args[0]);
	for (int i = 1; status == NATS_OK && !options->use_stdin && i <= options->count; i++)
		status = send_one(session, js, args[0], n_args > 1 ? args[1] : "", i);
	if (status == NATS_OK)
		status = natsConnection_FlushTimeout(session->nc, options->timeout_ms);
	jsCtx_Destroy(js);
	return status == NATS_OK ? 0 : fail(args[0], status);
}

/* ---- subscribing ---- */

static json_t *
headers_as_json(natsMsg *msg)
{
	const char **keys = NULL;
	int n_keys = 0;
	json_t *headers = json_object();

	if (natsMsgHeader_Keys(msg, &keys, &n_keys) != NATS_OK)
		return headers;
	for (int i = 0; i < n_keys; i++)
	{
		const char *value = NULL;

		if (natsMsgHeader_Get(msg, keys[i], &value) == NATS_OK)
			json_object_set_new(headers, keys[i], json_string(value));
	}
	free((void *) keys);
	return headers;
}

/* One line of JSON a message, as it comes. */
static void
print_message(natsMsg *msg)
{
	json_t *json = json_object();

	json_object_set_new(json, "subject", json_string(natsMsg_GetSubject(msg)));
	json_object_set_new(json, "data",
						json_stringn(natsMsg_GetData(msg), (size_t) natsMsg_GetDataLength(msg)));
	json_object_set_new(json, "headers", headers_as_json(msg));
	json_dumpf(json, stdout, JSON_COMPACT);
	printf("\n");
	fflush(stdout);
	json_decref(json);
}

static int
run_sub(const Session *session, const Command *command, int n_args, char **args)
{
	natsSubscription *sub = NULL;
	natsStatus status = natsConnection_SubscribeSync(&sub, session->nc, args[0]);

	(void) command;
	(void) n_args;
	if (status == NATS_OK)
		status = natsConnection_FlushTimeout(session->nc, session->options->timeout_ms);
	if (status == NATS_OK)
		fprintf(stderr, "subscribed\n");
	for (int i = 0; i < session->options->count && status == NATS_OK; i++)
	{
		natsMsg *msg = NULL;

		status = natsSubscription_NextMsg(&msg, sub, session->options->timeout_ms);
		if (status == NATS_OK)
			print_message(msg);
		natsMsg_Destroy(msg);
	}
	natsSubscription_Destroy(sub);
	return status == NATS_OK ? 0 : fail(args[0], status);
}

/* ---- command line ---- */

static const Command commands[] = {
	{"pub", 1, 2, "SUBJECT [PAYLOAD]   ({n} is the message's number)", NULL, 0, run_pub},
	{"sub", 1, 1, "SUBJECT   (ends after --count messages)", NULL, 0, run_sub},
	{"request", 1, 2, "SUBJECT [BODY]", NULL, 0, run_request},
	{"account-info", 0, 0, "", "INFO", 0, run_api},
	{"stream-info", 1, 2, "STREAM [JSON]", "STREAM.INFO.%s", 1, run_api},
	{"stream-names", 0, 0, "", "STREAM.NAMES", 0, run_api},
	{"stream-create", 1, 2, "STREAM [JSON]", "STREAM.CREATE.%s", 1, run_api},
	{"stream-update", 1, 2, "STREAM [JSON]", "STREAM.UPDATE.%s", 1, run_api},
	{"stream-delete", 1, 1, "STREAM", "STREAM.DELETE.%s", 1, run_api},
	{"stream-purge", 1, 2, "STREAM [JSON]", "STREAM.PURGE.%s", 1, run_api},
	{"msg-get", 2, 2, "STREAM JSON   ({\"seq\": N})", "STREAM.MSG.GET.%s", 1, run_api},
	{"consumer-names", 1, 1, "STREAM", "CONSUMER.NAMES.%s", 1, run_api},
	{"consumer-info", 2, 2, "STREAM CONSUMER", "CONSUMER.INFO.%s.%s", 2, run_api},
	{"consumer-create", 2, 3, "STREAM CONSUMER [JSON]", "CONSUMER.DURABLE.CREATE.%s.%s", 2,
	 run_api},
	{"consumer-delete", 2, 2, "STREAM CONSUMER", "CONSUMER.DELETE.%s.%s", 2, run_api},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int
usage(void)
{
	fprintf(stderr, "usage: natsctl [OPTION]... COMMAND ARGUMENT...\n"
					"options: --server URL --user U --password P --token T --creds FILE\n"
					"  --domain D --msg-id ID --header 'NAME: VALUE' --count N --timeout MS\n"
					"  --js (wait for the stream's acknowledgement) --stdin\n"
					"commands:\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(stderr, "  %s %s\n", commands[i].name, commands[i].usage);
	return EXIT_USAGE;
}

static int
positive(const char *text)
{
	long number = strtol(text, NULL, 10);

	return number > 0 && number < 1000000000 ? (int) number : 1;
}

static bool
set_option(Options *o, int letter, const char *value)
{
	const char **texts[] = {
		['s'] = &o->server, ['u'] = &o->user,	['p'] = &o->password, ['t'] = &o->token,
		['c'] = &o->creds,	['d'] = &o->domain, ['i'] = &o->msg_id,
	};

	if (letter == 'h' && o->n_headers < MAX_HEADERS)
		o->headers[o->n_headers++] = value;
	else if (letter == 'n')
		o->count = positive(value);
	else if (letter == 'w')
		o->timeout_ms = positive(value);
	else if (letter == 'j')
		o->jetstream = true;
	else if (letter == 'I')
		o->use_stdin = true;
	else if (letter > 'I' && letter <= 'u' && texts[letter] != NULL)
		*texts[letter] = value;
	else
		return false;
	return true;
}

static bool
parse_options(Options *options, int argc, char **argv)
{
	static const struct option names[] = {{"server", required_argument, NULL, 's'},
										  {"user", required_argument, NULL, 'u'},
										  {"password", required_argument, NULL, 'p'},
										  {"token", required_argument, NULL, 't'},
										  {"creds", required_argument, NULL, 'c'},
										  {"domain", required_argument, NULL, 'd'},
										  {"msg-id", required_argument, NULL, 'i'},
										  {"header", required_argument, NULL, 'h'},
										  {"count", required_argument, NULL, 'n'},
										  {"timeout", required_argument, NULL, 'w'},
										  {"js", no_argument, NULL, 'j'},
										  {"stdin", no_argument, NULL, 'I'},
										  {NULL, 0, NULL, 0}};
	int letter;

	while ((letter = getopt_long(argc, argv, "+", names, NULL)) != -1)
	{
		if (!set_option(options, letter, optarg))
			return false;
	}
	return true;
}

static natsStatus
apply_credentials(natsOptions *nats, const Options *options)
{
	natsStatus status = natsOptions_SetURL(nats, options->server);

	if (status == NATS_OK && options->user != NULL)
		status = natsOptions_SetUserInfo(nats, options->user, options->password);
	if (status == NATS_OK && options->token != NULL)
		status = natsOptions_SetToken(nats, options->token);
	if (status == NATS_OK && options->creds != NULL)
		status = natsOptions_SetUserCredentialsFromFiles(nats, options->creds, NULL);
	if (status == NATS_OK)
		status = natsOptions_SetAllowReconnect(nats, false);
	if (status == NATS_OK)
		status = natsOptions_SetTimeout(nats, options->timeout_ms);
	return status;
}

static int
run_command(const Options *options, const Command *command, int n_args, char **args)
{
	Session session = {.options = options};
	natsOptions *nats = NULL;
	natsStatus status = natsOptions_Create(&nats);
	int result;

	if (status == NATS_OK)
		status = apply_credentials(nats, options);
	if (status == NATS_OK)
		status = natsConnection_Connect(&session.nc, nats);
	if (status == NATS_OK)
		result = command->run(&session, command, n_args, args);
	else
		result = fail(options->server, status);
	natsConnection_Destroy(session.nc);
	natsOptions_Destroy(nats);
	nats_Close();
	return result;
}

int
main(int argc, char **argv)
{
	Options options = {.server = "nats://127.0.0.1:4222", .count = 1, .timeout_ms = 5000};

	if (!parse_options(&options, argc, argv) || optind >= argc)
		return usage();
	for (size_t i = 0; i < N_COMMANDS; i++)
	{
		int n_args = argc - optind - 1;

		if (strcmp(commands[i].name, argv[optind]) != 0)
			continue;
		if (n_args < commands[i].min_args || n_args > commands[i].max_args)
			return usage();
		return run_command(&options, &commands[i], n_args, argv + optind + 1);
	}
	return usage();
}
