# PgTide::RowShapes
#		Tables of every shape and type, and what is done to them.
#
# Owns: the list of shapes: how a table is made (perhaps differently at the other regions), what is in it
# before the first copy, what happens to it afterwards.  Does not own: regions, comparing (431).
#
# A shape: name; all (DDL everywhere) or us and others (DDL there); tables (SQL text; default: the name);
# options (of table_add); first (DML at us before links are made); then (list of statements at us, each
# sent to psql by itself); except (columns that are not compared).
package PgTide::RowShapes;

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use JSON::PP ();

# ---- types ----

# Columns of the table "kinds": name => [type, values ...].  Row n takes each column's n-th value, in a circle.
my @KINDS = (
	[ 'boolean', q{true}, q{false}, q{NULL} ],
	[ 'int2', q{-32768}, q{32767}, q{0} ],
	[ 'int4', q{-2147483648}, q{2147483647} ],
	[ 'int8', q{'-9223372036854775808'}, q{9223372036854775807} ],
	[ 'float4', q{'NaN'}, q{'Infinity'}, q{'-Infinity'}, q{1e-45}, q{3.4028235e38}, q{'-0'} ],
	[ 'float8', q{'NaN'}, q{'Infinity'}, q{'-Infinity'}, q{5e-324}, q{1.7976931348623157e308}, q{'-0'}, q{0.1} ],
	[
		'numeric', q{'NaN'}, q{'Infinity'}, q{'-Infinity'}, q{0.00000}, q{-1.10},
		q{('1' || repeat('0', 131071))::numeric}, q{('0.' || repeat('0', 16382) || '1')::numeric},
		q{123456789012345678901234567890.123456789}
	],
	[ 'numeric(20,5)', q{-1.5}, q{999999999999999.99999}, q{'NaN'}, q{NULL} ],
	[ 'money', q{'-92233720368547758.08'}, q{'12.34'} ],
	[ 'text', q{''}, q{E'\\n\\t\\\\'}, q{'Grüße, 世界 🌍'}, q{NULL}, q{repeat('long ', 5000)} ],
	[ 'varchar(20)', q{''}, q{'ümlaut'}, q{NULL} ],
	[ 'char(10)', q{'a'}, q{'          '}, q{'0123456789'} ],
	[ '"char"', q{'x'}, q{''} ],
	[ 'name', q{'some_name'}, q{repeat('n', 63)::name} ],
	[ 'bytea', q{''}, q{'\\x00ff00'}, q{decode(repeat('deadbeef00', 4000), 'hex')}, q{NULL} ],
	[ 'date', q{'infinity'}, q{'-infinity'}, q{'4713-01-01 BC'}, q{'5874897-12-31'}, q{'0044-03-15 BC'} ],
	[ 'time', q{'00:00'}, q{'24:00'}, q{'23:59:59.999999'} ],
	[ 'timetz', q{'00:00+15:59'}, q{'24:00-15:59'}, q{'12:34:56.789-03:30'} ],
	[ 'timestamp', q{'infinity'}, q{'-infinity'}, q{'4713-01-01 00:00:00 BC'}, q{'294276-12-31 23:59:59.999999'} ],
	[ 'timestamptz', q{'infinity'}, q{'-infinity'}, q{'4713-01-02 00:00:00+00 BC'}, q{'2024-02-29 23:59:59.000001+14'} ],
	[
		'interval', q{'178000000 years'}, q{'-178000000 years'},
		q{'-1 year +2 mons -3 days +04:05:06.789'}, q{'2562047788:00:54.775807'}
	],
	[ 'uuid', q{'00000000-0000-0000-0000-000000000000'}, q{'ffffffff-ffff-ffff-ffff-ffffffffffff'} ],
	[ 'inet', q{'::ffff:10.0.0.1/96'}, q{'192.168.0.1/24'} ],
	[ 'cidr', q{'10.0.0.0/8'}, q{'fe80::/10'} ],
	[ 'macaddr', q{'08:00:2b:01:02:03'} ],
	[ 'macaddr8', q{'08:00:2b:01:02:03:04:05'} ],
	[ 'bit(5)', q{B'10101'}, q{B'00000'} ],
	[ 'varbit', q{B''}, q{B'1'}, q{B'1010101010101'} ],
	[ 'json', q{'{"a" : 1,  "a": 2}'}, q{'[]'}, q{'null'}, q{' 1e400 '} ],
	[ 'jsonb', q{'{"b": [1, 2.50, {"c": null}], "a": "\\u00fc"}'}, q{'1e400'}, q{'"x"'}, q{NULL} ],
	[ 'jsonpath', q{'$.a[*] ? (@ > 1)'} ],
	[ 'xml', q{'<a b="c">d</a>'} ],
	[ 'point', q{'(1.5,-2.5)'}, q{'(Infinity,NaN)'} ],
	[ 'line', q{'{1,-1,0}'} ],
	[ 'lseg', q{'[(0,0),(1,1)]'} ],
	[ 'box', q{'(1,1),(0,0)'} ],
	[ 'path', q{'((0,0),(1,1),(2,0))'}, q{'[(0,0),(1,1)]'} ],
	[ 'polygon', q{'((0,0),(1,1),(2,0))'} ],
	[ 'circle', q{'<(0,0),5>'} ],
	[ 'tsvector', q{$$'cat':3A 'fat':2B,4C$$}, q{''} ],
	[ 'tsquery', q{$$'fat' & ( 'rat' | !'cat':AB )$$} ],
	[ 'int4range', q{'[1,10)'}, q{'empty'}, q{'(,)'}, q{'[5,]'} ],
	[ 'numrange', q{'[1.5,2.50]'}, q{'(,NaN]'} ],
	[ 'tstzrange', q{'[2020-01-01 00:00+00, infinity]'}, q{'empty'} ],
	[ 'daterange', q{'[2020-01-01,2020-02-01)'} ],
	[ 'int8multirange', q{'{[1,3),[7,9)}'}, q{'{}'} ],
	[ 'pg_lsn', q{'FFFFFFFF/FFFFFFFF'}, q{'0/0'} ],
	[ 'pg_snapshot', q{'10:20:10,14,15'} ],
	[ 'xid8', q{'18446744073709551615'} ],
	[ 'oid', q{4294967295}, q{1} ],
	[ 'tid', q{'(4294967295,65535)'} ],
	[ 'int[]', q{'{}'}, q{'{1,NULL,3}'}, q{'[2:3][-1:0]={{1,2},{3,4}}'} ],
	[ 'text[]', q{'{"a,b","c\\"d",NULL,"NULL",""}'} ],
	[ 'numeric[]', q{'{NaN,1.00,-Infinity}'} ],
	[ 'jsonb[]', q{array['{"a": 1}', NULL]::jsonb[]} ],
	[ 'interval[]', q{'{1 day,-1 mon}'} ],
	[ 'shapes.mood', q{'sad'}, q{'happy'}, q{NULL} ],
	[ 'shapes.mood[]', q{'{sad,happy,NULL}'}, q{'{}'} ],
	[ 'shapes.address', q{ROW('Main "St"', 5, '{ok,sad}', 3)}, q{ROW(NULL, NULL, NULL, NULL)}, q{NULL} ],
	[ 'shapes.address[]', q{array[ROW('a', 1, '{ok}', 2), NULL]::shapes.address[]} ],
	[ 'shapes.nested', q{ROW(ROW('x', 1, '{happy}', 9), array[ROW('y', 2, '{}', 1)]::shapes.address[], 'ok')} ],
	[ 'shapes.positive', q{1}, q{2147483647}, q{NULL} ],
	[ 'shapes.positive[]', q{'{1,2}'} ],
	[ 'shapes.few_moods', q{'{sad}'}, q{'{sad,ok}'} ],
	[ 'shapes.floats', q{'[1.5,2.5)'}, q{'(,)'} ],
	[ 'shapes.moods', q{'[sad,happy]'}, q{'empty'} ],
	[ 'shapes.float_sets', q{'{[1,2),[3,4)}'} ],
);

