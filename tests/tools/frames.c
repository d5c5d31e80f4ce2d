/*
 * frames.c
 *		Makes frames of pgoutput's messages, and shows what is in frames.
 *
 * Owns: text in, text out around tide_capture.h and tide_frame.h, so that a test
 * in SQL can feed tide.apply without a relay.  Does not own: where messages come
 * from; psql prints them, one a line:
 *
 *	SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, 'proto_version', '1',
 *		'publication_names', 'p', 'binary', 'true', 'messages', 'true')
 *
 * A line is hexadecimal, with or without \x before it; so is every frame that is
 * written (with \x).  Exit status: 0 done, 1 the input is damaged, 2 wrong arguments.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tide_capture.h"
#include "tide_text.h"

enum
{
	EXIT_DAMAGED = 1,
	EXIT_USAGE = 2
};

#define SHOWN ((size_t) 128) /* bytes of a value that are shown */

typedef struct Options
{
	const char *region;
	uint64_t start;
	uint64_t system_id;
	uint64_t wal_end;
	uint32_t timeline;
	int level;
	size_t max; /* bytes of records in a frame */
	int64_t built_us;
	int each;  /* a frame for each transaction */
	int empty; /* at the end a frame without records, for the position */
	int dump;
} Options;

typedef bool (*Handler)(void *context, const Options *options, const uint8_t *data, size_t len);

/* ---- input ---- */

/* Decodes a line into bytes, in place; false: not hexadecimal. */
static bool
decode_hex(char *line, size_t len, size_t *n)
{
	size_t at = len >= 2 && line[0] == '\\' && line[1] == 'x' ? 2 : 0;

	*n = 0;
	if ((len - at) % 2 != 0)
		return false;
	for (; at < len; at += 2)
	{
		int high = tide_hex_value(line[at]);
		int low = tide_hex_value(line[at + 1]);

		if (high < 0 || low < 0)
			return false;
		line[(*n)++] = (char) (high << 4 | low);
	}
	return true;
}

/* Calls the handler for each line that is not empty. */
static bool
each_line(Handler handler, void *context, const Options *options)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	int number = 0;
	bool ok = true;

	while (ok && (len = getline(&line, &cap, stdin)) >= 0)
	{
		size_t n;

		number++;
		while (len > 0 && tide_is_space(line[len - 1]))
			len--;
		if (len == 0)
			continue;
		ok = decode_hex(line, (size_t) len, &n);
		if (!ok)
			fprintf(stderr, "frames: not hexadecimal\n");
		ok = ok && handler(context, options, (const uint8_t *) line, n);
		if (!ok)
			fprintf(stderr, "frames: line %d\n", number);
	}
	free(line);
	return ok;
}

static void
print_hex(const void *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
	{
		putchar(digits[bytes[i] >> 4]);
		putchar(digits[bytes[i] & 15]);
	}
}

/* ---- making ---- */

/* Prints a frame of what there is; *made as in tide_capture_frame. */
static bool
print_frame(TideCapture *capture, const Options *options, bool partial, bool even_empty, bool *made)
{
	TideBuf frame;
	bool ok;

	tide_buf_init(&frame);
	ok = tide_capture_frame(capture, partial, even_empty, options->level, options->built_us,
							options->wal_end, &frame, made);
	if (!ok)
		fprintf(stderr, "frames: out of memory, or the frame is too large\n");
	else if (*made)
	{
		fputs("\\x", stdout);
		print_hex(frame.data, frame.len);
		putchar('\n');
	}
	tide_buf_free(&frame);
	return ok;
}

static bool
take_message(void *context, const Options *options, const uint8_t *data, size_t len)
{
	TideCapture *capture = context;
	const char *wrong = tide_capture_message(capture, data, len);
	bool made = true;
	bool ok = true;

	if (wrong != NULL)
	{
		fprintf(stderr, "frames: %s\n", wrong);
		return false;
	}
	if (options->each && tide_capture_transactions(capture) > 0)
		ok = print_frame(capture, options, false, false, &made);
	while (ok && made && tide_capture_size(capture) > options->max)
		ok = print_frame(capture, options, true, false, &made);
	return ok;
}

static bool
make_frames(const Options *options)
{
	TideCapture *capture = tide_capture_new(options->region, options->system_id, options->timeline,
											options->start);
	bool made = true;
	bool ok;

	if (capture == NULL)
	{
		fprintf(stderr, "frames: \"%s\" can't be a region's name\n", options->region);
		return false;
	}
	ok = each_line(take_message, capture, options);
	while (ok && made)
		ok = print_frame(capture, options, true, false, &made);
	if (ok && options->empty)
		ok = print_frame(capture, options, false, true, &made);
	tide_capture_free(capture);
	return ok;
}

/* ---- showing ---- */

