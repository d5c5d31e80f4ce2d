/*
 * inbox_limit.c
 *		How fast one connection can put events into an inbox when nothing else is to be done.
 *
 * Owns: the references that the pipelines are measured against.  Events are
 * read from an outbox first and packed into binary arrays, batch by batch; only
 * then the clock starts, and one connection sends batch after batch.
 *
 * usage: inbox_limit SOURCE-CONNINFO DESTINATION-CONNINFO OUTBOX INBOX BATCH-SIZE
 * Prints two numbers, events per second: tide.inbox_receive, and a plain INSERT
 * into a table of the same columns with one unique index.
 */
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pg.h"

/* Columns of what is read, and of the arrays that are sent. */
enum
{
	C_ID,
	C_ENTITY,
	C_OP,
	C_KEY,
	C_PAYLOAD,
	C_HEADERS,
	C_PUBLISHED,
	N_COLUMNS
};

enum
{
	A_IDS,
	A_ORIGINS,
	A_OUTBOXES,
	A_ENTITIES,
	A_OPS,
	A_KEYS,
	A_PAYLOADS,
	A_HEADERS,
	A_PUBLISHED,
	A_COMMITTED,
	N_ARRAYS
};

static const TideArrayType array_types[N_ARRAYS] = {
	TIDE_ARRAY_TEXT, TIDE_ARRAY_TEXT,  TIDE_ARRAY_TEXT,	 TIDE_ARRAY_TEXT, TIDE_ARRAY_TEXT,
	TIDE_ARRAY_TEXT, TIDE_ARRAY_JSONB, TIDE_ARRAY_JSONB, TIDE_ARRAY_INT8, TIDE_ARRAY_INT8};

typedef struct Batch
{
	TideArray *arrays[N_ARRAYS];
} Batch;

#define READ_EVENTS                                        \
	"SELECT event_id, entity, op, key, payload, headers, " \
	"(extract(epoch FROM published_at) * 1000000)::bigint FROM tide.%s ORDER BY seq"
#define RECEIVE                                                                                       \
	"SELECT tide.inbox_receive($11, 'limit', 1, 'limit-region', $1::text[], $2::text[], $3::text[], " \
	"$4::text[], $5::text[], $6::text[], $7::jsonb[], $8::jsonb[], $9::int8[], $10::int8[], NULL)"
#define CREATE_PLAIN                                                                                \
	"DROP TABLE IF EXISTS public.plain_inbox; CREATE TABLE public.plain_inbox (event_id text "      \
	"COLLATE \"C\" PRIMARY KEY, origin text, outbox text, entity text, op text, key text, payload " \
	"jsonb, headers jsonb, published_us int8, committed_us int8)"
#define INSERT_PLAIN                                                                           \
	"INSERT INTO public.plain_inbox SELECT * FROM unnest($1::text[], $2::text[], $3::text[], " \
	"$4::text[], $5::text[], $6::text[], $7::jsonb[], $8::jsonb[], $9::int8[], $10::int8[])"

static PGconn *
connect_to(const char *conninfo)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "inbox_limit: %s", PQerrorMessage(conn));
		exit(1);
	}
	return conn;
}

static void
expect(PGconn *conn, PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "inbox_limit: %s", PQerrorMessage(conn));
		exit(1);
	}
	PQclear(res);
}

static void
add(Batch *batch, int array, const PGresult *res, int row, int col)
{
	tide_array_add(batch->arrays[array],
				   PQgetisnull(res, row, col) ? NULL : PQgetvalue(res, row, col),
				   (size_t) PQgetlength(res, row, col));
}