my $TYPES = <<'END';
CREATE TYPE shapes.mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN shapes.positive AS int CHECK (VALUE > 0);
CREATE TYPE shapes.address AS (street text, number int, moods shapes.mood[], level shapes.positive);
CREATE TYPE shapes.nested AS (one shapes.address, many shapes.address[], mood shapes.mood);
CREATE DOMAIN shapes.few_moods AS shapes.mood[] CHECK (cardinality(VALUE) < 3);
CREATE TYPE shapes.floats AS RANGE (subtype = float8, multirange_type_name = shapes.float_sets);
CREATE TYPE shapes.moods AS RANGE (subtype = shapes.mood);
END

# The same types under other numbers, whatever the order of set-up.
sub types_us { return "CREATE SCHEMA shapes;\n$TYPES"; }

sub types_others
{
	return "CREATE SCHEMA shapes;\nCREATE TYPE shapes.dummy AS ENUM ('a');\nCREATE TABLE shapes.another (id int);\n$TYPES";
}

sub _kinds
{
	my $columns = join ",\n", map { "k$_ $KINDS[$_][0]" } 0 .. $#KINDS;
	my $insert = sub {
		my ($id, $n) = @_;
		return sprintf "INSERT INTO kinds VALUES (%d, %s);\n", $id,
		  join ', ', map { my ($type, @values) = @$_; "($values[$n % @values])" } @KINDS;
	};
	my $update = join ', ', map {
		my ($type, @values) = @{ $KINDS[$_] };
		"k$_ = ($values[-1])"
	} 0 .. $#KINDS;
	return {
		name  => 'kinds',
		all   => "CREATE TABLE kinds (id int PRIMARY KEY,\n$columns);",
		first => join('', map { $insert->($_, $_) } 0 .. 7),
		then  => [
			join('', map { $insert->(100 + $_, $_) } 0 .. 7),
			"UPDATE kinds SET $update WHERE id IN (1, 102)",
			'UPDATE kinds SET ' . join(', ', map { "k$_ = NULL" } 0 .. $#KINDS) . ' WHERE id IN (2, 103)',
			'DELETE FROM kinds WHERE id IN (3, 104)',
			'UPDATE kinds SET id = id + 1000 WHERE id IN (4, 105)',
		]
	};
}

sub _widest
{
	my @columns = map { "c$_" } 1 .. 1598;
	my $list = join ', ', map { "$_ smallint" } @columns;
	return {
		name  => 'widest',
		all   => "CREATE TABLE widest (id int PRIMARY KEY, $list);",
		first => 'INSERT INTO widest SELECT 1, ' . join(', ', map { $_ % 7 ? $_ : 'NULL' } 1 .. 1598),
		then  => [
			'INSERT INTO widest SELECT 2, ' . join(', ', 1 .. 1598),
			'UPDATE widest SET c1598 = -1, c1 = NULL',
			'INSERT INTO widest (id) VALUES (3)',
		]
	};
}

my @SHAPES = (
	{
		name   => 'other_order',
		us     => 'CREATE TABLE other_order (id int PRIMARY KEY, a text, b int, c timestamptz DEFAULT now());',
		others => <<~'END',
			CREATE TABLE other_order (gone int, c timestamptz, more text DEFAULT 'here', b int, gone_too text,
				id int PRIMARY KEY, note int, a text);
			ALTER TABLE other_order DROP gone, DROP gone_too;
			END
		first => q{INSERT INTO other_order SELECT n, 'a' || n, n FROM generate_series(1, 10) n},
		then  => [
			q{INSERT INTO other_order SELECT n, 'a' || n, n FROM generate_series(11, 20) n},
			q{UPDATE other_order SET a = 'changed' WHERE id % 3 = 0},
			q{DELETE FROM other_order WHERE id % 5 = 0},
			q{UPDATE other_order SET id = -id WHERE id % 4 = 0},
		],
	},
	{
		name  => 'made',
		all   => <<~'END',
			CREATE TABLE made (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,
				twice int GENERATED ALWAYS AS (a * 2) STORED, seq int GENERATED BY DEFAULT AS IDENTITY, s serial);
			END
		first => 'INSERT INTO made (a) SELECT n FROM generate_series(1, 5) n',
		then  => [
			'INSERT INTO made (a) SELECT n FROM generate_series(6, 10) n',
			'UPDATE made SET a = a + 100 WHERE id % 2 = 0',
			'INSERT INTO made (id, a) OVERRIDING SYSTEM VALUE VALUES (-1, 5)',
		],
	},
	{
		name  => 'large',
		all   => <<~'END',
			CREATE TABLE large (id int PRIMARY KEY, n int, outside text, inside text, packed text, raw bytea);
			ALTER TABLE large ALTER outside SET STORAGE EXTERNAL, ALTER inside SET STORAGE MAIN, ALTER raw SET STORAGE EXTERNAL;
			END
		first => <<~'END',
			INSERT INTO large SELECT n, 0, (SELECT string_agg(md5((n * i)::text), '') FROM generate_series(1, 3000) i),
				repeat('main', 500), (SELECT string_agg(md5((n + i)::text), '') FROM generate_series(1, 5000) i),
				decode(repeat(md5(n::text), 2000), 'hex')
			FROM generate_series(1, 6) n
			END
		then => [
			'UPDATE large SET n = n + 1',
			'BEGIN; UPDATE large SET n = n + 1 WHERE id = 1; UPDATE large SET n = n + 1 WHERE id = 1; COMMIT',
			'UPDATE large SET id = id + 10 WHERE id IN (2, 3)',
			q{UPDATE large SET outside = outside || 'x' WHERE id = 4},
			q{UPDATE large SET packed = NULL WHERE id = 5},
			q{INSERT INTO large SELECT id + 100, n, outside, inside, packed, raw FROM large WHERE id = 1},
			q{DELETE FROM large WHERE id = 6},
		],
	},
	{
		name  => 'keys',
		all   => 'CREATE TABLE keys (a int, b text, v int, PRIMARY KEY (b, a));',
		first => q{INSERT INTO keys SELECT n, 'b' || n, n FROM generate_series(1, 10) n},
		then  => [
			q{BEGIN; UPDATE keys SET a = 99 WHERE a = 1; UPDATE keys SET a = 1, b = 'b1' WHERE a = 2;
				UPDATE keys SET a = 2, b = 'b2' WHERE a = 99; COMMIT},
			q{BEGIN; DELETE FROM keys WHERE a = 3; INSERT INTO keys VALUES (3, 'b3', -3); COMMIT},
			q{BEGIN; UPDATE keys SET b = b || 'x' WHERE a = 4; UPDATE keys SET b = b || 'y' WHERE a = 4;
				DELETE FROM keys WHERE a = 4; INSERT INTO keys VALUES (4, 'b4x', 44); COMMIT},
			q{BEGIN; INSERT INTO keys VALUES (50, 'x', 1); UPDATE keys SET a = 51 WHERE a = 50; COMMIT},
			q{BEGIN; INSERT INTO keys VALUES (60, 'x', 1); DELETE FROM keys WHERE a = 60; COMMIT},
			q{UPDATE keys SET a = a + 1000},
		],
	},
	{
		name  => 'deferred',
		all   => <<~'END',
			CREATE TABLE deferred (id int PRIMARY KEY, code text, boss int,
				CONSTRAINT deferred_code UNIQUE (code) DEFERRABLE INITIALLY DEFERRED,
				CONSTRAINT deferred_boss FOREIGN KEY (boss) REFERENCES deferred DEFERRABLE INITIALLY DEFERRED);
			END
		first => q{INSERT INTO deferred VALUES (1, 'a', 2), (2, 'b', 1), (3, 'c', NULL)},
		then  => [
			q{UPDATE deferred SET code = CASE code WHEN 'a' THEN 'b' WHEN 'b' THEN 'c' ELSE 'a' END},
			q{INSERT INTO deferred VALUES (10, 'j', 11), (11, 'k', 10)},
			q{BEGIN; UPDATE deferred SET id = id + 100; UPDATE deferred SET boss = boss + 100; COMMIT},
			q{BEGIN; DELETE FROM deferred WHERE id = 110; DELETE FROM deferred WHERE id = 111; COMMIT},
		],
	},
	{
		name   => 'emptied',
		tables => [qw(parent child emptied)],
		all    => <<~'END',
			CREATE TABLE parent (id int PRIMARY KEY);
			CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
			CREATE TABLE emptied (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text);
			END
		first => <<~'END',
			INSERT INTO parent SELECT n FROM generate_series(1, 10) n;
			INSERT INTO child SELECT n, n FROM generate_series(1, 10) n;
			INSERT INTO emptied (v) SELECT 'v' FROM generate_series(1, 10) n;
			END
		then => [
			'TRUNCATE parent CASCADE',
			'INSERT INTO parent VALUES (1), (2)',
			'BEGIN; INSERT INTO child VALUES (1, 1); TRUNCATE child; INSERT INTO child VALUES (2, 2); COMMIT',
			'BEGIN; TRUNCATE parent, child; ROLLBACK',
			'TRUNCATE emptied RESTART IDENTITY',
			q{INSERT INTO emptied (v) VALUES ('again'), ('and again')},
			'BEGIN; SAVEPOINT a; TRUNCATE emptied; ROLLBACK TO a; COMMIT',
		],
	},
	{
		name => 'parts',
		us   => <<~'END',
			CREATE TABLE parts (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
			CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
			CREATE TABLE parts_2 (v text, day date NOT NULL, id int NOT NULL);
			ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
			CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM ('2026-07-01') TO (MAXVALUE) PARTITION BY LIST (id);
			CREATE TABLE parts_3a PARTITION OF parts_3 FOR VALUES IN (1, 2, 3);
			CREATE TABLE parts_3b PARTITION OF parts_3 DEFAULT;
			END
		others => <<~'END',
			CREATE TABLE parts (v text, id int, day date, PRIMARY KEY (id, day)) PARTITION BY HASH (id);
			CREATE TABLE parts_x PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			CREATE TABLE parts_y (day date NOT NULL, id int NOT NULL, v text);
			ALTER TABLE parts ATTACH PARTITION parts_y FOR VALUES WITH (MODULUS 2, REMAINDER 1);
			END
		first => q{INSERT INTO parts SELECT n, date '2025-10-01' + n * 20, 'v' || n FROM generate_series(1, 20) n},
		then  => [
			q{INSERT INTO parts SELECT n, date '2025-10-01' + (n - 20) * 20, 'v' || n FROM generate_series(21, 40) n},
			q{UPDATE parts SET day = day + 200},
			q{UPDATE parts SET v = 'changed' WHERE id % 3 = 0},
			q{UPDATE parts SET id = id + 100 WHERE id % 4 = 0},
			q{DELETE FROM parts WHERE id % 7 = 0},
			q{UPDATE parts_3b SET v = 'in a part'},
			q{INSERT INTO parts_2 (id, day, v) VALUES (500, '2026-02-02', 'into a part')},
			q{BEGIN; UPDATE parts SET day = '2020-01-01' WHERE id = 500; UPDATE parts SET day = '2030-01-01', v = 'far' WHERE id = 500; COMMIT},
		],
	},
	{
		name   => 'whole_and_parts',
		us     => 'CREATE TABLE whole_and_parts (id int PRIMARY KEY, v text);',
		others => <<~'END',
			CREATE TABLE whole_and_parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
			CREATE TABLE whole_and_parts_1 PARTITION OF whole_and_parts FOR VALUES FROM (MINVALUE) TO (50);
			CREATE TABLE whole_and_parts_2 PARTITION OF whole_and_parts FOR VALUES FROM (50) TO (MAXVALUE);
			END
		first => q{INSERT INTO whole_and_parts SELECT n * 10, 'v' FROM generate_series(1, 10) n},
		then  => [
			'UPDATE whole_and_parts SET id = 105 - id',
			q{UPDATE whole_and_parts SET v = 'w' WHERE id < 50},
			'DELETE FROM whole_and_parts WHERE id = 95',
			'TRUNCATE whole_and_parts',
			q{INSERT INTO whole_and_parts VALUES (1, 'a'), (99, 'b')},
		],
	},
	{
		name   => 'parts_and_whole',
		us     => <<~'END',
			CREATE TABLE parts_and_whole (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
			CREATE TABLE parts_and_whole_1 PARTITION OF parts_and_whole FOR VALUES FROM (MINVALUE) TO (50);
			CREATE TABLE parts_and_whole_2 PARTITION OF parts_and_whole FOR VALUES FROM (50) TO (MAXVALUE);
			END
		others => 'CREATE TABLE parts_and_whole (id int PRIMARY KEY, v text);',
		first  => q{INSERT INTO parts_and_whole SELECT n * 10, 'v' FROM generate_series(1, 10) n},
		then   => [
			'UPDATE parts_and_whole SET id = 105 - id',
			q{UPDATE parts_and_whole SET v = 'w' WHERE id < 50},
			'BEGIN; DELETE FROM parts_and_whole WHERE id > 90; INSERT INTO parts_and_whole VALUES (95); COMMIT',
			'TRUNCATE parts_and_whole',
			q{INSERT INTO parts_and_whole VALUES (1, 'a'), (99, 'b')},
		],
	},
	{
		name   => 'identities',
		tables => [qw(ident_full ident_index ident_full_index)],
		all    => <<~'END',
			CREATE TABLE ident_full (id int PRIMARY KEY, v text, big text);
			ALTER TABLE ident_full REPLICA IDENTITY FULL;
			ALTER TABLE ident_full ALTER big SET STORAGE EXTERNAL;
			CREATE TABLE ident_index (id int NOT NULL, k2 text NOT NULL, v text, big text);
			CREATE UNIQUE INDEX ident_index_key ON ident_index (k2, id);
			ALTER TABLE ident_index REPLICA IDENTITY USING INDEX ident_index_key;
			CREATE TABLE ident_full_index (id int PRIMARY KEY, k2 text NOT NULL UNIQUE, v text);
			ALTER TABLE ident_full_index REPLICA IDENTITY USING INDEX ident_full_index_k2_key;
			END
		first => <<~'END',
			INSERT INTO ident_full SELECT n, 'v' || n, repeat(md5(n::text), 300) FROM generate_series(1, 10) n;
			INSERT INTO ident_index SELECT n, 'k' || n, 'v' || n, repeat(md5(n::text), 300) FROM generate_series(1, 10) n;
			INSERT INTO ident_full_index SELECT n, 'k' || n, 'v' || n FROM generate_series(1, 10) n;
			END
		then => [
			q{UPDATE ident_full SET v = NULL WHERE id % 2 = 0},
			q{UPDATE ident_full SET id = id + 100 WHERE id % 3 = 0},
			q{DELETE FROM ident_full WHERE id % 5 = 0},
			q{UPDATE ident_index SET v = NULL WHERE id % 2 = 0},
			q{UPDATE ident_index SET k2 = k2 || 'x' WHERE id % 3 = 0},
			q{DELETE FROM ident_index WHERE id % 5 = 0},
			q{UPDATE ident_full_index SET id = id + 100 WHERE id % 2 = 0},
			q{UPDATE ident_full_index SET k2 = 'x' || k2 WHERE id % 3 = 0},
			q{DELETE FROM ident_full_index WHERE id = 5},
		],
	},
	{
		name    => 'keyless',
		options => { insert_only => JSON::PP::true() },
		all     => 'CREATE TABLE keyless (at timestamptz DEFAULT now(), v text);',
		first   => q{INSERT INTO keyless (v) VALUES ('one'), ('one'), (NULL)},
		then    => [ q{INSERT INTO keyless (v) VALUES ('one'), ('two')}, q{INSERT INTO keyless VALUES (NULL, NULL)} ],
	},
	{
		name   => 'hostile',
		tables => [
			q{"; drop table kinds; --"}, qq{"we'ird \\schema"."select"}, q{"} . ('n' x 63) . q{"},
			q{"Straße 世界"}, q{"a""b.c"}
		],
		all => join('', <<~'END', 'CREATE TABLE "', 'n' x 63, '" ("', 'c' x 63, '" int PRIMARY KEY, v text);'),
			CREATE TABLE "; drop table kinds; --" ("id; --" int PRIMARY KEY, "a""b" text, "from" text, "$1" text, "%s" int);
			CREATE SCHEMA "we'ird \schema";
			CREATE TABLE "we'ird \schema"."select" ("table" int, "ord'er" text, "tide\stamp" text, PRIMARY KEY ("ord'er", "table"));
			CREATE TABLE "Straße 世界" ("schlüssel" text PRIMARY KEY, "größe 🌍" text);
			CREATE TABLE "a""b.c" ("." int PRIMARY KEY, " " text);
			END
		first => join("", <<~'END', 'INSERT INTO "', 'n' x 63, qq{" VALUES (1, 'x');}),
			INSERT INTO "; drop table kinds; --" VALUES (1, 'a', 'b', 'c', 5);
			INSERT INTO "we'ird \schema"."select" VALUES (1, '''; --', 'x');
			INSERT INTO "Straße 世界" VALUES ('ß', 'ü');
			INSERT INTO "a""b.c" VALUES (1, 'x');
			END
		then => [
			q{INSERT INTO "; drop table kinds; --" VALUES (2, '\\', '"', '''', NULL)},
			q{UPDATE "; drop table kinds; --" SET "a""b" = 'changed', "id; --" = 10 WHERE "id; --" = 1},
			qq{UPDATE "we'ird \\schema"."select" SET "ord'er" = '"', "tide\\stamp" = 'y'},
			q{INSERT INTO "} . ('n' x 63) . q{" VALUES (2, 'y')},
			q{UPDATE "Straße 世界" SET "schlüssel" = '世界'},
			q{DELETE FROM "a""b.c"; INSERT INTO "a""b.c" VALUES (2, 'y')},
		],
	},
	{
		name  => 'taken_back',
		all   => 'CREATE TABLE taken_back (id int PRIMARY KEY, v text);',
		first => q{INSERT INTO taken_back VALUES (0, 'first')},
		then  => [
			q{BEGIN; INSERT INTO taken_back VALUES (1, 'in vain'); ROLLBACK},
			q{BEGIN; INSERT INTO taken_back VALUES (2, 'a'); SAVEPOINT a; INSERT INTO taken_back VALUES (3, 'in vain');
				UPDATE taken_back SET v = 'in vain'; ROLLBACK TO a; SAVEPOINT b; INSERT INTO taken_back VALUES (4, 'b');
				RELEASE b; COMMIT},
			q{DO $$BEGIN FOR i IN 10 .. 1500 LOOP
				BEGIN
					INSERT INTO taken_back VALUES (i, 'sub');
					IF i % 3 = 0 THEN RAISE EXCEPTION 'back'; END IF;
				EXCEPTION WHEN raise_exception THEN NULL;
				END;
				END LOOP; END$$},
			q{BEGIN; DELETE FROM taken_back; ROLLBACK},
		],
	},
	{
		name  => 'prepared',
		all   => 'CREATE TABLE prepared (id int PRIMARY KEY, v text);',
		first => q{INSERT INTO prepared VALUES (0, 'first')},
		then  => [
			q{BEGIN; INSERT INTO prepared VALUES (1, 'one'); UPDATE prepared SET v = 'changed' WHERE id = 0; PREPARE TRANSACTION 'one'},
			q{BEGIN; INSERT INTO prepared VALUES (2, 'two'); PREPARE TRANSACTION 'two'},
			q{INSERT INTO prepared VALUES (3, 'three')},
			q{COMMIT PREPARED 'one'},
			q{ROLLBACK PREPARED 'two'},
		],
	},
);

# A list of shapes, as bytes for psql.
sub all
{
	return map { _bytes($_) } _kinds(), _widest(), @SHAPES;
}

sub _bytes
{
	my ($value) = @_;
	return { map { $_ => _bytes($value->{$_}) } keys %$value } if ref $value eq 'HASH';
	return [ map { _bytes($_) } @$value ] if ref $value eq 'ARRAY';
	return ref $value ? $value : encode_utf8($value);
}

1;
