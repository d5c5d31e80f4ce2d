/*
 * wal_stream.c
 *		PostgreSQL's replication protocol: slots, and reading what pgoutput decodes.
 *
 * The messages are those of "Streaming Replication Protocol" in PostgreSQL's
 * manual: 'w' (data) and 'k' (keepalive) come, 'r' (status) goes.  Times in them are
 * microseconds since 2000.
 */
#include "wal_stream.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mem.h"
#include "queries.h"
#include "tide_buf.h"
#include "tide_frame.h"

#define EPOCH_2000_US INT64_C(946684800000000)

#define STATUS_MS 1000			/* at most this long between two updates */
#define MIN_STATUS_MS 50		/* however short the server's patience is */
#define CONFIRM_MS 100			/* a confirmed position that moves is told this often at most */
#define ASK_AFTER_MS 10000		/* silent for so long: ask for a sign of life */
#define SILENCE_MS 60000		/* ... and so long is too long */
#define REST_BYTES (16 << 10)	/* so much wakes one who rests ... */
#define REST_MS 4				/* ... or this time */
#define LOCAL_REST_MS 30		/* on one machine: this time only */
#define LOCAL_BUFFER (64 << 10) /* the kernel doubles it */
#define DATA_HEADER 25			/* 'w', start, end, time */
#define KEEPALIVE_LENGTH 18		/* 'k', end, time, reply wanted */

struct TideWal
{
	TidePg *pg;
	int status_ms;
	bool reply_wanted;
	bool same_host;
	bool resting;  /* what comes wakes nobody */
	int wake_at;   /* see tide_wal_rest() */
	uint64_t told; /* confirmed, as the server knows */
	long long told_at;
	bool heard; /* something came since the last status */
	long long heard_at;
};

/* ---- connecting, commands ---- */

/* The server's words about replication get the hint that helps. */
static bool
explain(TideError *err)
{
	if (err == NULL)
		return false;
	if (strcmp(err->code, "42501") == 0)
		tide_error_hint(err, "give the role that the connection string names the attribute: ALTER "
							 "ROLE ... REPLICATION");
	else if (strcmp(err->code, "53300") == 0)
		tide_error_hint(err, "raise max_wal_senders (and max_connections) of that server");
	else if (strcmp(err->code, "53400") == 0)
		tide_error_hint(err, "raise max_replication_slots of that server, or drop slots that "
							 "nobody uses (pg_replication_slots)");
	else if (strcmp(err->code, "55000") == 0)
		tide_error_hint(err, "set wal_level = logical on that server and restart it");
	return false;
}

static bool
prepare_session(TideWal *wal, TideError *err)
{
	PGresult *res;
	long long timeout;

	if (!tide_pg_command(wal->pg, tide_q_wal_session, -1, &res, err))
		return false;
	timeout = tide_pg_int64(res, 0, 0);
	PQclear(res);
	wal->status_ms = STATUS_MS;
	if (timeout > 0 && timeout / 4 < STATUS_MS)
		wal->status_ms = timeout / 4 > MIN_STATUS_MS ? (int) (timeout / 4) : MIN_STATUS_MS;
	return true;
}

bool
tide_wal_open(const char *conninfo, const char *what, const TideStop *stop, TideWal **result,
			  TideError *err)
{
	TideWal *wal = tide_zalloc(sizeof(*wal));

	*result = NULL;
	if (tide_pg_open_replication(conninfo, what, stop, &wal->pg, err) && prepare_session(wal, err))
	{
		*result = wal;
		return true;
	}
	tide_wal_close(wal);
	return explain(err);
}

void
tide_wal_close(TideWal *wal)
{
	if (wal == NULL)
		return;
	tide_pg_close(wal->pg);
	free(wal);
}

bool
tide_wal_identify(TideWal *wal, TideWalIdentity *identity, TideError *err)
{
	PGresult *res;

	if (!tide_pg_command(wal->pg, "IDENTIFY_SYSTEM", -1, &res, err))
		return false;
	identity->system_id = strtoull(PQgetvalue(res, 0, 0), NULL, 10);
	identity->timeline = (uint32_t) tide_pg_int64(res, 0, 1);
	identity->wal_end = tide_pg_lsn(res, 0, 2);
	PQclear(res);
	return true;
}

/* Quotes as SQL does: the quote doubled. */
static void
append_quoted(TideBuf *out, const char *text, char quote)
{
	tide_buf_append_char(out, quote);
	for (const char *s = text; *s != '\0'; s++)
	{
		if (*s == quote)
			tide_buf_append_char(out, quote);
		tide_buf_append_char(out, *s);
	}
	tide_buf_append_char(out, quote);
}

