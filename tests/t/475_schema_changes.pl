# Tables that change under load, one region after the other, in either order: what the other tests of shapes (462, 437) do
# not have.  Nothing is lost, nothing is stored otherwise than at its origin, and what differs is said.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my @TABLES = qw(waited rounded strict short unique_here checked parts renamed_here dropped_here rekeyed widekey timed);

$mesh->sql_all(<<'END');
CREATE TABLE waited (id int PRIMARY KEY, v int);
CREATE TABLE rounded (id int PRIMARY KEY, v numeric(8, 2));
CREATE TABLE strict (id int PRIMARY KEY, v int);
CREATE TABLE short (id int PRIMARY KEY, v varchar(5));
CREATE TABLE unique_here (id int PRIMARY KEY, v int);
CREATE TABLE checked (id int PRIMARY KEY, v int);
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE renamed_here (id int PRIMARY KEY, v int);
CREATE TABLE dropped_here (id int PRIMARY KEY, v int);
CREATE TABLE rekeyed (id int PRIMARY KEY, part int NOT NULL, v int);
CREATE TABLE widekey (id int, part int, v int, PRIMARY KEY (id, part));
CREATE TABLE timed (id int PRIMARY KEY, t timestamp);
END
$mesh->class('shop');
$mesh->add_table($_, 'shop') for @TABLES;
$mesh->link('eu', 'us');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');

# A row that arrives while somebody changes its table waits for that, and is then stored in the table as it is by then.
sub arrives_during
{
	my ($name, $change, $row, $table, $columns) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $changing = $mesh->node('eu')->background_psql('postgres');
	$changing->query_safe("BEGIN; $change");
	$mesh->sql('us', $row);
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'relay' AND wait_event_type = 'Lock'}, 1, 30), "$name: the row waits");
	$changing->query_safe('COMMIT');
	$changing->quit;
	$mesh->sql('us', $change);
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and is as at its origin', [$table]);
	return;
}
$mesh->sql('us', 'INSERT INTO waited VALUES (1, 1); INSERT INTO rounded VALUES (1, 1.5)');
$mesh->settle_one('us', 'eu');
arrives_during('a column with a default', 'ALTER TABLE waited ADD COLUMN d int DEFAULT 7', 'INSERT INTO waited VALUES (2, 2)', 'waited');

# What this table is said to differ in, within 5 s; '' for nothing.
sub differs
{
	my ($table, $difference) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(
		defined $mesh->wait_value('eu', qq{SELECT coalesce(string_agg(difference, '; ' ORDER BY difference), '') FROM tide.schema_drift
			WHERE "table" = 'public.$table' AND blocking}, $difference, $difference ? 5 : 20),
		"$table: " . ($difference || 'nothing differs'));
	my $log = ($difference || 'takes the rows of region') =~ s/"/\\"/gr;
	ok(defined wait_until(sub { $mesh->relay('eu')->log_text =~ /table public\.$table .*\Q$log\E/s }, 5, 'the log'), '... also in the log');
	return;
}

# A row that is refused here, while other rows of its table flow; when the table is altered it comes by itself.
sub refused_until
{
	my ($table, $rows, $code, $change) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$mesh->sql('us', "INSERT INTO $table VALUES $rows");
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', "SELECT string_agg(code, ' ') FROM tide.pending_changes WHERE \"table\" LIKE '%$table'"), $code, "$table: a row is refused");
	$mesh->sql('eu', $change);
	ok(defined $mesh->wait_value('eu', "SELECT count(*) FROM tide.parked_change WHERE table_name = '$table'", 0, 20), '... and comes by itself');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... as it is', [$table]);
	return;
}
$mesh->sql('eu', 'ALTER TABLE strict ALTER v SET NOT NULL');
differs('strict', 'column "v" is NOT NULL here, may be null there');
refused_until('strict', '(1, NULL), (2, 2)', '23502', 'ALTER TABLE strict ALTER v DROP NOT NULL');
differs('strict', '');
$mesh->sql('us', 'ALTER TABLE short ALTER v TYPE text');
differs('short', 'column "v" is character varying(5) here, text there');
refused_until('short', q{(1, 'much longer'), (2, 'a')}, '22001', 'ALTER TABLE short ALTER v TYPE text');
differs('short', '');
$mesh->sql('eu', 'CREATE UNIQUE INDEX only_here ON unique_here (v)');
refused_until('unique_here', '(1, 1), (2, 1)', '23505', 'DROP INDEX only_here');
$mesh->sql('eu', 'ALTER TABLE checked ADD CONSTRAINT positive CHECK (v > 0)');
refused_until('checked', '(1, -1), (2, 1)', '23514', 'ALTER TABLE checked DROP CONSTRAINT positive');
$mesh->sql('us', 'CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200)');
refused_until('parts', '(1), (101)', '23514', 'CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200)');
$mesh->sql('us', 'CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (200) TO (300)');
refused_until('parts', '(2), (201)', '23514',
	'CREATE TABLE parts_3 (id int PRIMARY KEY); ALTER TABLE parts_3 ADD COLUMN tide_stamp tide.stamp; ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM (200) TO (300)');

