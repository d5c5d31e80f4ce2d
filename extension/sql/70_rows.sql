/*
 * 70_rows.sql
 *		Rows: the tables that everything about replicated tables rests on.
 *
 * Owns: the catalog of regions, classes, tables, links, their progress and what
 * is parked.  Does not own: the functions that change it (72_region.sql,
 * 73_residency.sql, 74_class.sql, 75_table.sql, 76_link.sql, 77_rows.sql, 78_apply.sql), the views (79_rows_views.sql).
 */

/* Other regions.  This one's name is in tide.local_region. */
CREATE TABLE tide.region
(
	name		text COLLATE "C" PRIMARY KEY,
	region_id	bigint NOT NULL UNIQUE,				-- number in stamps, see common/tide_stamp.h
	conninfo	text NOT NULL,						-- how a relay here reaches it; secrets as references
	node		int,								-- its number in ids, if that is not made from its name
	added_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

CREATE TABLE tide.class
(
	name		text COLLATE "C" PRIMARY KEY,
	options		jsonb NOT NULL,						-- as given
	scope		text NOT NULL CHECK (scope IN ('regional', 'global', 'home', 'primary')),
	primary_region text COLLATE "C",				-- scope primary: the only one that writes
	home_column	text COLLATE "C",					-- scope home: names the region that writes the row
	conflict	text NOT NULL DEFAULT 'lww',
	durability	text NOT NULL DEFAULT 'async',
	sync_peer	text COLLATE "C",					-- durability sync: whose answer commits wait for
	sync_wait	interval,							-- ... for how long at most; NULL: as long as it takes
	slo			interval NOT NULL DEFAULT '5 seconds',
	priority	int NOT NULL DEFAULT 50,
	residency	jsonb,								-- as given; NULL: rows go wherever the scope lets them
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

/*
 * A replicated table.  No foreign key says that its class is there: pg_restore fills several tables at a
 * time, in any order.  table_add() and class_drop() see to it.
 */
CREATE TABLE tide.replicated_table
(
	relid		regclass PRIMARY KEY,
	class		text COLLATE "C" NOT NULL,
	options		jsonb NOT NULL DEFAULT '{}',
	insert_only	boolean NOT NULL DEFAULT false,
	allowed		text[],								-- columns, in a class of personal data
	added_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	published_since pg_lsn,							-- in any of our publications, without a break
	lane_since	pg_lsn								-- in one of the lane that it is in now
);

/*
 * Whoever changes what is set up (classes, tables, links and their lanes) does so alone, and takes this lock before any
 * row: a change of a class goes through all links, and a relay that ends one through all others.
 */
CREATE FUNCTION tide._set_up_lock() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ LOCK TABLE tide.replicated_table IN SHARE ROW EXCLUSIVE MODE $$;

/*
 * Taking rows from a region: one row, or two where some classes have a low priority and so a
 * stream of their own (lane 'low', see 76_lane.sql).  Each has a pipeline of direction
 * 'link' (name 'link:' and the region) that carries lease, epoch, state and errors.
 */
CREATE TABLE tide.link
(
	id			int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	region		text COLLATE "C" NOT NULL REFERENCES tide.region,
	transport	text NOT NULL DEFAULT 'direct' CHECK (transport IN ('direct', 'nats', 'kafka')),
	copy		boolean NOT NULL DEFAULT true,
	options		jsonb NOT NULL DEFAULT '{}',
	slot		name NOT NULL,						-- at the other region; direct transport only
	by_superuser boolean NOT NULL DEFAULT false,	-- who said the options was one
	removing	boolean NOT NULL DEFAULT false,		-- until the relay has dropped the slot
	phase		text NOT NULL DEFAULT 'new' CHECK (phase IN ('new', 'copying', 'streaming')),
	resyncs		int NOT NULL DEFAULT 0,				-- how often rows had to be copied again
	last_resync	text,								-- why
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	lane		text COLLATE "C" NOT NULL DEFAULT 'main' CHECK (lane IN ('main', 'low')),
	pipeline	text COLLATE "C" NOT NULL UNIQUE
				GENERATED ALWAYS AS ('link:' || region || CASE lane WHEN 'main' THEN '' ELSE '#' || lane END) STORED,
	read_lanes	text,								-- those that its stream was last opened for
	UNIQUE (region, lane)
);

/* A lane that is held back for the sake of more important ones; no row: it is not. */
CREATE TABLE tide.link_hold
(
	link_id		int PRIMARY KEY REFERENCES tide.link ON DELETE CASCADE,
	reason		text NOT NULL,
	since		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	better_since timestamptz						-- when those were well again; null: they are not
);

/* How far a link has come.  One row per link, updated in the transaction that applies. */
CREATE TABLE tide.link_progress
(
	link_id		int PRIMARY KEY REFERENCES tide.link ON DELETE CASCADE,
	position	pg_lsn NOT NULL,					-- everything that ended before it is here
	system_id	bigint NOT NULL,					-- of the origin's cluster
	timeline	int NOT NULL,
	source_end	pg_lsn NOT NULL,					-- how far the origin's WAL was then
	commit_end	pg_lsn,								-- of the last transaction of those, where it ended ...
	commit_at	timestamptz,						-- ... and when it committed there
	heartbeat_at timestamptz,						-- the origin's time in its last heartbeat
	heartbeat_seen_at timestamptz,					-- ours when it was applied
	transactions bigint NOT NULL DEFAULT 0,
	changes		bigint NOT NULL DEFAULT 0,
	updated_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) WITH (fillfactor = 10);

/* The first copy, table by table.  Changes that committed before copied_lsn are in the copy. */
CREATE TABLE tide.link_table
(
	link_id		int NOT NULL REFERENCES tide.link ON DELETE CASCADE,
	schema_name	name NOT NULL,
	table_name	name NOT NULL,
	state		text NOT NULL DEFAULT 'wanted' CHECK (state IN ('wanted', 'copying', 'copied')),
	copied_lsn	pg_lsn,
	rows_done	bigint NOT NULL DEFAULT 0,
	bytes_done	bigint NOT NULL DEFAULT 0,
	rows_total	bigint,								-- the origin's estimate
	started_at	timestamptz,
	finished_at	timestamptz,
	origin_lane	text,								-- as the origin last said; null: it does not publish it
	published_since pg_lsn,							-- the same
	lane_since	pg_lsn,								-- the same
	valid_from	pg_lsn,								-- a copy of before that has missed changes
	wish		int NOT NULL DEFAULT 0,				-- grows when what is to be copied changes; see copy_end()
	PRIMARY KEY (link_id, schema_name, table_name)
);

/* What the origin declares, as it last said: classes by name, see tide.rows_classes(). */
CREATE TABLE tide.link_classes
(
	link_id		int PRIMARY KEY REFERENCES tide.link ON DELETE CASCADE,
	classes		jsonb NOT NULL,
	changed_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) WITH (fillfactor = 50);

/* Changes that could not be applied, and those of the same row that came after them. */
CREATE TABLE tide.parked_change
(
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,	-- order of arrival
	link_id		int NOT NULL REFERENCES tide.link ON DELETE CASCADE,
	schema_name	name NOT NULL,
	table_name	name NOT NULL,
	key			text COLLATE "C",					-- the key's values; null: the whole table is waiting
	op			text NOT NULL CHECK (op IN ('insert', 'update', 'delete', 'truncate', 'ddl')),
	relation	bytea NOT NULL,						-- the 'R' record's payload
	change		bytea NOT NULL,						-- type byte and payload of the record
	commit_lsn	pg_lsn NOT NULL,
	commit_at	timestamptz NOT NULL,
	code		text NOT NULL,						-- SQLSTATE; 'TD020': waits behind an earlier change of its row
	reason		text NOT NULL,
	parked_at	timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	attempts	int NOT NULL DEFAULT 0,
	touched		int									-- tide.table_version.touched when it was last refused
);
CREATE INDEX parked_change_key ON tide.parked_change (link_id, schema_name, table_name, key);

/* One sample per heartbeat: how late each link was, in buckets; see tide._lag_note(). */
CREATE TABLE tide.lag_history
(
	link_id		int NOT NULL REFERENCES tide.link ON DELETE CASCADE,
	hour		timestamptz NOT NULL,
	buckets		bigint[] NOT NULL,
	last_at		timestamptz NOT NULL,				-- the origin's time in the last heartbeat noted
	PRIMARY KEY (link_id, hour)
) WITH (fillfactor = 50);

/*
 * Publishing rows on a broker: once for everybody by the pipeline 'rows:publish', and once more by
 * 'rows:publish:REGION' for each region that has a stream of its own.
 */
CREATE TABLE tide.rows_publisher
(
	pipeline	text COLLATE "C" PRIMARY KEY,
	destination	text COLLATE "C",					-- whom the stream is for; NULL: all that have none of their own
	transport	text NOT NULL CHECK (transport IN ('nats', 'kafka')),
	options		jsonb NOT NULL,
	slot		name NOT NULL
);

/* Who takes them from which, and how far it has durably come: the slot is confirmed up to the least of these. */
CREATE TABLE tide.rows_destination
(
	region		text COLLATE "C" PRIMARY KEY,
	pipeline	text COLLATE "C" NOT NULL,			-- of the publisher
	position	pg_lsn NOT NULL,
	seen_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

/*
 * Dumped is what a person set up, but no link: how far one has come means nothing to a database that
 * was restored beside the first, and the slot at the other region is the first one's.
 */
SELECT pg_catalog.pg_extension_config_dump('tide.region', '');
SELECT pg_catalog.pg_extension_config_dump('tide.class', '');
SELECT pg_catalog.pg_extension_config_dump('tide.replicated_table', '');
