# Tables that differ between regions (F49, F50): the one table waits, within seconds, by name; others
# flow; when the shapes agree it goes on by itself, and nothing is lost.  The story of seed 002: a
# schema mismatch that nobody noticed for nine hours is noticed here within 5 s.
#
# Runs alone: a difference has to be seen within five seconds.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $LIMIT = 5;

my $mesh = PgTide::Mesh->new;
my @TABLES = qw(added dropped renamed back retyped widened required moods typed payment fine);

$mesh->sql_all(<<'END');
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE added (id int PRIMARY KEY, v text);
CREATE TABLE dropped (id int PRIMARY KEY, v text, gone int);
CREATE TABLE renamed (id int PRIMARY KEY, a text);
CREATE TABLE back (id int PRIMARY KEY, a text);
CREATE TABLE retyped (id int PRIMARY KEY, v int);
CREATE TABLE widened (id int PRIMARY KEY, v int);
CREATE TABLE required (id int PRIMARY KEY, v int);
CREATE TABLE moods (id int PRIMARY KEY, m mood);
CREATE TABLE typed (id int PRIMARY KEY);
CREATE TABLE payment (id int PRIMARY KEY, method text);
CREATE TABLE fine (id int PRIMARY KEY);
END
$mesh->class('shop');
$mesh->add_table($_, 'shop') for @TABLES;
$mesh->link('eu', 'us');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');
# Shapes are known before anything changes.
ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.link_shape', scalar @TABLES, 10), 'shapes are known');

my $n = 0;

# Rows of another table still come, soon.
sub others_flow
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$n++;
	$mesh->sql('us', "INSERT INTO fine VALUES ($n)");
	my $took = $mesh->wait_value('eu', "SELECT count(*) FROM fine WHERE id = $n", 1, $LIMIT);
	ok(defined $took, "$what: other tables flow");
	return;
}

# Does that, and is it said within the limit from its commit?
sub noticed
{
	my ($side, $sql, $table, $difference) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$mesh->sql($side, $sql);
	my $begun = time;
	my $seen = wait_until(
		sub {
			$mesh->sql('eu', sprintf
				q{SELECT coalesce(string_agg(difference, '; ' ORDER BY difference), '') FROM tide.schema_drift
				  WHERE "table" = 'public.%s' AND blocking AND since IS NOT NULL AND region = 'us-east'
				  AND EXISTS (SELECT FROM tide.link_drift k WHERE k.table_name = '%s')}, $table, $table) eq $difference
		},
		$LIMIT, "\"$difference\" in tide.schema_drift");
	my $took = time - $begun;
	ok(defined $seen && $took <= $LIMIT, sprintf('%s: %s (after %.1f s)', $table, $difference, $took));
	diag($mesh->sql('eu', 'SELECT * FROM tide.schema_drift')) unless defined $seen;
	return;
}

sub waits
{
	my ($table, $count) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($mesh->sql('eu', "SELECT DISTINCT waiting_changes FROM tide.schema_drift WHERE \"table\" = 'public.$table' AND blocking"),
		$count, "$table: $count changes wait");
	return;
}

# By itself.
sub resumes
{
	my ($side, $sql, @tables) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$mesh->sql($side, $sql) if $sql;
	my $list = join ', ', map { "'$_'" } @tables;
	ok(
		defined $mesh->wait_value('eu', "SELECT count(*) FROM tide.parked_change WHERE table_name IN ($list)", 0, 20),
		"@tables: what waited is applied by itself");
	ok(
		defined $mesh->wait_value('eu', "SELECT count(*) FROM tide.link_drift WHERE table_name IN ($list)", 0, 20),
		'... and nothing is said of them any more');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... nothing is lost', \@tables);
	return;
}