bool
tide_wal_create_slot(TideWal *wal, const char *name, bool temporary, int timeout_ms,
					 TideWalSlot *slot, TideError *err)
{
	TideBuf sql;
	PGresult *res;
	bool ok;

	tide_buf_init(&sql);
	tide_buf_append_str(&sql, "CREATE_REPLICATION_SLOT ");
	append_quoted(&sql, name, '"');
	tide_buf_printf(&sql, "%s LOGICAL pgoutput (SNAPSHOT 'export')", temporary ? " TEMPORARY" : "");
	ok = tide_pg_command(wal->pg, tide_buf_cstr(&sql), timeout_ms, &res, err);
	tide_buf_free(&sql);
	if (!ok)
	{
		/* It would go on waiting, and keep the slot. */
		tide_pg_cancel(wal->pg);
		return explain(err);
	}
	slot->position = tide_pg_lsn(res, 0, 1);
	snprintf(slot->snapshot, sizeof(slot->snapshot), "%s", PQgetvalue(res, 0, 2));
	PQclear(res);
	return true;
}

bool
tide_wal_drop_slot(TideWal *wal, const char *name, TideError *err)
{
	TideBuf sql;
	TideError local;
	bool ok;

	if (err == NULL)
		err = &local;
	tide_buf_init(&sql);
	tide_buf_append_str(&sql, "DROP_REPLICATION_SLOT ");
	append_quoted(&sql, name, '"');
	ok = tide_pg_command(wal->pg, tide_buf_cstr(&sql), -1, NULL, err);
	tide_buf_free(&sql);
	if (ok || strcmp(err->code, "42704") != 0)
		return ok;
	tide_error_clear(err);
	return true;
}

/* ---- streaming ---- */

/* publication_names is a list of identifiers inside a literal. */
static void
append_publications(TideBuf *sql, const char *publications)
{
	tide_buf_append_str(sql, "publication_names '\"");
	for (const char *s = publications; *s != '\0'; s++)
	{
		if (*s == ',')
			tide_buf_append_str(sql, "\",\"");
		else if (*s != ' ')
			tide_buf_append_char(sql, *s);
	}
	tide_buf_append_str(sql, "\"'");
}

/* Is the server on this machine, reached by TCP? */
static bool
same_host(int sock)
{
	union
	{
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} here = {0}, there = {0};
	socklen_t here_len = sizeof(here);
	socklen_t there_len = sizeof(there);

	if (getsockname(sock, &here.sa, &here_len) != 0 ||
		getpeername(sock, &there.sa, &there_len) != 0 || here.sa.sa_family != there.sa.sa_family)
		return false;
	if (here.sa.sa_family == AF_INET)
		return here.in.sin_addr.s_addr == there.in.sin_addr.s_addr;
	return here.sa.sa_family == AF_INET6 &&
		   memcmp(&here.in6.sin6_addr, &there.in6.sin6_addr, sizeof(struct in6_addr)) == 0;
}

/*
 * The server sends each message by itself; what joins small ones into larger packets, which
 * cost both sides far less, is a network card that is busy or a window that is shut.  On one
 * machine there is no card, so the window has to do it: a small buffer that is not emptied
 * at once.  Not smaller than the window was at first: a sender that has packets of half of
 * that ready, and never room for one, sends only when its timer makes it.
 */
