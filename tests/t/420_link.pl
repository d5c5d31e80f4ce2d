# A direct link: rows arrive within a second and go on arriving, whatever is stopped; slots, options, new tables, removal.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

use PgTide::Mesh;
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my $SHOWN = q{SELECT coalesce(string_agg(id || '=' || coalesce(v, 'NULL'), ' ' ORDER BY id), '') FROM %s};

sub slot
{
	return $mesh->sql('us', q{SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'tide_link_eu%'});
}

# Seconds until eu has what was just written in us; the rows of a table as "id=v id=v".
sub arrives
{
	my ($sql, $table, $wanted) = @_;
	$mesh->sql('us', $sql);
	my $took = $mesh->wait_value('eu', sprintf($SHOWN, $table), $wanted, 10);
	ok(defined $took && $took < 1, sprintf '%s: within a second (%.3f s)', $sql, $took // -1);
	return;
}

sub test_changes
{
	$mesh->sql_all('CREATE TABLE things (id int PRIMARY KEY, v text); CREATE TABLE own (id int PRIMARY KEY, v text)');
	$mesh->class('shop');
	$mesh->add_table($_, 'shop') for qw(things own);
	$mesh->link_all;
	$mesh->start_relays;
	ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
	arrives(q{INSERT INTO things VALUES (1, 'one'), (2, 'two'), (3, NULL)}, 'things', '1=one 2=two 3=NULL');
	arrives(q{UPDATE things SET v = 'three' WHERE id = 3}, 'things', '1=one 2=two 3=three');
	arrives(q{UPDATE things SET id = 20 WHERE id = 2}, 'things', '1=one 3=three 20=two');
	arrives(q{DELETE FROM things WHERE id = 1}, 'things', '3=three 20=two');
	$mesh->sql('eu', q{INSERT INTO own VALUES (7, 'of eu')});
	$mesh->settle;
	is($mesh->sql('us', sprintf $SHOWN, 'own'), '7=of eu', 'the other way, too');
	$mesh->same_tables('both regions hold the same', [qw(things own)]);
	return;
}

# What is confirmed moves although nothing of ours is written, and lag is seen.
sub test_idle
{
	my $lsn = $mesh->sql('us', 'SELECT pg_current_wal_lsn()');
	ok(defined $mesh->wait_value('us', "SELECT bool_and(confirmed_flush_lsn >= '$lsn') FROM pg_replication_slots", 't', 10),
		'an idle slot is confirmed');
	my $relay = $mesh->relay('eu');
	ok(defined wait_until(sub { my $lag = $relay->metric('pg_tide_row_lag_seconds', qr/link:us-east/); defined $lag && $lag > 0 && $lag < 1 }, 10, 'the lag'),
		'/metrics has the lag, and it is small');
	cmp_ok($relay->metric('pg_tide_rows_applied_total', qr/link:us-east/), '>=', 6, '... what was applied');
	cmp_ok($relay->metric('pg_tide_row_transactions_total', qr/link:us-east/), '>=', 4, '... in how many transactions');
	cmp_ok($relay->metric('pg_tide_row_bytes_wire_total', qr/link:us-east/), '>', 100, '... how many bytes came');
	ok(defined $relay->metric('pg_tide_slot_retained_bytes', qr/link:us-east/), '... and what the slot keeps');
	ok(!defined $relay->metric('pg_tide_events_read_total', qr/link:us-east/), '... and nothing of events');
	return;
}

# Stopped, killed, and its server restarted, while rows are written.
sub test_restarts
{
	my $n = 100;
	for my $how (
		[ 'stopped' => sub { is($_[0]->stop, 0, 'a relay ends with status 0'); } ],
		[ 'killed' => sub { $_[0]->kill9; } ])
	{
		my ($what, $end) = @$how;
		$mesh->sql('us', "INSERT INTO things SELECT n, 'before' FROM generate_series($n + 1, $n + 50) n");
		$end->($mesh->relay('eu'));
		$mesh->sql('us', "UPDATE things SET v = '$what' WHERE id > $n; DELETE FROM things WHERE id = $n + 7");
		$mesh->start_relay('eu');
		$mesh->settle_one('us', 'eu');
		$mesh->same_tables("$what and started again: equal", ['things']);
		$n += 100;
	}
	for my $side (qw(us eu))
	{
		$mesh->sql('us', "INSERT INTO things SELECT n, 'before' FROM generate_series($n + 1, $n + 50) n");
		$mesh->node($side)->restart('immediate');
		$mesh->sql('us', "UPDATE things SET v = 'restarted' WHERE id > $n");
		$mesh->settle("rows flow after the server of $side was killed");
		$mesh->same_tables('... and are equal', ['things']);
		$n += 100;
	}
	$mesh->nothing_special('nothing was parked, nothing copied again');
	return;
}

# Another relay takes over from one that is stopped in the middle, and gets the slot from it.
sub test_takeover
{
	my $spare = PgTide::Relay->new(name => 'spare', conninfo => $mesh->node('eu')->relay_conninfo);
	$spare->start;
	$mesh->relay('eu')->freeze;
	my $start = time;
	$mesh->sql('us', q{INSERT INTO things VALUES (5000, 'taken over')});
	$mesh->settle_one('us', 'eu', 30);
	my $took = time - $start;
	cmp_ok($took, '<', 10, sprintf 'a frozen relay\'s slot is taken over (%.1f s)', $took);
	$mesh->relay('eu')->thaw;
	$mesh->sql('us', q{UPDATE things SET v = 'and on' WHERE id = 5000});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('the one that wakes up does no harm', ['things']);
	is($spare->stop, 0, 'the spare ends');
	$mesh->sql('us', q{INSERT INTO things VALUES (5001, 'x')});
	$mesh->settle_one('us', 'eu', 30);
	return;
}

# Frames of another size, compressed: each is one more than the one before.
sub test_options
{
	my $before = $mesh->sql('us', 'SELECT count(*) FROM things');
	$mesh->relink('eu', 'us', max_frame => 65536, compression => 5);
	$mesh->sql('us', q{INSERT INTO things SELECT n, repeat('x', 1000) FROM generate_series(10001, 11000) n});
	$mesh->sql('us', q{UPDATE things SET v = v || 'y' WHERE id = 10500; INSERT INTO things VALUES (10000, 'behind')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT count(*) FROM things'), $before + 1001, 'a transaction in parts, compressed');
	$mesh->same_tables('... is the same', ['things']);
	my $relay = $mesh->relay('eu');
	cmp_ok($relay->metric('pg_tide_row_bytes_wire_total', qr/link:us-east/), '<',
		$relay->metric('pg_tide_row_bytes_raw_total', qr/link:us-east/) / 3, '... and is seen to be smaller');
	$mesh->relink('eu', 'us');
	return;
}

# A table on both sides, on one side first, or taken away and added again.
sub test_new_tables
{
	$mesh->sql_all('CREATE TABLE later (id int PRIMARY KEY, v text); CREATE TABLE log (id int, v text)');
	$mesh->sql('us', q{INSERT INTO later VALUES (1, 'old')});
	$mesh->add_table_at('eu', 'later', 'shop');
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT count(*) FROM later'), 0, 'added here and not published there: waits');
	$mesh->add_table_at('us', 'later', 'shop');
	$mesh->sql('us', q{INSERT INTO later VALUES (2, 'new')});
	ok(defined $mesh->wait_value('eu', sprintf($SHOWN, 'later'), '1=old 2=new', 15), 'published: copied, and streamed');
	$mesh->add_table_at('us', 'log', 'shop', { insert_only => JSON::PP::true() });
	$mesh->sql('us', q{INSERT INTO log VALUES (1, 'old')});
	$mesh->add_table_at('eu', 'log', 'shop', { insert_only => JSON::PP::true() });
	ok(defined $mesh->wait_value('eu', sprintf($SHOWN, 'log'), '1=old', 15), 'published there and added here later: copied');
	$mesh->sql('us', q{INSERT INTO log VALUES (2, 'new'); UPDATE log SET v = 'no' WHERE id = 1});
	ok(defined $mesh->wait_value('eu', sprintf($SHOWN, 'log'), '1=old 2=new', 15), '... inserts only');
	$mesh->sql('eu', q{SELECT tide.table_remove('later')});
	$mesh->sql('us', q{INSERT INTO later VALUES (3, 'unseen'); INSERT INTO things VALUES (6000, 'seen')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', sprintf $SHOWN, 'later'), '1=old 2=new', 'removed here: it gets no more');
	$mesh->same_tables('... the others do', ['things']);
	$mesh->add_table_at('eu', 'later', 'shop');
	ok(defined $mesh->wait_value('eu', sprintf($SHOWN, 'later'), '1=old 2=new 3=unseen', 15), 'added again: copied again');
	return;
}

# A link whose origin can't be reached says so, and disturbs nobody.
sub test_unreachable
{
	$mesh->sql('eu', q{SELECT tide.region_add('nowhere', 'host=127.0.0.1 port=1 user=relay dbname=x'), tide.link_add('nowhere')});
	ok(defined $mesh->wait_value('eu', q{SELECT coalesce(last_error, '') FROM tide.links WHERE region = 'nowhere'}, qr/"nowhere".*port 1\b/s),
		'an origin that is not there: the link says so, with its name');
	arrives(q{INSERT INTO own VALUES (70, 'x')}, 'own WHERE id = 70', '70=x');
	$mesh->sql('eu', q{SELECT tide.link_remove('nowhere', force => true)});
	return;
}

# Paused, a link keeps its place; removed, it leaves nothing behind.
sub test_pause_and_remove
{
	$mesh->sql('eu', q{SELECT tide.link_pause('us-east')});
	ok(defined $mesh->wait_value('eu', q{SELECT state FROM tide.links WHERE region = 'us-east'}, 'paused'), 'paused');
	ok(defined $mesh->wait_value('us', sprintf(q{SELECT active FROM pg_replication_slots WHERE slot_name = '%s'}, slot()), 'f'), '... the slot is idle');
	$mesh->sql('us', q{INSERT INTO things VALUES (7000, 'meanwhile')});
	$mesh->sql('eu', q{SELECT tide.link_resume('us-east')});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('resumed: nothing is missing', ['things']);
	$mesh->unlink('eu', 'us');
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM tide.link WHERE region = 'us-east'}, 0, 10), 'removed');
	is(slot(), '', '... the slot, too');
	is($mesh->sql('eu', q{SELECT count(*) FROM tide.pipeline WHERE name = 'link:us-east'}), 0, '... and the pipeline');
	unlike($mesh->relay('eu')->log_text, qr/could not be looked after/, '... without trouble');
	$mesh->link('eu', 'us');
	ok(defined $mesh->wait_copied('eu', 'us'), 'made again: copies again');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and is equal', [qw(things own later)]);
	return;
}

# Somebody drops a publication against its guard, which pg_tide makes again: what was decoded in between can't be had.
sub test_publication_lost
{
	$mesh->sql('us', 'SET session_replication_role = replica; DROP PUBLICATION tide_global');
	$mesh->sql('us', q{INSERT INTO things VALUES (8000, 'unpublished')});
	$mesh->sql('us', q{SELECT tide.table_add(t, 'shop') FROM unnest('{things,own,later}'::regclass[]) t});
	$mesh->sql('us', q{INSERT INTO things VALUES (8001, 'published')});
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM things WHERE id IN (8000, 8001)', 2, 30), 'a publication made again: nothing is missing');
	$mesh->same_tables('... and all is equal', [qw(things own later)]);
	return;
}

test_changes();
test_idle();
test_restarts();
test_takeover();
test_options();
test_new_tables();
test_unreachable();
test_pause_and_remove();
test_publication_lost();
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