# Seed 002: nobody even writes, and it is known; then somebody changes a payment method.
noticed('us', 'ALTER TABLE payment ADD COLUMN expires date', 'payment', 'column "expires" (date) is missing here');
is($mesh->link_row('eu', 'us')->{drifted}, 1, 'tide.links counts it');
ok(
	defined wait_until(
		sub { ($mesh->relay('eu')->metric('pg_tide_link_tables_drifted', qr/link:us-east/) // 0) == 1 },
		5, 'the metric'),
	'... and so does the relay');
like($mesh->relay('eu')->log_text, qr/table public\.payment can't take all rows of region \\?"us-east\\?": column \\?"expires\\?" \(date\) is missing here/,
	'... and its log names it');
$mesh->sql('us', q{INSERT INTO payment (id, method, expires) VALUES (1, 'card', '2027-01-01'); UPDATE payment SET method = 'other' WHERE id = 1});
$mesh->settle_one('us', 'eu');
waits('payment', 2);
others_flow('a column more there');
resumes('eu', 'ALTER TABLE payment ADD COLUMN expires date', 'payment');

# Added and dropped: what another region has more is no obstacle.
$mesh->sql('eu', 'ALTER TABLE added ADD COLUMN more int');
$mesh->sql('us', q{INSERT INTO added VALUES (1, 'x')});
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', 'SELECT id, v, more FROM added'), '1|x|', 'a column more here: rows flow');
is($mesh->sql('eu', q{SELECT difference, blocking FROM tide.schema_drift WHERE "table" = 'public.added'}),
	'column "more" is here only|f', '... it is shown all the same');
$mesh->sql('us', 'ALTER TABLE added ADD COLUMN more int; INSERT INTO added (id, more) VALUES (2, 2)');
$mesh->settle_one('us', 'eu');
$mesh->same_tables('... and there now, too', ['added']);

$mesh->sql('us', q{INSERT INTO dropped VALUES (1, 'before', 1)});
$mesh->settle_one('us', 'eu');
noticed('eu', 'ALTER TABLE dropped DROP COLUMN gone', 'dropped', 'column "gone" (integer) is missing here');
$mesh->sql('us', q{INSERT INTO dropped VALUES (2, 'with', 2); UPDATE dropped SET v = 'changed' WHERE id = 1});
$mesh->settle_one('us', 'eu');
waits('dropped', 2);
others_flow('a column dropped here first');
resumes('us', 'ALTER TABLE dropped DROP COLUMN gone', 'dropped');

# Renamed, there first; and here first.
noticed('us', 'ALTER TABLE renamed RENAME COLUMN a TO b', 'renamed', 'column "b" (text) is missing here');
$mesh->sql('us', q{INSERT INTO renamed VALUES (1, 'one')});
$mesh->settle_one('us', 'eu');
others_flow('a column renamed there');
resumes('eu', 'ALTER TABLE renamed RENAME COLUMN a TO b', 'renamed');
noticed('eu', 'ALTER TABLE back RENAME COLUMN a TO b', 'back', 'column "a" (text) is missing here');
$mesh->sql('us', q{INSERT INTO back VALUES (1, 'one'), (2, 'two'); DELETE FROM back WHERE id = 2});
$mesh->settle_one('us', 'eu');
waits('back', 3);
resumes('us', 'ALTER TABLE back RENAME COLUMN a TO b', 'back');

# Another type: there first, while rows wait in both shapes; and here first, by a larger type.
noticed('us', 'ALTER TABLE retyped ALTER COLUMN v TYPE bigint', 'retyped', 'column "v" is integer here, bigint there');
$mesh->sql('us', 'INSERT INTO retyped VALUES (1, 5000000000)');
$mesh->settle_one('us', 'eu');
others_flow('another type there');
resumes('eu', 'ALTER TABLE retyped ALTER COLUMN v TYPE bigint', 'retyped');
$mesh->sql('eu', 'ALTER TABLE widened ALTER COLUMN v TYPE bigint');
$mesh->sql('us', 'INSERT INTO widened VALUES (1, 7)');
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', 'SELECT v FROM widened'), 7, 'a larger type here: rows flow');
$mesh->sql('us', 'ALTER TABLE widened ALTER COLUMN v TYPE bigint; UPDATE widened SET v = 5000000000');
$mesh->settle_one('us', 'eu');
$mesh->same_tables('... and there now, too', ['widened']);

# A column that must have a value, and gets none.
noticed('eu', 'ALTER TABLE required ADD COLUMN must int NOT NULL', 'required',
	'column "must" is NOT NULL without a default here, and is not sent');
$mesh->sql('us', 'INSERT INTO required VALUES (1, 1)');
$mesh->settle_one('us', 'eu');
others_flow('a column that must have a value here');
ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM tide.parked_change WHERE table_name = 'required'}, 1, 5), 'the row waits');
$mesh->sql('eu', 'ALTER TABLE required ALTER COLUMN must SET DEFAULT 3');
ok(defined $mesh->wait_value('eu', 'SELECT must FROM required WHERE id = 1', 3, 20), 'with a default it comes by itself');

# F50: types.  A value of an enum, a type, one of an extension.
noticed('us', q{ALTER TYPE mood ADD VALUE 'so so'}, 'moods', q{value 'so so' of type public.mood is missing here});
$mesh->sql('us', q{INSERT INTO moods VALUES (1, 'so so'), (2, 'sad')});
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', 'SELECT id, m FROM moods'), '2|sad', 'a value that is none here: only its row waits');
resumes('eu', q{ALTER TYPE mood ADD VALUE 'so so'}, 'moods');
noticed('us', q{CREATE TYPE pair AS (x int, y int); ALTER TABLE typed ADD COLUMN p pair},
	'typed', 'column "p" (public.pair) is missing here; type public.pair is missing here');
$mesh->sql('us', q{INSERT INTO typed (id, p) VALUES (1, '(1,2)')});
$mesh->settle_one('us', 'eu');
resumes('eu', q{CREATE TYPE pair AS (x int, y int); ALTER TABLE typed ADD COLUMN p pair}, 'typed');

# A backlog, and writes go on while it is worked off: order is kept.
$mesh->sql('us', 'ALTER TABLE added ADD COLUMN k int');
$mesh->sql('us', 'INSERT INTO added (id, more, k) SELECT n, n, n FROM generate_series(10, 5000) n');
$mesh->settle_one('us', 'eu');
my $writer = $mesh->node('us')->background_psql('postgres');
$writer->query_safe('UPDATE added SET k = k + 1 WHERE id % 3 = 0');
$mesh->sql('eu', 'ALTER TABLE added ADD COLUMN k int');
for my $round (1 .. 20)
{
	$writer->query_safe("UPDATE added SET k = k + $round WHERE id % 7 = 0");
	$writer->query_safe("DELETE FROM added WHERE id = 100 + $round");
}
$writer->quit;
resumes('eu', '', 'added');

is($mesh->sql('eu', 'SELECT count(*) FROM tide.pending_changes'), 0, 'nothing is left');
is($mesh->sql('eu', q{SELECT string_agg("table" || ': ' || difference, ' ') FROM tide.schema_drift}),
	'public.required: column "must" is here only', 'only what is meant differs');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
