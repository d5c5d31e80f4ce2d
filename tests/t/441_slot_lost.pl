# The slot is gone: dropped, or invalidated, or taken.  It is said loudly and healed by copying again; never is anything
# silently left out.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(conf => "max_slot_wal_keep_size = 4MB\nmin_wal_size = 32MB\nmax_wal_size = 64MB\n");
my @TABLES = qw(things own);

$mesh->sql_all(q{CREATE TABLE things (id int PRIMARY KEY, v text); CREATE TABLE own (id int PRIMARY KEY, v text)});
$mesh->class('shop');
$mesh->add_table($_, 'shop') for @TABLES;
$mesh->sql('us', q{INSERT INTO things SELECT n, 'us ' || n FROM generate_series(1, 1000) n});
$mesh->sql('eu', q{INSERT INTO own SELECT n, 'eu ' || n FROM generate_series(1, 100) n});
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] has its first copy of $_->[1]") for $mesh->ways;
$mesh->settle;
$mesh->same_tables('equal at first', \@TABLES);

my $slot = $mesh->sql('us', 'SELECT slot_name FROM pg_replication_slots WHERE NOT temporary');
my $resyncs = 0;

# While nobody looks: what a resync has to find out all by itself.
sub change
{
	my ($n) = @_;
	$mesh->sql('us', <<~"END");
		INSERT INTO things SELECT 10000 * $n + i, 'new' FROM generate_series(1, 50) i;
		UPDATE things SET v = 'changed $n' WHERE id % 10 = $n;
		DELETE FROM things WHERE id % 10 = $n + 4;
		UPDATE things SET id = -id WHERE id = 10 * $n;
		END
	$mesh->sql('eu', "INSERT INTO own VALUES (1000 + $n, 'eu goes on')");
	return;
}

# The link is well again: counted, with its reason, in the log; and nothing is missing or left over.
sub healed
{
	my ($what, $reason) = @_;
	$resyncs++;
	ok(defined $mesh->wait_value('eu', 'SELECT resyncs FROM tide.link', $resyncs, 60), "$what: copied again");
	ok(defined $mesh->wait_copied('eu', 'us'), '... to the end');
	like($mesh->sql('eu', 'SELECT last_resync FROM tide.link'), $reason, '... for a reason that is written down');
	like($mesh->relay('eu')->log_text, $reason, '... and in the log');
	$mesh->settle;
	$mesh->same_tables('... and equal', \@TABLES);
	is($mesh->sql('us', 'SELECT resyncs FROM tide.link'), 0, '... the other direction was not disturbed');
	return;
}

sub test_dropped
{
	$mesh->relay('eu')->stop;
	change(1);
	$mesh->sql('us', "SELECT pg_drop_replication_slot('$slot')");
	change(2);
	$mesh->start_relay('eu');
	healed('the slot was dropped', qr/slot/i);
	return;
}

# Under a running relay: the connection of the stream is ended first, or it could not be dropped.
sub test_dropped_under_it
{
	change(3);
	wait_until(
		sub {
			my ($status) = $mesh->node('us')->psql('postgres',
				"SELECT pg_terminate_backend(active_pid, 1000), pg_drop_replication_slot('$slot') FROM pg_replication_slots WHERE slot_name = '$slot'"
			);
			return $status == 0;
		},
		30, 'the slot to be dropped');
	healed('the slot was dropped while it was in use', qr/slot/i);
	return;
}

# max_slot_wal_keep_size: the origin throws away what the slot still needs.
sub test_invalidated
{
	$mesh->relay('eu')->stop;
	change(4);
	$mesh->sql('us', 'CREATE TABLE IF NOT EXISTS filler (v text)');
	my $lost = wait_until(
		sub {
			$mesh->sql('us', q{INSERT INTO filler SELECT repeat(md5(i::text), 20) FROM generate_series(1, 20000) i});
			$mesh->sql('us', q{SELECT pg_switch_wal()});
			$mesh->sql('us', 'CHECKPOINT');
			return $mesh->sql('us', "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '$slot'") eq 'lost';
		},
		60,
		'the slot to be lost');
	ok(defined $lost, 'the slot is invalidated');
	$mesh->start_relay('eu');
	healed('the slot was invalidated', qr/slot/i);
	is($mesh->sql('us', 'SELECT count(*) FROM pg_replication_slots WHERE wal_status = \'lost\''), 0, '... the lost slot is gone');
	return;
}