static void
add_event(Batch *batch, const PGresult *res, int row)
{
	int64_t published = strtoll(PQgetvalue(res, row, C_PUBLISHED), NULL, 10);

	add(batch, A_IDS, res, row, C_ID);
	tide_array_add(batch->arrays[A_ORIGINS], "us-east", 7);
	tide_array_add(batch->arrays[A_OUTBOXES], "bench", 5);
	add(batch, A_ENTITIES, res, row, C_ENTITY);
	add(batch, A_OPS, res, row, C_OP);
	add(batch, A_KEYS, res, row, C_KEY);
	add(batch, A_PAYLOADS, res, row, C_PAYLOAD);
	add(batch, A_HEADERS, res, row, C_HEADERS);
	tide_array_add_int8(batch->arrays[A_PUBLISHED], published);
	tide_array_add_int8(batch->arrays[A_COMMITTED], published);
}

static Batch *
read_batches(PGconn *conn, const char *outbox, int batch_size, int *n_events, int *n_batches)
{
	char query[512];
	PGresult *res;
	Batch *batches;

	snprintf(query, sizeof(query), READ_EVENTS, outbox);
	res = PQexec(conn, query);
	*n_events = PQntuples(res);
	*n_batches = (*n_events + batch_size - 1) / batch_size;
	batches = calloc((size_t) *n_batches + 1, sizeof(Batch));
	for (int i = 0; i < *n_batches; i++)
	{
		int end = (i + 1) * batch_size < *n_events ? (i + 1) * batch_size : *n_events;

		for (int a = 0; a < N_ARRAYS; a++)
			batches[i].arrays[a] = tide_array_new(array_types[a], (size_t) batch_size);
		for (int row = i * batch_size; row < end; row++)
			add_event(&batches[i], res, row);
	}
	expect(conn, res);
	return batches;
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static double
send_all(PGconn *conn, const char *name, Batch *batches, int n_batches, const char *inbox)
{
	double start = now();

	for (int i = 0; i < n_batches; i++)
	{
		const char *values[N_ARRAYS + 1];
		int lengths[N_ARRAYS + 1] = {0};
		int formats[N_ARRAYS + 1] = {0};

		for (int a = 0; a < N_ARRAYS; a++)
		{
			values[a] = tide_array_data(batches[i].arrays[a], &lengths[a]);
			formats[a] = 1;
		}
		values[N_ARRAYS] = inbox;
		expect(conn, PQexecPrepared(conn, name, inbox ? N_ARRAYS + 1 : N_ARRAYS, values, lengths,
									formats, 1));
	}
	return now() - start;
}

static void
free_batches(Batch *batches, int n_batches)
{
	for (int i = 0; i < n_batches; i++)
	{
		for (int a = 0; a < N_ARRAYS; a++)
			tide_array_free(batches[i].arrays[a]);
	}
	free(batches);
}

int
main(int argc, char **argv)
{
	PGconn *source;
	PGconn *dest;
	Batch *batches;
	int n_events;
	int n_batches;
	double receive;
	double plain;

	if (argc != 6)
	{
		fprintf(stderr, "usage: inbox_limit SOURCE DESTINATION OUTBOX-VIEW INBOX BATCH-SIZE\n");
		return 2;
	}
	source = connect_to(argv[1]);
	dest = connect_to(argv[2]);
	batches = read_batches(source, argv[3], (int) strtol(argv[5], NULL, 10), &n_events, &n_batches);
	expect(dest, PQexec(dest, CREATE_PLAIN));
	expect(dest, PQprepare(dest, "receive", RECEIVE, 0, NULL));
	expect(dest, PQprepare(dest, "plain", INSERT_PLAIN, 0, NULL));
	expect(dest, PQexec(dest, "CHECKPOINT"));
	receive = send_all(dest, "receive", batches, n_batches, argv[4]);
	expect(dest, PQexec(dest, "CHECKPOINT"));
	plain = send_all(dest, "plain", batches, n_batches, NULL);
	printf("%.0f %.0f\n", n_events / receive, n_events / plain);
	free_batches(batches, n_batches);
	PQfinish(source);
	PQfinish(dest);
	return 0;
}
