/*
 * metrics.c
 *		Counters, gauges and latency histograms, in Prometheus' text format.
 *
 * Every family is described by a row of a table; the writer goes through the
 * tables.  Numbers are printed without the locale's help: the relay never sets
 * one, and the format wants a point.
 */
#include "metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

/* Upper bounds in microseconds, 250 us to 10 min, denser where the aims are. */
static const int64_t bucket_bounds[] = {
	250,	 500,	  1000,		2000,	  3000,		5000,	   7500,	  10000,
	15000,	 25000,	  50000,	100000,	  150000,	250000,	   500000,	  1000000,
	2500000, 5000000, 10000000, 30000000, 60000000, 120000000, 300000000, 600000000,
};

_Static_assert(N_ELEMENTS(bucket_bounds) == TIDE_HISTOGRAM_BUCKETS,
			   "one bound for each bucket but the last");

/* Which pipelines have a family: events and rows are counted apart. */
typedef enum Kind
{
	OF_EVENTS = 1, /* directions outbox, inbox and handler */
	OF_ROWS = 2,   /* link and rows */
	OF_ALL = OF_EVENTS | OF_ROWS
} Kind;

static const struct
{
	const char *name;
	const char *help;
	Kind kind;
} counter_families[TIDE_N_COUNTERS] = {
	[TIDE_EVENTS_READ] = {"events_read_total", "Published events taken from the source.",
						  OF_EVENTS},
	[TIDE_EVENTS_DELIVERED] = {"events_delivered_total", "Events stored at the sink.", OF_EVENTS},
	[TIDE_EVENTS_DEDUPLICATED] = {"events_deduplicated_total", "Events that the sink already had.",
								  OF_EVENTS},
	[TIDE_EVENTS_ECHOED] = {"events_echoed_total",
							"Events of this region's own making that came back and were dropped.",
							OF_EVENTS},
	[TIDE_EVENTS_FAILED] = {"events_failed_total",
							"Events that went to the dead letters; of a handler, failed attempts.",
							OF_EVENTS},
	[TIDE_EVENTS_RESENT] =
		{"events_resent_total",
		 "Events that the broker accepted, the destination missed, and the relay sent again.",
		 OF_EVENTS},
	[TIDE_EVENTS_CONFIRMED] = {"events_confirmed_total",
							   "Events known to be committed at the destination.", OF_EVENTS},
	[TIDE_BATCHES] = {"batches_total", "Batches delivered.", OF_EVENTS},
	[TIDE_BYTES] = {"bytes_total", "Payload bytes delivered.", OF_EVENTS},
	[TIDE_RETRIES] = {"retries_total", "Times the pipeline failed and started again.", OF_ALL},
	[TIDE_ROWS_APPLIED] = {"rows_applied_total", "Changes of rows that were written here.",
						   OF_ROWS},
	[TIDE_ROWS_KEPT] = {"rows_kept_total",
						"Changes that lost against the row that was here, or came again.", OF_ROWS},
	[TIDE_ROWS_SKIPPED] = {"rows_skipped_total",
						   "Changes of tables that are not taken here, or are in their copy.",
						   OF_ROWS},
	[TIDE_ROWS_PARKED] = {"rows_parked_total", "Changes that could not be applied.", OF_ROWS},
	[TIDE_ROW_TRANSACTIONS] = {"row_transactions_total", "Transactions of the origin applied.",
							   OF_ROWS},
	[TIDE_ROW_BYTES_RAW] = {"row_bytes_raw_total", "Bytes of changes before compression.", OF_ROWS},
	[TIDE_ROW_BYTES_WIRE] = {"row_bytes_wire_total", "Bytes of frames as they travelled.", OF_ROWS},
	[TIDE_ROWS_COPIED] = {"rows_copied_total", "Rows that first copies brought.", OF_ROWS},
	[TIDE_BYTES_COPIED] = {"bytes_copied_total", "Bytes that first copies brought.", OF_ROWS},
	[TIDE_RESYNCS] = {"resyncs_total", "Times all rows had to be copied again.", OF_ROWS},
	[TIDE_FRAMES_SENT] = {"row_frames_sent_total", "Frames of rows published on a broker.",
						  OF_ROWS},
	[TIDE_FRAMES_STORED] = {"row_frames_stored_total",
							"Frames of rows that a broker has acknowledged.", OF_ROWS},
	[TIDE_REWINDS] = {"row_rewinds_total",
					  "Times frames were published again because a region lacked some; of a link:"
					  " times it asked for that.",
					  OF_ROWS},
};