# Names.  A table that is gone here, or is called otherwise, while the origin has it still.
sub comes_back
{
	my ($table, @changes) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$mesh->sql($_->[0], $_->[1]) for @changes;
	differs($table, '');
	my ($now) = $mesh->sql('us', "SELECT table_name FROM tide.table_version WHERE relid IS NOT NULL AND table_name LIKE '$table%'");
	ok(defined $mesh->wait_value('eu', "SELECT state FROM tide.link_table WHERE table_name = '$now'", 'copied', 30), "$now: copied again");
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... nothing is lost', [$now]);
	return;
}
$mesh->sql('us', "INSERT INTO $_ VALUES (1, 1), (2, 2)") for qw(renamed_here dropped_here);
$mesh->settle_one('us', 'eu');
$mesh->sql('eu', 'ALTER TABLE renamed_here RENAME TO renamed_here_too; DROP TABLE dropped_here');
differs($_, 'the table is missing here') for qw(renamed_here dropped_here);
is($mesh->link_row('eu', 'us')->{drifted}, 2, 'tide.links counts them');
$mesh->sql('us', "INSERT INTO $_ VALUES (3, 3); DELETE FROM $_ WHERE id = 1") for qw(renamed_here dropped_here);
$mesh->settle_one('us', 'eu');
comes_back('renamed_here', [ us => 'ALTER TABLE renamed_here RENAME TO renamed_here_too; INSERT INTO renamed_here_too VALUES (4, 4)' ]);
comes_back('dropped_here', [ eu => q{CREATE TABLE dropped_here (id int PRIMARY KEY, v int); SELECT tide.table_add('dropped_here', 'shop')} ]);
$mesh->sql('eu', 'DROP TABLE dropped_here');
differs('dropped_here', 'the table is missing here');
$mesh->sql('us', 'DROP TABLE dropped_here');
differs('dropped_here', '');

# Another key: here first, so that what waits knows its rows by a key that both have left behind when it is applied.
sub rekey
{
	my ($side, $table, $key) = @_;
	return $mesh->sql($side, "BEGIN; ALTER TABLE $table DROP CONSTRAINT ${table}_pkey; ALTER TABLE $table ADD PRIMARY KEY ($key); COMMIT");
}

sub agrees_again
{
	my ($table) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(defined $mesh->wait_value('eu', "SELECT count(*) FROM tide.parked_change WHERE table_name = '$table'", 0, 20), "$table: what waited is applied by itself");
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... nothing is lost', [$table]);
	differs($table, '');
	return;
}
$mesh->sql('us', 'INSERT INTO rekeyed SELECT n, n, n FROM generate_series(1, 9) n; INSERT INTO widekey SELECT n, n, n FROM generate_series(1, 9) n');
$mesh->settle_one('us', 'eu');
rekey('eu', 'rekeyed', 'id, part');
differs('rekeyed', 'the key is ["id", "part"] here, ["id"] there');
$mesh->sql('us', <<'END');
UPDATE rekeyed SET v = 100 WHERE id = 1;
UPDATE rekeyed SET part = 200 WHERE id = 2;
UPDATE rekeyed SET id = 300, part = 30 WHERE id = 3;
DELETE FROM rekeyed WHERE id = 4;
DELETE FROM rekeyed WHERE id = 5;
INSERT INTO rekeyed VALUES (5, 500, 5), (6000, 6, 6);
END
$mesh->settle_one('us', 'eu');
rekey('us', 'rekeyed', 'id, part');
$mesh->sql('us', 'INSERT INTO rekeyed VALUES (1, 1000, 1); UPDATE rekeyed SET part = 70 WHERE id = 7; DELETE FROM rekeyed WHERE id = 8');
agrees_again('rekeyed');
# What are two rows there would be one here.
rekey('eu', 'widekey', 'id');
differs('widekey', 'the key is ["id"] here, ["id", "part"] there');
$mesh->sql('us', 'INSERT INTO widekey VALUES (1, 10, 10); UPDATE widekey SET part = 20 WHERE id = 2; DELETE FROM widekey WHERE id = 3');
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', 'SELECT count(*), sum(v) FROM widekey'), '9|45', 'a key with less columns here: the table waits');
rekey('eu', 'widekey', 'id, part');
agrees_again('widekey');

# What a statement means depends on settings: elsewhere it runs with those that it ran with here.
$mesh->sql('us', q{INSERT INTO timed VALUES (1, '2026-01-02 12:00')});
$mesh->sql('us', <<'END');
SET TimeZone = 'America/New_York';
SET DateStyle = 'SQL, DMY';
SELECT tide.ddl('ALTER TABLE timed ALTER t TYPE timestamptz, ADD COLUMN d date DEFAULT ''01/02/2026''');
END
$mesh->settle_one('us', 'eu');
$mesh->same_tables('a statement means the same everywhere', ['timed']);
is($mesh->sql('eu', q{SELECT t AT TIME ZONE 'UTC', d FROM timed}), '2026-01-02 17:00:00|2026-02-01', '... as it did where it was made');

is($mesh->sql('eu', 'SELECT count(*) FROM tide.pending_changes'), 0, 'nothing is left');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
