# Rows that a region wrote itself and may not keep: they are handed over to a region that may have them, and gone here only then.
# Keys of every kind, values out of line, partitions, locks, kills; a region that comes later still gets every row.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::RowKills;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)]);
my %REGION = map { $_ => $mesh->sql($_, 'SELECT tide.region_name()') } $mesh->sides;

# What a query gives in us and eu, in the end.
sub in_the_end
{
	my ($query, $us, $eu, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $ok = defined $mesh->wait_value('us', $query, $us, 60) && defined $mesh->wait_value('eu', $query, $eu, 60);
	return ok($ok, $name) || $mesh->show_links;
}

sub own
{
	my ($side, $table) = @_;
	return $mesh->sql($side, sprintf q{SELECT rows_against, rows_own FROM tide.residency_audit() WHERE "table" = 'public.' || %s AND rows_own IS NOT NULL},
		PgTide::Duo::literal($table));
}

my $BIG = q{(SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, 100) k)};	# out of line

$mesh->sql_all(<<'END');
CREATE TYPE kind AS ENUM ('large', 'small');
CREATE EXTENSION citext;
CREATE DOMAIN code AS text CHECK (VALUE <> 'never');
CREATE TABLE item (id int PRIMARY KEY, region text NOT NULL, v text, big text, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE keyed (k kind, c citext, d code, n numeric, at timestamptz, "odd "" name" text, region text NOT NULL,
	PRIMARY KEY (k, c, d, n, at, "odd "" name"));
CREATE TABLE part (id int, region text NOT NULL, day int, v text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE part_1 (day int, v text, region text NOT NULL, id int, PRIMARY KEY (day, id));
ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
CREATE TABLE line (at int NOT NULL, region text NOT NULL);
CREATE TABLE hidden (id int PRIMARY KEY, region text NOT NULL, secret text);
CREATE TABLE fixed (id int PRIMARY KEY, region text NOT NULL);
CREATE TABLE late (id int PRIMARY KEY, region text NOT NULL);
CREATE TABLE seen (id int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (coalesce(new.id, old.id)); RETURN coalesce(new, old); END $$;
CREATE TRIGGER note BEFORE UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION note();
END
$mesh->class('moved', residency => { column => 'region', regions => { $REGION{ap} => JSON::PP::true } });
$mesh->class('secret', residency => { regions => { $REGION{us} => "region = '$REGION{us}'", $REGION{eu} => { without => ['secret'] } } });
$mesh->class('primary', scope => 'primary', primary => $REGION{us}, residency => { column => 'region' });
$mesh->class('free');
$mesh->add_table($_, 'moved') for qw(item keyed part);
$mesh->add_table('line', 'moved', { insert_only => JSON::PP::true });
$mesh->add_table('hidden', 'secret');
$mesh->add_table('fixed', 'primary');
$mesh->add_table('late', 'free');
$mesh->link(@$_) for [ 'us', 'eu' ], [ 'eu', 'us' ];
$mesh->start_relay($_) for qw(us eu);
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for [ 'us', 'eu' ], [ 'eu', 'us' ];

# ---- two regions ----

$mesh->sql('us', <<"END");
INSERT INTO item SELECT n, (ARRAY['$REGION{us}', '$REGION{eu}'])[n % 2 + 1], 'v' || n, $BIG FROM generate_series(1, 100) n;
INSERT INTO keyed SELECT (ARRAY['large', 'small'])[n % 2 + 1]::kind, 'C' || n, 'd', n / 10.0, '2026-01-01 00:00:00.123456+03'::timestamptz + n * interval '1 s',
	'a "b" \\ ' || n, (ARRAY['$REGION{us}', '$REGION{eu}'])[n % 2 + 1] FROM generate_series(1, 40) n;
INSERT INTO part SELECT n, (ARRAY['$REGION{us}', '$REGION{eu}'])[n % 2 + 1], n % 20, 'p' FROM generate_series(1, 40) n;
INSERT INTO line SELECT n, (ARRAY['$REGION{us}', '$REGION{eu}'])[n % 2 + 1] FROM generate_series(1, 10) n;
INSERT INTO hidden VALUES (1, '$REGION{us}', 's'), (2, '$REGION{eu}', 's');
INSERT INTO fixed VALUES (1, '$REGION{us}'), (2, '$REGION{eu}');
INSERT INTO item VALUES (1000, 'mars', 'nobody''s');
END
in_the_end(q{SELECT count(*), string_agg(DISTINCT region, ' ' ORDER BY region) FROM item}, "51|mars $REGION{us}", "50|$REGION{eu}", 'rows go where they may be');
in_the_end('SELECT count(*) FROM keyed', 20, 20, '... by keys of many types');
in_the_end('SELECT count(*) FROM part', 20, 20, '... of partitions');
is($mesh->sql('eu', qq{SELECT count(*) FROM item WHERE big = (SELECT string_agg(md5(id::text || k), '') FROM generate_series(1, 100) k) AND v = 'v' || id AND twice = id * 2}),
	50, '... with every value');
is($mesh->sql('eu', q{SELECT string_agg(DISTINCT tide.stamp_region(tide_stamp), ' ') FROM item}), $REGION{eu}, '... and are rows of that region');
is($mesh->sql($_, 'SELECT count(*) FROM seen'), 0, "... and no trigger has seen it in $_") for qw(us eu);
is($mesh->sql('us', q{SELECT count(*) FROM item WHERE region = 'mars'}), 1, 'a row that nobody may have stays');
is(own('us', 'item'), '1|1', '... and the audit counts it');
is($mesh->sql('us', 'SELECT count(*) FROM tide.residency_leaving WHERE relid = $$item$$::regclass'), 1, '... and is noted');
in_the_end('SELECT count(*) FROM line', 10, 5, 'what is only inserted stays where it was written');
in_the_end('SELECT count(*), count(secret) FROM hidden', '2|2', '2|0', 'a row stays if the other region may not have all of it');
is(own('us', 'hidden'), '1|1', '... and is counted');
in_the_end('SELECT count(*) FROM fixed', 2, 1, 'rows of a primary region stay');
is(own('us', 'fixed'), '0|0', '... as they may');

# ---- the row goes on as one of the other region ----

$mesh->sql('eu', q{UPDATE item SET v = 'by eu' WHERE id < 10});
$mesh->sql('eu', qq{UPDATE item SET region = '$REGION{us}' WHERE id = 1});
in_the_end(q{SELECT count(*) FILTER (WHERE id = 1 AND v = 'by eu' AND big IS NOT NULL), count(*) FILTER (WHERE id = 3) FROM item}, '1|0', '0|1',
	'a row that comes back comes whole, and is gone where it was');
$mesh->sql('us', qq{UPDATE item SET region = '$REGION{eu}', v = 'there again' WHERE id = 1});
in_the_end(q{SELECT count(*), min(v) FROM item WHERE id = 1}, '0|', '1|there again', '... and goes again');

# ---- a row that is in use ----

{
	my $user = $mesh->node('us')->background_psql('postgres');
	$mesh->sql('us', qq{INSERT INTO item VALUES (2000, '$REGION{us}', 'mine'), (2001, '$REGION{us}', 'mine')});
	$user->query_safe("BEGIN; UPDATE item SET region = '$REGION{eu}' WHERE id = 2001; COMMIT; BEGIN; SELECT FROM item WHERE id = 2001 FOR UPDATE");
	$mesh->sql('us', qq{UPDATE item SET region = '$REGION{eu}' WHERE id = 2000});
	in_the_end('SELECT count(*) FROM item WHERE id IN (2000, 2001)', 1, 2, 'a row that somebody has locked holds nobody up');
	$user->query_safe("UPDATE item SET v = 'changed' WHERE id = 2001; COMMIT");
	$user->quit;
	in_the_end(q{SELECT count(*), min(v) FILTER (WHERE id = 2001) FROM item WHERE id IN (2000, 2001)}, '0|', '2|changed', '... and goes with its last change');
}

# ---- a region that comes later, to a row that nobody who wrote it has ----

$mesh->link('ap', $_), $mesh->link($_, 'ap') for qw(us eu);
$mesh->start_relay('ap');
ok(defined $mesh->wait_streaming('ap', $_), "ap takes rows from $_") for qw(us eu);
my $whole = qq{SELECT count(*), count(*) FILTER (WHERE big = (SELECT string_agg(md5(id::text || k), '') FROM generate_series(1, 100) k)), min(v) FILTER (WHERE id = 1) FROM item};
ok(defined $mesh->wait_value('ap', $whole, '103|100|there again'), 'ap has every row') or $mesh->show_links;
is($mesh->sql('ap', 'SELECT count(*) FROM part'), 40, '... of partitions');
ok(defined $mesh->wait_value('us', q{SELECT count(*) FROM item WHERE region = 'mars'}, 0), 'a row that nobody might have goes to who may have all');
is(own('us', 'item'), '0|0', '... and is not counted any more');

# ---- killed at any time ----

{
	for my $round (1 .. 8)
	{
		$mesh->sql('us', sprintf q{INSERT INTO item SELECT n, '%s', 'k' || n FROM generate_series(%d, %d) n}, $REGION{eu}, 10000 + $round * 1000, 10999 + $round * 1000);
		$mesh->sql('us', sprintf q{UPDATE item SET v = 'u' || id WHERE id %% 7 = %d AND id >= 10000}, $round % 7);
		wait_until(sub { $mesh->sql('us', 'SELECT count(*) FROM item WHERE id >= 10000') < 1000 * (rand() + 0.2) }, 20, 'some to be gone') if $round % 2;
		my $side = (qw(eu ap us))[ $round % 3 ];
		$round % 4 == 3 ? PgTide::RowKills::kill_server($mesh, $side) : PgTide::RowKills::kill_relay($mesh, $side);
	}
	my $sum = q{SELECT count(*), sum(id) FROM item WHERE id >= 10000};
	in_the_end($sum, '0|', '8000|' . 8000 * (11000 + 18999) / 2, 'killed: no row is lost, none is left');
	ok(defined $mesh->wait_value('ap', $sum, $mesh->sql('eu', $sum)), '... in the region that may have all, too');
	ok(defined $mesh->wait_value('us', 'SELECT count(*) FROM tide.residency_leaving WHERE relid = $$item$$::regclass', 0), '... and nothing is noted any more');
	$mesh->settle;
	$mesh->sql('ap', qq{DELETE FROM item WHERE region <> '$REGION{eu}'});
	$mesh->settle;
	$mesh->same_tables('... and both have the same', ['item'], sides => [qw(eu ap)]);
}

# ---- rows that were there before the class had residency ----

$mesh->sql('us', qq{INSERT INTO late SELECT n, (ARRAY['$REGION{us}', '$REGION{eu}'])[n % 2 + 1] FROM generate_series(1, 2000) n});
$mesh->settle;
my $rule = PgTide::Duo::jsonb({ residency => { column => 'region' } });
like($mesh->sql('us', "SELECT string_agg(change, ' ') FROM tide.class_alter('free', $rule, dry_run => true)"),
	qr/1000 rows written here are removed here as other regions have them/, 'a dry run says what goes');
$mesh->sql($_, "SELECT tide.class_alter('free', $rule)") for $mesh->sides;
in_the_end('SELECT count(*), count(DISTINCT region) FROM late', '1000|1', '1000|1', 'rows of before go, too');
ok(defined $mesh->wait_value('ap', 'SELECT count(*) FROM late', 0), '... and are in no third region');
$mesh->sql($_, q{SELECT tide.class_alter('free', '{"residency": null}')}) for $mesh->sides;
is($mesh->sql('us', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'late'::regclass AND tgname = 'tide_leaving'}), 0, 'without residency nothing is noted');
ok(defined $mesh->wait_value($_, 'SELECT count(*), count(DISTINCT region) FROM late', '2000|2'), "... and $_ has every row") for $mesh->sides;
$mesh->settle;
$mesh->same_tables('... all the same', ['late']);

is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing is parked in $_") for $mesh->sides;
is_deeply($mesh->stop, { us => 0, eu => 0, ap => 0 }, 'the relays end with status 0');
done_testing();