typedef enum GaugeUnit
{
	UNIT_PLAIN,
	UNIT_MICROSECONDS /* stored so, shown in seconds */
} GaugeUnit;

/* TIDE_G_STATE has a family of another form and is not here. */
static const struct
{
	const char *name;
	const char *help;
	TideGauge gauge;
	GaugeUnit unit;
	Kind kind;
} gauge_families[] = {
	{"oldest_unsent_age_seconds",
	 "Age of the oldest event that is not delivered yet; 0 if there is none.",
	 TIDE_G_OLDEST_UNSENT_US, UNIT_MICROSECONDS, OF_EVENTS},
	{"unconfirmed_events", "Events that a broker accepted and no destination confirmed yet.",
	 TIDE_G_UNCONFIRMED, UNIT_PLAIN, OF_EVENTS},
	{"in_flight_events", "Events handed to the sink and not accepted yet.", TIDE_G_IN_FLIGHT,
	 UNIT_PLAIN, OF_EVENTS},
	{"last_delivery_timestamp_seconds",
	 "When an event was last delivered, in seconds since 1970; 0: not since the start.",
	 TIDE_G_LAST_DELIVERY_US, UNIT_MICROSECONDS, OF_ALL},
	{"row_lag_seconds", "How far behind its origin a link is, by heartbeats.", TIDE_G_LAG_US,
	 UNIT_MICROSECONDS, OF_ROWS},
	{"row_lag_bytes", "The origin's WAL that a link has not applied yet.", TIDE_G_LAG_BYTES,
	 UNIT_PLAIN, OF_ROWS},
	{"slot_retained_bytes", "WAL that the origin keeps for a link's slot.", TIDE_G_SLOT_RETAINED,
	 UNIT_PLAIN, OF_ROWS},
	{"classes_differ", "1 if the origin declares a class differently, 0 if not.",
	 TIDE_G_CLASSES_DIFFER, UNIT_PLAIN, OF_ROWS},
	{"copy_tables", "Tables that wait for their first copy or are in it.", TIDE_G_COPY_TABLES,
	 UNIT_PLAIN, OF_ROWS},
	{"link_held", "1 while a link is held back for more important ones.", TIDE_G_HELD, UNIT_PLAIN,
	 OF_ROWS},
	{"link_tables_drifted", "Tables whose shape here does not take all rows of the origin.",
	 TIDE_G_TABLES_DRIFTED, UNIT_PLAIN, OF_ROWS},
};

/* Those of tide.pipelines.  All are shown, so that no series comes and goes. */
static const char *const states[] = {"disabled", "waiting", "starting", "running",
									 "retrying", "failed",	"stopped"};

void
tide_histogram_add(TideHistogram *h, int64_t us)
{
	size_t i = 0;

	if (us < 0)
		us = 0; /* clocks of two servers */
	while (i < TIDE_HISTOGRAM_BUCKETS && us > bucket_bounds[i])
		i++;
	atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_us, (uint64_t) us, memory_order_relaxed);
}

/* Label values: backslash, quote and newline are escaped, nothing else. */
static void
write_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (const char *s = value != NULL ? value : ""; *s != '\0'; s++)
	{
		if (*s == '\n')
			fputs("\\n", out);
		else if (*s == '"' || *s == '\\')
			fprintf(out, "\\%c", *s);
		else
			putc(*s, out);
	}
	putc('"', out);
}

static void
write_seconds(FILE *out, int64_t us)
{
	if (us < 0)
		putc('-', out);
	us = us < 0 ? -us : us;
	fprintf(out, "%" PRId64 ".%06d", us / 1000000, (int) (us % 1000000));
}

static void
write_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
write_family_head(FILE *out, const char *name, const char *type, const char *help)
{
	char full[128];

	snprintf(full, sizeof(full), "pg_tide_%s", name);
	write_head(out, full, type, help);
}

/* "pg_tide_NAME{pipeline="…",direction="…"", the brace still open. */
static void
begin_sample(FILE *out, const char *name, const TideMetricsEntry *entry)
{
	fprintf(out, "pg_tide_%s{", name);
	write_label(out, "pipeline", entry->pipeline);
	putc(',', out);
	write_label(out, "direction", entry->direction);
}