# resync => manual: nothing happens by itself, and nothing starts later.
sub test_manual
{
	$mesh->link('eu', 'us', resync => 'manual');
	$mesh->settle('the link goes on with other options');
	$mesh->relay('eu')->stop;
	change(5);
	$mesh->sql('us', "SELECT pg_drop_replication_slot('$slot')");
	$mesh->start_relay('eu', wait => 0);
	ok(defined $mesh->wait_value('eu', q{SELECT state = 'error' AND last_error ~ 'slot' FROM tide.links}, 't'), 'resync => manual: the link has stopped, and says what is wrong');
	is($mesh->sql('eu', 'SELECT resyncs FROM tide.link'), $resyncs, '... nothing is copied');
	is($mesh->sql('us', "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '$slot' AND NOT temporary"), 0,
		'... and no slot is made that begins later');
	$mesh->sql('eu', sprintf q{SELECT tide.link_resync('%s')}, $PgTide::Mesh::REGION{us});
	healed('a person asked for it', qr/./);
	$mesh->link('eu', 'us');
	return;
}

# copy => false: there is no copy to be made again; the same holds.
sub test_without_copy
{
	$mesh->sql_all('CREATE TABLE later (id int PRIMARY KEY)');
	$mesh->unlink('eu', 'us');
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.link', 0), 'the link is removed');
	is($mesh->sql('us', 'SELECT count(*) FROM pg_replication_slots WHERE database IS NOT NULL'), '0', '... and its slot');
	$mesh->link('eu', 'us', copy => JSON::PP::false());
	ok(defined $mesh->wait_streaming('eu', 'us'), 'copy => false: streams at once');
	$mesh->sql('us', q{INSERT INTO things VALUES (77777, 'streamed')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT v FROM things WHERE id = 77777'), 'streamed', '... what is written from then on');
	$mesh->relay('eu')->stop;
	$mesh->sql('us', q{INSERT INTO things VALUES (77778, 'in between')});
	$mesh->sql('us', "SELECT pg_drop_replication_slot('$slot')");
	$mesh->start_relay('eu', wait => 0);
	ok(defined $mesh->wait_value('eu', q{SELECT last_error ~ 'slot' FROM tide.links}, 't'), '... a lost slot is an error');
	is($mesh->sql('us', 'SELECT count(*) FROM pg_replication_slots WHERE database IS NOT NULL'), 0, '... and none is made that begins later');
	$mesh->sql('eu', sprintf q{SELECT tide.link_resync('%s')}, $PgTide::Mesh::REGION{us});
	ok(defined $mesh->wait_streaming('eu', 'us'), '... until a person says what to do');
	$mesh->settle;
	$mesh->same_tables('... and equal', \@TABLES);
	return;
}

# Somebody else reads from it: the link waits and says so, and goes on when it can.
sub test_taken
{
	$mesh->relay('eu')->stop;
	my $thief = PgTide::Process->new(
		name    => 'thief',
		log     => "$ENV{TIDE_DATA}/thief.log",
		command => [
			'pg_recvlogical', '-d', $mesh->node('us')->connstr('postgres'), '--slot', $slot, '--start', '-f', '/dev/null',
			'-o', 'proto_version=1', '-o', 'publication_names=tide_global', '-F', 0, '-s', 3600
		])->start;
	ok(defined $mesh->wait_value('us', "SELECT active FROM pg_replication_slots WHERE slot_name = '$slot'", 't'), 'somebody else has the slot');
	$mesh->sql('us', q{INSERT INTO things VALUES (88888, 'x')});
	$mesh->start_relay('eu', wait => 0);
	ok(defined $mesh->wait_value('eu', q{SELECT coalesce(last_error ~ 'active', false) FROM tide.links}, 't'), '... the link says so');
	$thief->kill9;
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and goes on when it is free', \@TABLES);
	return;
}

test_dropped();
test_dropped_under_it();
test_invalidated();
test_manual();
test_taken();
test_without_copy();
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