static void
fit_buffer(TideWal *wal)
{
	int size = LOCAL_BUFFER;

	wal->same_host = same_host(tide_wal_socket(wal));
	if (wal->same_host)
		(void) setsockopt(tide_wal_socket(wal), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

/* Commits over there may wait for us, by this name: no other walsender has it, as slots have one reader. */
static bool
take_name(TideWal *wal, const char *slot, TideError *err)
{
	TideBuf sql;
	bool ok;

	tide_buf_init(&sql);
	tide_buf_append_str(&sql, "SET application_name = ");
	append_quoted(&sql, slot, '\'');
	ok = tide_pg_command(wal->pg, tide_buf_cstr(&sql), -1, NULL, err);
	tide_buf_free(&sql);
	return ok;
}

bool
tide_wal_start(TideWal *wal, const TideWalStart *start, TideError *err)
{
	char lsn[TIDE_LSN_TEXT];
	TideBuf sql;
	bool ok;

	if (start->standby && !take_name(wal, start->slot, err))
		return false;
	tide_lsn_format(start->position, lsn);
	tide_buf_init(&sql);
	tide_buf_append_str(&sql, "START_REPLICATION SLOT ");
	append_quoted(&sql, start->slot, '"');
	tide_buf_printf(&sql, " LOGICAL %s (proto_version '1', ", lsn);
	append_publications(&sql, start->publications);
	tide_buf_append_str(&sql, ", binary 'true', messages 'true'");
	if (start->only_local)
		tide_buf_append_str(&sql, ", origin 'none'");
	tide_buf_append_str(&sql, ")");
	ok = tide_pg_copy_start(wal->pg, tide_buf_cstr(&sql), err);
	tide_buf_free(&sql);
	wal->told_at = wal->heard_at = tide_monotonic_ms();
	wal->wake_at = 1;
	fit_buffer(wal);
	return ok ? ok : explain(err);
}

/* One message of the stream; false if it is none that is known. */
static bool
understand(TideWal *wal, const char *data, size_t len, TideWalMessage *message)
{
	TideCursor cursor;

	if (len < 1)
		return false;
	tide_cursor_init(&cursor, data + 1, len - 1);
	if (data[0] == 'w' && len >= DATA_HEADER)
	{
		message->event = TIDE_WAL_DATA;
		(void) tide_read_u64(&cursor);
		message->wal_end = tide_read_u64(&cursor);
		message->sent_us = (int64_t) tide_read_u64(&cursor) + EPOCH_2000_US;
		message->data = data + DATA_HEADER;
		message->len = len - DATA_HEADER;
		return true;
	}
	if (data[0] == 'k' && len == KEEPALIVE_LENGTH)
	{
		message->event = TIDE_WAL_KEEPALIVE;
		message->wal_end = tide_read_u64(&cursor);
		message->sent_us = (int64_t) tide_read_u64(&cursor) + EPOCH_2000_US;
		wal->reply_wanted = wal->reply_wanted || tide_read_u8(&cursor) != 0;
		return true;
	}
	return false;
}

bool
tide_wal_read(TideWal *wal, TideWalMessage *message, TideError *err)
{
	TideCopyStep step;
	const char *data;
	size_t len;

	memset(message, 0, sizeof(*message));
	if (!tide_pg_copy_next(wal->pg, &step, &data, &len, err))
		return explain(err);
	switch (step)
	{
		case TIDE_COPY_WAIT:
			if (!wal->heard && tide_monotonic_ms() - wal->heard_at > SILENCE_MS)
				return tide_error(err, TIDE_ERR_TIMEOUT, "",
								  "the server has not sent anything for %d s", SILENCE_MS / 1000);
			return true;
		case TIDE_COPY_END:
			return tide_error(err, TIDE_ERR_UNAVAILABLE, "", "the server ended the stream");
		case TIDE_COPY_DATA:
			break;
	}
	wal->heard = true;
	if (understand(wal, data, len, message))
		return true;
	return tide_error(err, TIDE_ERR_INTERNAL, "", "the server sent a message that is not known");
}

void
tide_wal_release(TideWal *wal)
{
	tide_pg_copy_release(wal->pg);
}

static bool
send_status(TideWal *wal, uint64_t received, uint64_t confirmed, bool ask, TideError *err)
{
	char memory[40]; /* one byte, four numbers, one byte, and the buffer's NUL */
	TideBuf status;

	tide_buf_init_fixed(&status, memory, sizeof(memory));
	tide_write_u8(&status, 'r');
	tide_write_u64(&status, received > confirmed ? received : confirmed);
	tide_write_u64(&status, confirmed);
	tide_write_u64(&status, confirmed);
	tide_write_u64(&status, (uint64_t) (tide_wall_us() - EPOCH_2000_US));
	tide_write_u8(&status, ask ? 1 : 0);
	return tide_pg_copy_put(wal->pg, status.data, status.len, err);
}

bool
tide_wal_status_now(TideWal *wal, uint64_t received, uint64_t confirmed, TideError *err)
{
	wal->reply_wanted = true;
	return tide_wal_status(wal, received, confirmed, err);
}

bool
tide_wal_status(TideWal *wal, uint64_t received, uint64_t confirmed, TideError *err)
{
	long long now = tide_monotonic_ms();
	long long since = now - wal->told_at;
	bool moved = confirmed != wal->told && since >= CONFIRM_MS;

	if (wal->heard)
		wal->heard_at = now;
	wal->heard = false;
	if (!wal->reply_wanted && !moved && since < wal->status_ms)
		return true;
	wal->reply_wanted = false;
	wal->told = confirmed;
	wal->told_at = now;
	return send_status(wal, received, confirmed, now - wal->heard_at > ASK_AFTER_MS, err);
}

static void
wake_at(TideWal *wal, int bytes)
{
	if (wal->wake_at == bytes)
		return;
	wal->wake_at = bytes;
	(void) setsockopt(tide_wal_socket(wal), SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

int
tide_wal_rest(TideWal *wal, bool rest)
{
	wal->resting = rest && wal->same_host;
	wake_at(wal, rest && !wal->same_host ? REST_BYTES : 1);
	if (!rest)
		return -1;
	return wal->same_host ? LOCAL_REST_MS : REST_MS;
}

int
tide_wal_socket(const TideWal *wal)
{
	return PQsocket(tide_pg_conn(wal->pg));
}

short
tide_wal_poll_events(const TideWal *wal)
{
	short events = tide_pg_poll_events(wal->pg);

	return wal->resting ? (short) (events & ~POLLIN) : events;
}