static bool
concerns(const TideMetricsEntry *entry, Kind kind)
{
	const char *direction = entry->direction != NULL ? entry->direction : "";
	bool rows = strcmp(direction, "link") == 0 || strcmp(direction, "rows") == 0;

	return (kind & (rows ? OF_ROWS : OF_EVENTS)) != 0;
}

static void
write_counters(FILE *out, const TideMetricsEntry *entries, size_t n_entries)
{
	for (size_t c = 0; c < TIDE_N_COUNTERS; c++)
	{
		write_family_head(out, counter_families[c].name, "counter", counter_families[c].help);
		for (size_t i = 0; i < n_entries; i++)
		{
			if (!concerns(&entries[i], counter_families[c].kind))
				continue;
			begin_sample(out, counter_families[c].name, &entries[i]);
			fprintf(out, "} %" PRIu64 "\n",
					atomic_load_explicit(&entries[i].metrics->counters[c], memory_order_relaxed));
		}
	}
}

static void
write_gauges(FILE *out, const TideMetricsEntry *entries, size_t n_entries)
{
	for (size_t g = 0; g < N_ELEMENTS(gauge_families); g++)
	{
		write_family_head(out, gauge_families[g].name, "gauge", gauge_families[g].help);
		for (size_t i = 0; i < n_entries; i++)
		{
			int64_t value = atomic_load_explicit(
				&entries[i].metrics->gauges[gauge_families[g].gauge], memory_order_relaxed);

			if (!concerns(&entries[i], gauge_families[g].kind))
				continue;
			begin_sample(out, gauge_families[g].name, &entries[i]);
			fputs("} ", out);
			if (gauge_families[g].unit == UNIT_MICROSECONDS)
				write_seconds(out, value);
			else
				fprintf(out, "%" PRId64, value);
			putc('\n', out);
		}
	}
}

static void
write_state_sample(FILE *out, const TideMetricsEntry *entry, const char *state, bool current)
{
	begin_sample(out, "pipeline_state", entry);
	putc(',', out);
	write_label(out, "state", state);
	fprintf(out, "} %d\n", current ? 1 : 0);
}

static void
write_states(FILE *out, const TideMetricsEntry *entries, size_t n_entries)
{
	write_family_head(out, "pipeline_state", "gauge", "1 for the state the pipeline is in.");
	for (size_t i = 0; i < n_entries; i++)
	{
		const char *current = entries[i].state != NULL ? entries[i].state : "";
		bool known = current[0] == '\0';

		for (size_t s = 0; s < N_ELEMENTS(states); s++)
		{
			bool is_current = strcmp(states[s], current) == 0;

			write_state_sample(out, &entries[i], states[s], is_current);
			known = known || is_current;
		}
		if (!known)
			write_state_sample(out, &entries[i], current, true);
	}

	write_family_head(out, "pipeline_owned", "gauge",
					  "1 if this relay runs the pipeline, 0 if it is the spare.");
	for (size_t i = 0; i < n_entries; i++)
	{
		begin_sample(out, "pipeline_owned", &entries[i]);
		fprintf(out, "} %d\n", entries[i].owned ? 1 : 0);
	}
}

/*
 * The count is the sum of the buckets that were read, not the count field: the
 * writer may be between the two, and a histogram that contradicts itself
 * breaks quantiles.
 */
static void
write_histogram(FILE *out, const char *name, const TideMetricsEntry *entry, const TideHistogram *h)
{
	char sample[128];
	uint64_t total = 0;

	for (size_t b = 0; b <= TIDE_HISTOGRAM_BUCKETS; b++)
	{
		total += atomic_load_explicit(&h->buckets[b], memory_order_relaxed);
		snprintf(sample, sizeof(sample), "%s_bucket", name);
		begin_sample(out, sample, entry);
		fputs(",le=\"", out);
		if (b < TIDE_HISTOGRAM_BUCKETS)
			write_seconds(out, bucket_bounds[b]);
		else
			fputs("+Inf", out);
		fprintf(out, "\"} %" PRIu64 "\n", total);
	}
	snprintf(sample, sizeof(sample), "%s_sum", name);
	begin_sample(out, sample, entry);
	fputs("} ", out);
	write_seconds(out, (int64_t) atomic_load_explicit(&h->sum_us, memory_order_relaxed));
	snprintf(sample, sizeof(sample), "%s_count", name);
	putc('\n', out);
	begin_sample(out, sample, entry);
	fprintf(out, "} %" PRIu64 "\n", total);
}