static void
print_lsn(const char *name, uint64_t lsn)
{
	printf(" %s=%" PRIX32 "/%" PRIX32, name, (uint32_t) (lsn >> 32), (uint32_t) lsn);
}

static void
print_str(TideStr str)
{
	fwrite(str.data, 1, str.len, stdout);
}

/* Text in quotes, with what is not printable ASCII in hexadecimal. */
static void
print_text(const uint8_t *data, size_t len)
{
	putchar('"');
	for (size_t i = 0; i < len && i < SHOWN; i++)
	{
		if (data[i] >= ' ' && data[i] <= '~' && data[i] != '"' && data[i] != '\\')
			putchar(data[i]);
		else
			printf("\\x%02x", data[i]);
	}
	putchar('"');
	if (len > SHOWN)
		printf("... of %zu bytes", len);
}

static void
print_binary(const uint8_t *data, size_t len)
{
	print_hex(data, len < SHOWN ? len : SHOWN);
	if (len > SHOWN)
		printf("... of %zu bytes", len);
}

static void
print_tuple(TideCursor *payload, const char *what)
{
	TideValue values[TIDE_FRAME_MAX_COLUMNS];
	int n = tide_read_tuple(payload, values, TIDE_FRAME_MAX_COLUMNS);

	printf(" %s(", what);
	for (int i = 0; i < n; i++)
	{
		fputs(i > 0 ? ", " : "", stdout);
		switch (values[i].kind)
		{
			case 'n':
				fputs("null", stdout);
				break;
			case 'u':
				fputs("unchanged", stdout);
				break;
			case 't':
				print_text(values[i].data, values[i].len);
				break;
			default:
				print_binary(values[i].data, values[i].len);
		}
	}
	putchar(')');
}

static void
print_relation(TideCursor *payload)
{
	TideRelation relation;

	if (!tide_read_relation(*payload, &relation))
	{
		payload->bad = true;
		return;
	}
	payload->at = payload->end;
	printf(" %" PRIu32 " ", relation.relid);
	print_str(relation.schema);
	putchar('.');
	print_str(relation.name);
	printf(" fingerprint=%016" PRIx64 " replident=%c (", relation.fingerprint, relation.replident);
	for (int i = 0; i < relation.n_columns; i++)
	{
		TideColumn column;

		tide_read_column(&relation.columns, &column);
		fputs(i > 0 ? ", " : "", stdout);
		print_str(column.name);
		printf(" %" PRIu32, column.type);
		if (column.typmod != -1)
			printf("(%" PRId32 ")", column.typmod);
		if (column.type_name.len > 0)
		{
			putchar('=');
			print_str(column.type_schema);
			putchar('.');
			print_str(column.type_name);
		}
		fputs(column.key ? " key" : "", stdout);
	}
	putchar(')');
}

static void
print_change(char type, TideCursor *payload)
{
	uint8_t kind = 0;

	printf(" %" PRIu32, tide_read_u32(payload));
	if (type != 'I')
		kind = tide_read_u8(payload);
	if (kind != 0)
		print_tuple(payload, kind == 'K' ? "key" : "old");
	if (type != 'D')
		print_tuple(payload, "new");
}

static void
print_truncate(TideCursor *payload)
{
	uint8_t flags = tide_read_u8(payload);
	uint32_t n = tide_read_u32(payload);

	for (uint32_t i = 0; i < n && !payload->bad; i++)
		printf(" %" PRIu32, tide_read_u32(payload));
	printf("%s%s", flags & 1 ? " cascade" : "", flags & 2 ? " restart" : "");
}

/* One line; false if there is more or less in the record than belongs there. */
static bool
print_record(TideRecord *record)
{
	TideCursor *payload = &record->payload;

	putchar(record->type);
	switch (record->type)
	{
		case 'R':
			print_relation(payload);
			break;
		case 'B':
			print_lsn("lsn", tide_read_u64(payload));
			printf(" us=%" PRId64, (int64_t) tide_read_u64(payload));
			printf(" xid=%" PRIu32, tide_read_u32(payload));
			break;
		case 'I':
		case 'U':
		case 'D':
			print_change(record->type, payload);
			break;
		case 'T':
			print_truncate(payload);
			break;
		case 'H':
			printf(" us=%" PRId64, (int64_t) tide_read_u64(payload));
			break;
		case 'C':
			print_lsn("end", tide_read_u64(payload));
			break;
		default:
			payload->bad = true;
	}
	putchar('\n');
	return !payload->bad && payload->at == payload->end;
}

static void
print_header(const TideFrameHeader *header)
{
	printf("frame origin=%.*s", (int) header->origin_len, header->origin);
	print_lsn("start", header->start);
	print_lsn("end", header->end);
	print_lsn("wal_end", header->wal_end);
	printf(" system=%" PRIu64 " timeline=%" PRIu32 " built_us=%" PRId64, header->system_id,
		   header->timeline, header->built_us);
	printf(" transactions=%" PRIu32 " changes=%" PRIu32, header->n_transactions, header->n_changes);
	printf(" raw=%" PRIu32 " body=%" PRIu32 " level=%d%s%s%s\n", header->raw_len, header->body_len,
		   header->level, header->flags & TIDE_FRAME_ZSTD ? " zstd" : "",
		   header->flags & TIDE_FRAME_CONTINUES ? " continues" : "",
		   header->flags & TIDE_FRAME_OPEN ? " open" : "");
}

static bool
dump_frame(void *context, const Options *options, const uint8_t *data, size_t len)
{
	TideFrameHeader header;
	const uint8_t *body;
	const char *wrong = tide_frame_open(data, len, &header, &body);
	uint8_t *raw = NULL;
	TideCursor records;
	TideRecord record;

	(void) context;
	(void) options;
	if (wrong == NULL)
	{
		print_header(&header);
		raw = malloc((size_t) header.raw_len + 1);
		wrong = raw != NULL ? tide_frame_unpack(&header, body, raw) : "out of memory";
	}
	if (wrong == NULL)
	{
		tide_cursor_init(&records, raw, header.raw_len);
		while (wrong == NULL && tide_record_next(&records, &record))
		{
			if (!print_record(&record))
				wrong = "a record is damaged";
		}
		if (records.bad)
			wrong = "a record is longer than the frame";
	}
	if (wrong != NULL)
		fprintf(stderr, "frames: %s\n", wrong);
	free(raw);
	return wrong == NULL;
}

/* ---- arguments ---- */

static int
usage(void)
{
	fputs("usage: frames [OPTION]... < MESSAGES    (pgoutput's, hexadecimal, one a line)\n"
		  "       frames --dump < FRAMES\n"
		  "  --region=NAME       origin (default: origin)\n"
		  "  --start=LSN         position where the first frame begins (0/0)\n"
		  "  --system-id=N --timeline=N --wal-end=LSN --built-us=N\n"
		  "  --level=N           zstd's (0: not compressed)\n"
		  "  --max=BYTES         of records in a frame (no limit)\n"
		  "  --each              a frame for each transaction\n"
		  "  --empty             at the end a frame without records\n",
		  stderr);
	return EXIT_USAGE;
}

/* "X/Y" or a number. */
static bool
parse_lsn(const char *text, uint64_t *lsn)
{
	const char *slash = strchr(text, '/');
	char *end;
	unsigned long high;
	unsigned long low;

	if (slash == NULL)
		return tide_parse_u64(text, strlen(text), lsn);
	high = strtoul(text, &end, 16);
	if (end != slash || end == text || high > UINT32_MAX)
		return false;
	low = strtoul(slash + 1, &end, 16);
	*lsn = (uint64_t) high << 32 | low;
	return *end == '\0' && end > slash + 1 && low <= UINT32_MAX;
}

static bool
parse_option(int option, const char *text, Options *options)
{
	uint64_t number = 0;

	if (option == 'r')
	{
		options->region = text;
		return true;
	}
	if (!parse_lsn(text, &number))
		return false;
	switch (option)
	{
		case 's':
			options->start = number;
			return true;
		case 'y':
			options->system_id = number;
			return true;
		case 't':
			options->timeline = (uint32_t) number;
			return true;
		case 'w':
			options->wal_end = number;
			return true;
		case 'b':
			options->built_us = (int64_t) number;
			return true;
		case 'l':
			options->level = (int) number;
			return number <= 19;
		case 'm':
			options->max = (size_t) number;
			return true;
		default:
			return false;
	}
}

int
main(int argc, char **argv)
{
	struct timespec now;
	Options options = {.region = "origin", .timeline = 1, .max = SIZE_MAX};
	const struct option names[] = {
		{"region", required_argument, NULL, 'r'},	 {"start", required_argument, NULL, 's'},
		{"system-id", required_argument, NULL, 'y'}, {"timeline", required_argument, NULL, 't'},
		{"wal-end", required_argument, NULL, 'w'},	 {"built-us", required_argument, NULL, 'b'},
		{"level", required_argument, NULL, 'l'},	 {"max", required_argument, NULL, 'm'},
		{"each", no_argument, &options.each, 1},	 {"empty", no_argument, &options.empty, 1},
		{"dump", no_argument, &options.dump, 1},	 {NULL, 0, NULL, 0},
	};
	int option;
	bool ok;

	clock_gettime(CLOCK_REALTIME, &now);
	options.built_us = (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
	{
		if (option != 0 && !parse_option(option, optarg, &options))
			return usage();
	}
	if (optind < argc)
		return usage();
	ok = options.dump ? each_line(dump_frame, NULL, &options) : make_frames(&options);
	return ok ? 0 : EXIT_DAMAGED;
}