/* Fields of /proc/self/stat behind the command's name, counted from 3 as in proc(5). */
typedef struct ProcStat
{
	long long cpu_ticks;	  /* 14 + 15 */
	long long threads;		  /* 20 */
	long long start_ticks;	  /* 22, since boot */
	long long virtual_bytes;  /* 23 */
	long long resident_pages; /* 24 */
} ProcStat;

static bool
read_proc_stat(ProcStat *stat)
{
	FILE *file = fopen("/proc/self/stat", "re");
	char line[1024];
	char *at;
	long long field[25] = {0};

	if (file == NULL)
		return false;
	at = fgets(line, sizeof(line), file);
	fclose(file);
	/* The name may hold spaces and parentheses: count from its last one. */
	if (at == NULL || (at = strrchr(line, ')')) == NULL || strlen(at) < 4)
		return false;
	at += 3; /* behind ") S", the state being field 3 */
	for (int i = 4; i < 25; i++)
		field[i] = strtoll(at, &at, 10);
	stat->cpu_ticks = field[14] + field[15];
	stat->threads = field[20];
	stat->start_ticks = field[22];
	stat->virtual_bytes = field[23];
	stat->resident_pages = field[24];
	return true;
}

static long long
boot_time(void)
{
	FILE *file = fopen("/proc/stat", "re");
	char line[512];
	long long seconds = 0;

	if (file == NULL)
		return 0;
	while (seconds == 0 && fgets(line, sizeof(line), file) != NULL)
	{
		if (strncmp(line, "btime ", 6) == 0)
			seconds = strtoll(line + 6, NULL, 10);
	}
	fclose(file);
	return seconds;
}

static long long
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	long long n = 0;

	if (dir == NULL)
		return 0;
	for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n - 1; /* the directory itself */
}

static void
write_process(FILE *out)
{
	ProcStat stat;
	long hz = sysconf(_SC_CLK_TCK);

	write_head(out, "process_open_fds", "gauge", "Open file descriptors.");
	fprintf(out, "process_open_fds %lld\n", count_fds());
	if (!read_proc_stat(&stat) || hz <= 0)
		return;
	write_head(out, "process_cpu_seconds_total", "counter", "CPU time, user and system.");
	fputs("process_cpu_seconds_total ", out);
	write_seconds(out, stat.cpu_ticks * 1000000 / hz);
	putc('\n', out);
	write_head(out, "process_resident_memory_bytes", "gauge", "Resident memory.");
	fprintf(out, "process_resident_memory_bytes %lld\n",
			stat.resident_pages * sysconf(_SC_PAGESIZE));
	write_head(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.");
	fprintf(out, "process_virtual_memory_bytes %lld\n", stat.virtual_bytes);
	write_head(out, "process_threads", "gauge", "Threads.");
	fprintf(out, "process_threads %lld\n", stat.threads);
	write_head(out, "process_start_time_seconds", "gauge", "Start, in seconds since 1970.");
	fputs("process_start_time_seconds ", out);
	write_seconds(out, boot_time() * 1000000 + stat.start_ticks * 1000000 / hz);
	putc('\n', out);
}

static void
write_build_info(FILE *out, const char *region, const char *version)
{
	write_family_head(out, "build_info", "gauge",
					  "Always 1; the labels tell what runs, and where.");
	fputs("pg_tide_build_info{", out);
	write_label(out, "version", version);
	putc(',', out);
	write_label(out, "region", region);
	fputs("} 1\n", out);
}

void
tide_metrics_write(FILE *out, const TideMetricsEntry *entries, size_t n_entries, const char *region,
				   const char *version)
{
	write_build_info(out, region, version);
	write_process(out);
	write_states(out, entries, n_entries);
	write_counters(out, entries, n_entries);
	write_gauges(out, entries, n_entries);
	write_family_head(out, "commit_to_delivered_seconds", "histogram",
					  "Time from the publisher's commit until the event was stored at the sink.");
	for (size_t i = 0; i < n_entries; i++)
		write_histogram(out, "commit_to_delivered_seconds", &entries[i],
						&entries[i].metrics->commit_to_delivered);
}
